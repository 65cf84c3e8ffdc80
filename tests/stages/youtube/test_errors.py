"""Every failure of the two client libraries becomes one reason.

Such a failure is a stages/youtube/problem.py.
"""

import inspect
import io
import pickle
from pathlib import Path
from xml.etree.ElementTree import ParseError

import pytest
import requests
import youtube_transcript_api as api
from yt_dlp.networking import exceptions as networking
from yt_dlp.networking.common import Response
from yt_dlp.utils import (
    DownloadError,
    ExtractorError,
    GeoRestrictedError,
    RegexNotFoundError,
    UnsupportedError,
    UserNotLive,
    YoutubeDLError,
)

from autorecap.stages.reasons import Reason, Status
from autorecap.stages.youtube.budget import Parked
from autorecap.stages.youtube.errors import BY_CLASS, problem_of, reason_of_words
from autorecap.stages.youtube.problem import Problem

ID = "dQw4w9WgXcQ"
NO_SPEECH = {Reason.NO_TRANSCRIPT, Reason.NO_TRANSCRIPT_IN_LANGUAGE, Reason.EMPTY_TRANSCRIPT}


def http_error(status: int, words: str) -> requests.exceptions.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.exceptions.HTTPError(f"{status} {words} for url: https://www.youtube.com/watch", response=response)


OF_THE_API = {
    api.YouTubeTranscriptApiException("odd"): Reason.BAD_ANSWER,
    api.CouldNotRetrieveTranscript(ID): Reason.BAD_ANSWER,
    api.YouTubeDataUnparsable(ID): Reason.BAD_ANSWER,
    api.FailedToCreateConsentCookie(ID): Reason.BAD_ANSWER,
    api.YouTubeRequestFailed(ID, http_error(503, "Server Error")): Reason.NETWORK,
    api.VideoUnplayable(ID, "This video is private", []): Reason.PRIVATE,
    api.VideoUnplayable(ID, None, []): Reason.UNPLAYABLE,
    api.VideoUnavailable(ID): Reason.DELETED,
    api.InvalidVideoId(ID): Reason.DELETED,
    api.RequestBlocked(ID): Reason.BOT_CHECK,
    api.IpBlocked(ID): Reason.IP_BLOCKED,
    api.TranscriptsDisabled(ID): Reason.NO_TRANSCRIPT,
    api.NoTranscriptFound(ID, ["en"], "ja"): Reason.NO_TRANSCRIPT_IN_LANGUAGE,
    api.NotTranslatable(ID): Reason.NO_TRANSCRIPT_IN_LANGUAGE,
    api.TranslationLanguageNotAvailable(ID): Reason.NO_TRANSCRIPT_IN_LANGUAGE,
    api.AgeRestricted(ID): Reason.AGE_RESTRICTED,
    api.PoTokenRequired(ID): Reason.PO_TOKEN_REQUIRED,
    api.CookieError("odd"): Reason.BOT_CHECK,
    api.CookiePathInvalid(Path("cookies.txt")): Reason.BOT_CHECK,
    api.CookieInvalid(Path("cookies.txt")): Reason.BOT_CHECK,
}


def test_every_exception_of_youtube_transcript_api_is_covered_here():
    known = {kind for _, kind in inspect.getmembers(api, inspect.isclass) if issubclass(kind, Exception)}
    assert {type(error) for error in OF_THE_API} == known


@pytest.mark.parametrize("error", OF_THE_API, ids=lambda error: type(error).__name__)
def test_an_exception_of_youtube_transcript_api_has_its_reason(error):
    assert problem_of(error).reason is OF_THE_API[error]


OF_THE_NETWORK = [
    (requests.exceptions.ConnectTimeout("t"), Reason.TIMEOUT),
    (requests.exceptions.ReadTimeout("t"), Reason.TIMEOUT),
    (requests.exceptions.ConnectionError("reset"), Reason.NETWORK),
    (requests.exceptions.ProxyError("refused"), Reason.NETWORK),
    (requests.exceptions.SSLError("certificate"), Reason.NETWORK),
    (requests.exceptions.ChunkedEncodingError("cut off"), Reason.NETWORK),
    (requests.exceptions.TooManyRedirects("30"), Reason.NETWORK),
    (requests.exceptions.ContentDecodingError("gzip"), Reason.BAD_ANSWER),
    (requests.exceptions.JSONDecodeError("Expecting value", "", 0), Reason.BAD_ANSWER),
    (ParseError("no element found"), Reason.BAD_ANSWER),
    (KeyError("captionTracks"), Reason.BAD_ANSWER),
]


