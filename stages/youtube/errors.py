"""Turns each failure of the two client libraries into one reason. Nothing else knows their errors."""

import re
from collections.abc import Sequence

import requests
import youtube_transcript_api as api
from yt_dlp.networking.exceptions import HTTPError, RequestError, TransportError
from yt_dlp.utils import DownloadError, ExtractorError, GeoRestrictedError, YoutubeDLError

from autorecap.stages.reasons import Reason
from autorecap.stages.youtube.budget import Parked
from autorecap.stages.youtube.problem import Problem


class TooSlow(requests.exceptions.Timeout):
    """A request took longer than `youtube.request_timeout_s`, although something came all the time."""


BY_CLASS: tuple[tuple[type[Exception], Reason], ...] = (
    # youtube-transcript-api; a subclass before its base
    (api.IpBlocked, Reason.IP_BLOCKED),  # a captcha; a 429 never gets as far as the library
    (api.RequestBlocked, Reason.BOT_CHECK),
    (api.AgeRestricted, Reason.AGE_RESTRICTED),
    (api.VideoUnavailable, Reason.DELETED),
    (api.InvalidVideoId, Reason.DELETED),
    (api.TranscriptsDisabled, Reason.NO_TRANSCRIPT),
    (api.NoTranscriptFound, Reason.NO_TRANSCRIPT_IN_LANGUAGE),
    (api.NotTranslatable, Reason.NO_TRANSCRIPT_IN_LANGUAGE),
    (api.TranslationLanguageNotAvailable, Reason.NO_TRANSCRIPT_IN_LANGUAGE),
    (api.PoTokenRequired, Reason.PO_TOKEN_REQUIRED),
    (api.FailedToCreateConsentCookie, Reason.BAD_ANSWER),
    (api.YouTubeDataUnparsable, Reason.BAD_ANSWER),
    (api.CookieError, Reason.BOT_CHECK),
    # requests, of ours and the library's
    (requests.exceptions.Timeout, Reason.TIMEOUT),
    (requests.exceptions.JSONDecodeError, Reason.BAD_ANSWER),
    (requests.exceptions.ContentDecodingError, Reason.BAD_ANSWER),
    (requests.exceptions.RequestException, Reason.NETWORK),
    # yt-dlp, where its messages say nothing better
    (GeoRestrictedError, Reason.GEO_BLOCKED),
    (TransportError, Reason.NETWORK),
    (RequestError, Reason.NETWORK),
)

BY_WORDS: tuple[tuple[str, Reason], ...] = (
    # Sentences of YouTube, to either library, or of yt-dlp in its place. The first that matches counts.
    (r"not a bot|confirm you.re not", Reason.BOT_CHECK),
    (r"HTTP Error 429|Too Many Requests|rate-limited by YouTube", Reason.RATE_LIMITED),
    (r"content isn.t available, try again later", Reason.RATE_LIMITED),  # what it tells a session that asks too often
    (r"captcha|unusual traffic", Reason.IP_BLOCKED),
    (r"private video|video is private", Reason.PRIVATE),
    (r"members-only|available to this channel's members|requires payment|purchase|rental|Premium", Reason.MEMBERS_ONLY),
    (r"confirm your age|age-restricted|inappropriate (for|or offensive)|discretion is advised", Reason.AGE_RESTRICTED),
    (r"in your (country|location)|not available from your location|geo.?restrict", Reason.GEO_BLOCKED),
    (r"will begin in|Premieres in|has not started|is upcoming|starts? in |processing this video", Reason.UPCOMING),
    (r"live event|is live\b|live stream recording is not available", Reason.LIVE),
    (
        r"video is (unavailable|not available)|no longer available|has been removed|been terminated|"
        r"video unavailable|does not exist|deleted|violat",
        Reason.DELETED,
    ),
    (r"needs to be reloaded|error occurred", Reason.BAD_ANSWER),
    (r"PO Token|missing_pot", Reason.PO_TOKEN_REQUIRED),
    (r"timed out|timeout", Reason.TIMEOUT),
    (r"HTTP Error 5\d\d|Connection|IncompleteRead|Remote end closed|Network is unreachable|resolve", Reason.NETWORK),
)
_WORDS = [(re.compile(pattern, re.IGNORECASE), reason) for pattern, reason in BY_WORDS]


def problem_of(error: Exception) -> Problem:
    """Return the problem behind an error of either library. An error that nobody foresaw is `bad_answer`."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Parked):
        reason = next((each for each in Reason if each.parks and each.code == error.reason), Reason.RATE_LIMITED)
        return Problem(reason, str(error), not_before=error.until)
    if isinstance(error, api.VideoUnplayable):
        return _unplayable(error.reason or "", error.sub_reasons)
    if isinstance(error, api.YouTubeRequestFailed):  # it keeps the words of requests' error, and nothing else
        return Problem(reason_of_words(str(error.reason)) or Reason.NETWORK, str(error.reason))
    if isinstance(error, YoutubeDLError):
        return _of_ytdlp(error)
    reason = next((reason for kind, reason in BY_CLASS if isinstance(error, kind)), Reason.BAD_ANSWER)
    return Problem(reason, _words(error))


def reason_of_words(text: str) -> Reason | None:
    """Return what a sentence of YouTube or yt-dlp means; None for a sentence that is not known."""
    return next((reason for pattern, reason in _WORDS if pattern.search(text)), None)


def without_prefix(text: str) -> str:
    """Return a message of yt-dlp without its prefix, which holds an id, and an id may hold any word."""
    return re.sub(r"\x1b\[[0-9;]*m|^(ERROR|WARNING): |\[youtube[^\]]*\] (?:[\w-]{11}: )?", "", text)


def _unplayable(message: str, more: Sequence[str]) -> Problem:
    text = " ".join([message, *more]).strip()
    return Problem(reason_of_words(text) or Reason.UNPLAYABLE, text or "no reason given")


def _of_ytdlp(error: YoutubeDLError) -> Problem:
    cause: BaseException | None = error
    if isinstance(error, DownloadError) and error.exc_info and isinstance(error.exc_info[1], Exception):
        cause = error.exc_info[1]
    text = without_prefix(str(error))
    inner = getattr(cause, "cause", None)
    if isinstance(inner, HTTPError) and inner.status == 429:
        return Problem(Reason.RATE_LIMITED, text)
    if found := reason_of_words(text):
        return Problem(found, text)
    for each in (cause, inner):
        for kind, reason in BY_CLASS:
            if isinstance(each, kind):
                return Problem(reason, text)
    said_by_youtube = isinstance(cause, ExtractorError) and cause.expected
    return Problem(Reason.UNPLAYABLE if said_by_youtube else Reason.BAD_ANSWER, text)


def _words(error: Exception) -> str:
    if isinstance(error, api.RequestBlocked):  # its words are a page of advice
        is_captcha = isinstance(error, api.IpBlocked)
        return "a captcha in place of the page" if is_captcha else "asked to sign in, to confirm that it is no bot"
    said = str(getattr(error, "CAUSE_MESSAGE", "")).strip().partition("\n")[0]  # what follows is advice to programmers
    return said or f"{type(error).__name__}: {error}"
