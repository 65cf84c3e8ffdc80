"""Whatever the player answers, what makes no sense in it counts as not said."""

import pytest

from autorecap.stages.youtube.player import parse_player


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"videoDetails": {"lengthSeconds": "20"}}, 20_000),
        ({"streamingData": {"adaptiveFormats": [{"approxDurationMs": "20250"}]}}, 20_250),
        ({"videoDetails": {"lengthSeconds": "-1"}}, None),
        ({"videoDetails": {"lengthSeconds": "9" * 15}}, None),
        ({"videoDetails": {"lengthSeconds": "9" * 5000}}, None),
        ({"videoDetails": [], "streamingData": {"adaptiveFormats": [None, 7, {"approxDurationMs": {}}]}}, None),
        ({"captions": {"playerCaptionsTracklistRenderer": {"captionTracks": [None, {"baseUrl": 7}]}}}, None),
        (None, None),
        ([], None),
    ],
)
def test_a_strange_answer_of_the_player_says_nothing_rather_than_break(answer, expected):
    meta = parse_player(answer)
    assert (meta.duration_ms, meta.tracks) == (expected, ())
