"""Asks yt-dlp, as a library, for the formats and subtitles of a video; each of its requests waits for its turn.

It downloads and writes nothing, and reads no configuration file, cache or plug-in folder of a user beyond what yt-dlp
loads by itself where it is installed.
"""

import io
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import requests
from yt_dlp import YoutubeDL
from yt_dlp.networking.common import Request, Response
from yt_dlp.networking.exceptions import HTTPError, TransportError
from yt_dlp.utils import YoutubeDLError

from autorecap.stages.reasons import Reason
from autorecap.stages.transcript_files.info import clean, possible_duration_ms, title_of
from autorecap.stages.youtube.config import YoutubeConfig
from autorecap.stages.youtube.errors import problem_of, reason_of_words, without_prefix
from autorecap.stages.youtube.ids import watch_url
from autorecap.stages.youtube.player import MAX_DESCRIPTION_CHARS, CaptionTrack, VideoMeta
from autorecap.stages.youtube.problem import Problem
from autorecap.stages.youtube.session import Turns, may_be_asked

_CAPTIONS = "json3"


class YtDlp:
    """Asks YouTube as yt-dlp does, by one egress."""

    def __init__(self, config: YoutubeConfig, turns: Turns, session: requests.Session) -> None:
        self.config, self.turns, self.session = config, turns, session

    def extract(self, video_id: str) -> dict[str, Any]:
        """Return yt-dlp's description of the video: formats with addresses, captions, title. Raises Problem."""
        return self._extract(video_id, _Talk())

    def _extract(self, video_id: str, talk: "_Talk") -> dict[str, Any]:
        try:
            with _PoliteYoutubeDL(self._parameters(talk), self.session, self.config) as client:
                info = client.extract_info(watch_url(video_id), download=False, ie_key="Youtube")
        except YoutubeDLError as error:
            raise _with_warnings(problem_of(error), talk.warnings) from error
        if not isinstance(info, dict):
            raise Problem(Reason.BAD_ANSWER, "yt-dlp gave no description")
        if info.get("live_status") == "is_live":
            raise Problem(Reason.LIVE, "it is being broadcast")
        if info.get("live_status") == "is_upcoming":
            raise Problem(Reason.UPCOMING, "it has been announced")
        return info

    def meta(self, video_id: str) -> VideoMeta:
        """Return title, duration and captions. Raises Problem, also where captions exist but need a PO token."""
        talk = _Talk()
        info = self._extract(video_id, talk)
        meta = replace(
            meta_of(info),
            tracks=tuple(
                CaptionTrack(url=entry["url"], language=language, is_auto=is_auto, is_translatable=False)
                for is_auto, listed in ((False, info.get("subtitles")), (True, info.get("automatic_captions")))
                for language, entries in (listed or {}).items()
                for entry in entries
                if entry.get("ext") == _CAPTIONS and "tlang=" not in entry.get("url", "")
            ),
        )
        locked = [text for text in talk.warnings if reason_of_words(text) is Reason.PO_TOKEN_REQUIRED]
        if locked and not meta.tracks:
            raise Problem(Reason.PO_TOKEN_REQUIRED, without_prefix(locked[0]))
        return meta

    def _parameters(self, talk: "_Talk") -> dict[str, Any]:
        return {
            "quiet": True,
            "no_color": True,
            "logger": talk,
            "cachedir": False,
            "noplaylist": True,
            "skip_download": True,
            "writesubtitles": True,  # none is written, but it says what it leaves out
            "writeautomaticsub": True,
            "socket_timeout": self.config.connect_timeout_s,
            "proxy": self.turns.egress.proxy,  # "": none, whatever the environment says
            "cookiefile": self._cookies(),
            "extractor_args": self._extractor_args(),
            "extractor_retries": 0,  # tries are counted in one place
        }

    def _cookies(self) -> io.StringIO | None:
        """Return a copy of the cookies: yt-dlp writes what it is sent into the file that it has read."""
        path = self.turns.egress.cookies
        return io.StringIO(Path(path).read_text(encoding="utf-8", errors="replace")) if path else None

    def _extractor_args(self) -> dict[str, dict[str, list[str]]]:
        """Return the arguments in yt-dlp's own shape. What is skipped costs requests and holds nothing of use."""
        args: dict[str, dict[str, list[str]]] = defaultdict(dict)
        args["youtube"] = {
            "player_client": list(self.config.player_clients),
            "player_skip": ["webpage", "configs", "js", "initial_data"],
            "formats": ["missing_pot"],
        }
        for text in self.config.extractor_args:
            key, _, rest = text.partition(":")
            for part in rest.split(";"):
                name, _, values = part.partition("=")
                args[key.lower()][name.strip().replace("-", "_")] = values.split(",")
        return dict(args)


class _PoliteYoutubeDL(YoutubeDL):  # type: ignore[misc]  # yt-dlp has no types
    """yt-dlp whose requests to YouTube go through our session: with its turns, limits, cookies and egress."""

    def __init__(self, parameters: Mapping[str, Any], session: requests.Session, config: YoutubeConfig) -> None:
        self._session, self._config = session, config
        super().__init__(dict(parameters), auto_init=True)

    def urlopen(self, req: Request | str) -> Response:
        request = Request(req) if isinstance(req, str) else req
        if not may_be_asked(request.url, self._config.base_url):
            return super().urlopen(request)  # such as a provider of PO tokens on this machine
        try:
            answer = self._session.request(
                request.method,
                request.url,
                data=request.data,
                headers={**self.params["http_headers"], **request.headers},
                cookies=self.cookiejar,
            )
        except requests.exceptions.RequestException as error:
            raise TransportError(cause=error) from error
        response = Response(io.BytesIO(answer.content), answer.url, answer.headers, answer.status_code, answer.reason)
        if not answer.ok:
            raise HTTPError(response)
        return response


def meta_of(info: Mapping[str, Any]) -> VideoMeta:
    """Return title, description and duration in yt-dlp's description of a video."""
    duration = info.get("duration")
    duration_ms = round(duration * 1000) if isinstance(duration, int | float) else None
    return VideoMeta(
        title=title_of(info),
        description=clean(info.get("description"), MAX_DESCRIPTION_CHARS),
        duration_ms=possible_duration_ms(duration_ms),
    )


class _Talk:
    """Keeps the warnings of yt-dlp, which say the best of what it knows."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def debug(self, message: str) -> None:
        pass

    def info(self, message: str) -> None:
        pass

    def warning(self, message: str) -> None:
        self.warnings.append(message)

    def error(self, message: str) -> None:
        self.warnings.append(message)


def _with_warnings(problem: Problem, warnings: list[str]) -> Problem:
    """Return the problem in the words of the warnings where the error itself says nothing."""
    if problem.reason is not Reason.BAD_ANSWER:
        return problem
    for text in map(without_prefix, warnings):
        if reason := reason_of_words(text):
            return Problem(reason, text)
    return problem
