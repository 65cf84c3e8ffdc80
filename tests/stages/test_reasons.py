"""Every reason has a code of its own and explains itself."""

from autorecap.stages.reasons import Reason


def test_every_reason_explains_itself_and_its_code_is_unique():
    assert len({reason.code for reason in Reason}) == len(Reason)
    for reason in Reason:
        assert reason.sentence.endswith(".") and reason.advice.endswith(".")
        assert Reason.of(reason.code) is reason