@pytest.mark.parametrize(("error", "reason"), OF_THE_NETWORK, ids=lambda each: type(each).__name__)
def test_errors_that_leak_from_requests_and_parsers_have_a_reason(error, reason):
    assert problem_of(error).reason is reason


def ytdlp_error(words: str, *, expected: bool = True, cause: Exception | None = None) -> DownloadError:
    """As yt-dlp raises it: the extractor's error within a DownloadError."""
    inner = ExtractorError(words, expected=expected, cause=cause, video_id=ID, ie="youtube")
    return DownloadError(f"ERROR: {inner}", (type(inner), inner, None))


SAID = [
    ("Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies.", Reason.BOT_CHECK),
    ("Sign in to confirm you're not a bot. This helps protect our community.", Reason.BOT_CHECK),
    ("HTTP Error 429: Too Many Requests", Reason.RATE_LIMITED),
    ("Video unavailable. This content isn't available, try again later. The current session has been rate-limited by "
     "YouTube for up to an hour.", Reason.RATE_LIMITED),
    ("This content isn’t available, try again later.", Reason.RATE_LIMITED),
    ("Our systems have detected unusual traffic from your computer network.", Reason.IP_BLOCKED),
    ("Private video. Sign in if you've been granted access to this video", Reason.PRIVATE),
    ("This video is private", Reason.PRIVATE),
    ("This video is unavailable", Reason.DELETED),
    ("Video unavailable", Reason.DELETED),
    ("This video is not available", Reason.DELETED),
    ("This video is no longer available due to a copyright claim by Somebody", Reason.DELETED),
    ("This video is no longer available because the YouTube account associated with this video has been terminated.",
     Reason.DELETED),
    ("This video has been removed by the uploader", Reason.DELETED),
    ("This video has been removed for violating YouTube's Community Guidelines", Reason.DELETED),
    ("Sign in to confirm your age. This video may be inappropriate for some users.", Reason.AGE_RESTRICTED),
    ("This video is age-restricted and only available on YouTube", Reason.AGE_RESTRICTED),
    ("The following content may contain suicide or self-harm topics. Viewer discretion is advised.",
     Reason.AGE_RESTRICTED),
    ("The following content has been identified by the YouTube community as inappropriate or offensive to some "
     "audiences.", Reason.AGE_RESTRICTED),
    ("The uploader has not made this video available in your country", Reason.GEO_BLOCKED),
    ("Video unavailable. This video contains content from Somebody, who has blocked it in your country on copyright "
     "grounds", Reason.GEO_BLOCKED),
    ("This video is not available from your location due to geo restriction", Reason.GEO_BLOCKED),
    ("Join this channel to get access to members-only content like this video, and other exclusive perks.",
     Reason.MEMBERS_ONLY),
    ("This video is available to this channel's members on level: Fan (or any higher level).", Reason.MEMBERS_ONLY),
    ("This video requires payment to watch", Reason.MEMBERS_ONLY),
    ("This video is only available to Music Premium members", Reason.MEMBERS_ONLY),
    ("This live event will begin in 2 days.", Reason.UPCOMING),
    ("Premieres in 3 hours", Reason.UPCOMING),
    ("We're processing this video. Check back later.", Reason.UPCOMING),
    ("This live stream recording is not available.", Reason.LIVE),
    ("The page needs to be reloaded.", Reason.BAD_ANSWER),
    ("An error occurred. Please try again later.", Reason.BAD_ANSWER),
    ("Playback on other websites has been disabled by the video owner", Reason.UNPLAYABLE),
]  # fmt: skip


