"""The settings that a dataset was made with: one hash, and what differs, in words."""

from autorecap.dataset.fingerprint import explain_difference


def test_a_difference_is_explained_setting_by_setting():
    text = explain_difference({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4})
    assert text == "  b: 2 -> 3\n  c: not set -> 4"
