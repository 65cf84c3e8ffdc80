"""Fetches the subtitles of one video, and what YouTube says of it, by one egress.

There are two routes. youtube-transcript-api: player and subtitles, after a watch page now and then (`watch_page.py`);
it knows consent pages, captchas and the states of a video, and the player's answer to it is read along. yt-dlp: the
player and subtitles. Either way they come as json3, which times words, and are read by our own parsers.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import requests
from youtube_transcript_api import YouTubeTranscriptApi

from autorecap.stages.reasons import Reason, Status
from autorecap.stages.transcript_files.choice import Track, by_preference
from autorecap.stages.transcript_files.config import TranscriptsConfig
from autorecap.stages.transcript_files.cue_text import is_blank
from autorecap.stages.transcript_files.read import MAX_BYTES, read_transcript
from autorecap.stages.transcript_files.transcript import Transcript, TranscriptError
from autorecap.stages.youtube.config import API, YoutubeConfig
from autorecap.stages.youtube.errors import problem_of
from autorecap.stages.youtube.player import CaptionTrack, VideoMeta, parse_player
from autorecap.stages.youtube.problem import Problem
from autorecap.stages.youtube.session import Sessions
from autorecap.stages.youtube.watch_page import WATCH_PAGES, WatchPages
from autorecap.stages.youtube.ytdlp import YtDlp

_PLAYER = "/youtubei/v1/player"
_ASK_OTHERWISE = (Reason.PO_TOKEN_REQUIRED, Reason.BAD_ANSWER)
"""Reasons to try the other client, which may be given what this one is refused."""
_LOCKED = "exp=xpe"  # stands in addresses of captions that come empty without a PO token


@dataclass(frozen=True)
class Subtitles:
    """The chosen track, and its cues."""

    meta: VideoMeta
    track: Track
    transcript: Transcript
    num_bytes: int


class SubtitlesClient:
    """Fetches captions; used by many threads."""

    def __init__(self, config: YoutubeConfig, transcripts: TranscriptsConfig, sessions: Sessions) -> None:
        self.config, self.transcripts, self.sessions = config, transcripts, sessions
        self._pages = {name: WatchPages(turns, config.watch_page_s) for name, turns in sessions.turns.items()}
        self._reading = threading.Lock()
        """Lets one thread read at a time: many that work for milliseconds take the interpreter from each other."""

    def fetch(self, video_id: str, egress: str, note: Callable[[VideoMeta], object]) -> Subtitles:
        """Fetch the best track by the rules for files (`stages/transcript_files/choice.py`), and read it.

        `note` is called with what is known of the video as soon as that comes: a video without captions has a title,
        too. Raises Problem, and the errors of both libraries.
        """
        routes = {API: self._by_api}
        tried: Problem | None = None
        for name in self.config.routes:
            ask = routes.get(name, self._by_ytdlp)
            try:
                meta = ask(video_id, egress)
                note(meta)
                return self._chosen(meta, video_id, egress)
            except Exception as error:  # two libraries raise them: `problem_of` knows all
                problem = problem_of(error)
                if problem.reason not in _ASK_OTHERWISE:
                    raise
                tried = tried or problem
        assert tried is not None
        raise tried

    def _by_api(self, video_id: str, egress: str) -> VideoMeta:
        session = self.sessions[egress]
        answers: list[Any] = []

        def listen(response: requests.Response, *_: Any, **__: Any) -> None:
            if urlsplit(response.url).path != _PLAYER or not response.ok:
                return
            answer = response.json()
            answers.append(answer)
            response.json = lambda **_: answer  # type: ignore[method-assign]  # it is large: read it once

        session.mount(WATCH_PAGES, self._pages[egress])
        session.hooks["response"] = [listen]
        try:
            YouTubeTranscriptApi(http_client=session).list(video_id)
        except Exception as error:
            if problem_of(error).reason.status is Status.RETRY:  # the video is not the reason
                self._pages[egress].forget()
            if answers and parse_player(answers[-1]).is_live:
                raise Problem(Reason.LIVE, "it is being broadcast") from None
            raise
        finally:
            session.hooks["response"] = []
        return parse_player(answers[-1])

    def _by_ytdlp(self, video_id: str, egress: str) -> VideoMeta:
        return YtDlp(self.config, self.sessions.turns[egress], self.sessions[egress]).meta(video_id)

    def _chosen(self, meta: VideoMeta, video_id: str, egress: str) -> Subtitles:
        if meta.is_live:
            raise Problem(Reason.LIVE, "it is being broadcast")
        if not meta.tracks:
            raise Problem(Reason.NO_TRANSCRIPT, "no captions")
        offered = {url: track for track in meta.tracks for url, track in self._offers(track)}
        tracks = [_as_file(url, track) for url, track in offered.items()]
        accepted = by_preference(
            tracks, self.transcripts.languages, allow_translated=self.transcripts.allow_machine_translated
        )
        if not accepted:
            offered_languages = ", ".join(sorted({track.language for track in meta.tracks}))
            accepted_languages = ", ".join(self.transcripts.languages)
            raise Problem(Reason.NO_TRANSCRIPT_IN_LANGUAGE, f"found {offered_languages}; accepted {accepted_languages}")
        best = accepted[0]
        data = self._download(best.path, egress)
        try:
            with self._reading:
                transcript = read_transcript(data, f"captions of {video_id}")
        except TranscriptError as error:  # an empty answer, a page of HTML, half an answer: never "no speech"
            raise Problem(Reason.BAD_ANSWER, str(error)) from error
        if all(is_blank(cue.text) for cue in transcript.cues):
            raise Problem(Reason.EMPTY_TRANSCRIPT, f"the {best.language} captions hold no text")
        return Subtitles(meta, best, transcript, len(data))

    def _offers(self, track: CaptionTrack) -> list[tuple[str, CaptionTrack]]:
        """Return the addresses of a track, and of its machine translations where these would be accepted."""
        plain = _with_query(track.url, {"fmt": "json3"})
        if not (self.transcripts.allow_machine_translated and track.is_translatable):
            return [(plain, track)]
        translated = [
            (_with_query(track.url, {"fmt": "json3", "tlang": language}), track)
            for language in self.transcripts.languages
            if not track.language.startswith(language)
        ]
        return [(plain, track), *translated]

    def _download(self, url: str, egress: str) -> bytes:
        if _LOCKED in url:
            raise Problem(Reason.PO_TOKEN_REQUIRED, "these captions want a PO token")
        response = self.sessions[egress].get(url)
        if response.status_code >= 400:
            raise Problem(Reason.NETWORK, f"HTTP {response.status_code} for captions")
        if len(response.content) > MAX_BYTES:
            raise Problem(Reason.BAD_ANSWER, f"captions of {len(response.content)} bytes")
        return response.content


def _as_file(url: str, track: CaptionTrack) -> Track:
    """Return the track as if it were a file beside a video, which is what the rules of choice are about."""
    translated = parse_qs(urlsplit(url).query).get("tlang")
    language = translated[0] if translated else track.language
    kind = "auto" if track.is_auto or translated else "manual"
    return Track(url, language, kind, bool(translated))


def _with_query(url: str, more: dict[str, str]) -> str:
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()} | more
    return urlunsplit(parts._replace(query=urlencode(query)))
