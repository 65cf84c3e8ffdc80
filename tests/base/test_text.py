"""Text made fit to be shown: on one line, without codes for a terminal, and without passwords."""

from hypothesis import given
from hypothesis import strategies as st

from autorecap.base.text import clock, printable, redacted


def test_passwords_of_addresses_and_tokens_are_not_shown() -> None:
    assert redacted('{"egresses": ["http://me:s@cr@t@host:9", "b"]}') == '{"egresses": ["http://***@host:9", "b"]}'
    assert redacted("youtube:po_token=web.gvs+ABC;formats=x") == "youtube:po_token=***;formats=x"
    assert redacted("https://host/a@b") == "https://host/a@b"


@given(st.text(max_size=2_000))
def test_any_text_is_shown_on_one_line_and_no_longer_than_the_limit(text: str) -> None:
    shown = printable(text, 50)
    assert len(shown) <= 50 and len(shown.splitlines()) <= 1
    shown.encode()
    assert printable(shown, 50) == shown


def test_control_characters_become_blanks_and_a_cut_is_marked() -> None:
    assert printable("a\x1b[31m\r\nb\ud800c") == "a [31m b c"
    assert printable("x" * 9, 5) == "xxxx…"


def test_a_time_is_cut_and_not_rounded() -> None:
    assert clock(3_723_999) == "1:02:03.999"
    assert clock(59_999, digits=1) == "0:00:59.9"
