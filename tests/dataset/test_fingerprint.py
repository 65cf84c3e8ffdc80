"""The settings that a dataset was made with: one hash, and what differs, in words."""

from autorecap.dataset.fingerprint import explain_difference, fingerprint


def test_the_order_of_settings_does_not_count_and_every_value_does():
    assert fingerprint({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint({"b": {"d": 3, "c": 2}, "a": 1})
    assert len({fingerprint(settings) for settings in ({}, {"a": 1}, {"a": "1"}, {"a": {"b": 1}}, {"b": 1})}) == 5


def test_a_difference_is_explained_setting_by_setting():
    text = explain_difference({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4})
    assert text == "  b: 2 -> 3\n  c: not set -> 4"
