"""Times of transcripts become integer milliseconds."""

from autorecap.stages.transcript_files.times import clock_to_ms, to_ms


def test_seconds_are_read_without_floats():
    assert [to_ms(text, unit_ms=1000) for text in ("1.1", "1.0")] == [1100, 1000]
    assert [to_ms(text, unit_ms=1000) for text in ("1.54", ".5", "1.", "-2", "1.0005", "1e3", "", "--1")] == [
        1540, 500, 1000, -2000, 1001, None, None, None,
    ]  # fmt: skip


def test_clock_times_have_optional_hours_and_any_decimal_sign():
    times = ("01:02.5", "1:02:03,004", "00:00:01.1999", "100:00:00", "1:2", "12", "1:02:03:04")
    assert [clock_to_ms(text) for text in times] == [62_500, 3_723_004, 1199, 360_000_000, 62_000, None, None]