@pytest.mark.parametrize(("words", "reason"), SAID)
def test_what_youtube_says_means_the_same_by_either_library(words, reason):
    assert problem_of(ytdlp_error(words)).reason is reason
    assert problem_of(api.VideoUnplayable(ID, words, [])).reason is reason
    first, _, rest = words.partition(". ")
    assert problem_of(api.VideoUnplayable(ID, first, [rest])).reason is reason, "the second half as a sub-reason"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (GeoRestrictedError("Not here", countries=["CH"]), Reason.GEO_BLOCKED),
        (ytdlp_error("Unable to download API page", cause=networking.TransportError("reset by peer")), Reason.NETWORK),
        (ytdlp_error("Unable to download API page", cause=networking.ProxyError("refused")), Reason.NETWORK),
        (ytdlp_error("Unable to download API page: The read operation timed out"), Reason.TIMEOUT),
        (ytdlp_error("Failed to extract any player response", expected=False), Reason.BAD_ANSWER),
        (ytdlp_error("Something that nobody has seen before", expected=False), Reason.BAD_ANSWER),
        (ytdlp_error("Something that YouTube says"), Reason.UNPLAYABLE),
        (RegexNotFoundError("Unable to extract player version"), Reason.BAD_ANSWER),
        (UnsupportedError("https://example.org"), Reason.UNPLAYABLE),
        (YoutubeDLError("odd"), Reason.BAD_ANSWER),
        (UserNotLive(), Reason.UNPLAYABLE),
    ],
    ids=lambda each: str(each)[:40],
)
def test_an_error_of_yt_dlp_has_its_reason(error, reason):
    assert problem_of(error).reason is reason


@pytest.mark.parametrize(("status", "reason"), [(429, Reason.RATE_LIMITED), (503, Reason.NETWORK)])
def test_a_status_that_yt_dlp_met_counts_before_its_words(status, reason):
    answer = Response(io.BytesIO(b""), "https://www.youtube.com/youtubei/v1/player", {}, status)
    assert problem_of(ytdlp_error("Unable to download API page", cause=networking.HTTPError(answer))).reason is reason


def test_an_id_that_looks_like_words_does_not_count_as_words():
    error = ExtractorError("Video unavailable", expected=True, video_id="is-private_", ie="youtube")
    assert problem_of(DownloadError(f"ERROR: {error}", (type(error), error, None))).reason is Reason.DELETED


def test_no_error_is_taken_for_a_video_without_speech():
    """Apart from the exceptions that say so in so many words."""
    says_so = (
        api.TranscriptsDisabled, api.NoTranscriptFound, api.NotTranslatable, api.TranslationLanguageNotAvailable,
    )  # fmt: skip
    errors = [*OF_THE_API, *(error for error, _ in OF_THE_NETWORK), *(ytdlp_error(words) for words, _ in SAID)]
    for error in errors:
        assert isinstance(error, says_so) or problem_of(error).reason not in NO_SPEECH, error


def test_an_error_that_nobody_foresaw_wants_another_try_and_keeps_its_words():
    problem = problem_of(RuntimeError("the moon is full"))
    assert (problem.reason, problem.reason.status) == (Reason.BAD_ANSWER, Status.RETRY)
    assert "the moon is full" in problem.detail


def test_a_parked_egress_is_a_refusal_that_says_until_when():
    problem = problem_of(Parked(1234.0, "bot_check"))
    assert (problem.reason, problem.not_before) == (Reason.BOT_CHECK, 1234.0)
    assert problem_of(Parked(1234.0, "because")).reason is Reason.RATE_LIMITED


def test_what_is_said_reaches_nobody_with_passwords_or_terminal_codes():
    problem = Problem(Reason.NETWORK, "proxy socks5://me:secret@host:1 \x1b[31mrefused\x1b[0m\nagain")
    assert "secret" not in problem.detail and "\x1b" not in problem.detail and "\n" not in problem.detail


def test_a_subclass_stands_before_its_base_in_the_table():
    kinds = [kind for kind, _ in BY_CLASS]
    for i, kind in enumerate(kinds):
        assert not any(issubclass(kind, earlier) for earlier in kinds[:i]), kind


def test_words_that_say_nothing_have_no_reason():
    assert reason_of_words("Rain on a roof") is None


def test_yt_dlp_leaves_no_module_on_which_pickle_fails():
    """pickle asks every loaded module for a name it cannot place; so torch.compile does, by its cache's keys."""
    assert (
        pickle.whichmodule(  # type: ignore[attr-defined]  # not in its stubs
            object(), "a_name_that_no_module_has"
        )
        == "__main__"
    )
