"""Ends of commands: an error that users can mend becomes one message and its exit code; any other is shown whole.

The exit codes are those of base/errors.py.
"""

import pytest
import typer

from autorecap.base.errors import BAD_USAGE, INTERRUPTED, REFUSED, ForeseenError, Refused
from autorecap.base.settings import SettingError
from autorecap.cli.errors import answered, settings_from_options


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (ForeseenError("no such folder"), "no such folder", BAD_USAGE),
        (Refused("made with other settings"), "made with other settings", REFUSED),
        (PermissionError(13, "Permission denied", "/x"), "/x: Permission denied", BAD_USAGE),
        (OSError("the store is gone"), "the store is gone", BAD_USAGE),
        (KeyboardInterrupt(), "interrupted: what is written stays", INTERRUPTED),
    ],
)
def test_what_users_can_mend_is_one_message_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, said: str, code: int
) -> None:
    with pytest.raises(typer.Exit) as ended, answered("interrupted: what is written stays"):
        raise error
    assert ended.value.exit_code == code
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"autorecap: {said}\nautorecap: exit code {code}\n")


def test_an_error_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), answered():
        raise ZeroDivisionError


def test_a_bad_setting_is_told_by_the_option_that_gave_it() -> None:
    with pytest.raises(ForeseenError, match=r"^--num-beams: expected 1 to 32, found 0$"), settings_from_options():
        raise SettingError("captions.num_beams", "expected 1 to 32, found 0")
