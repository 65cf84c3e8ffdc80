"""The audio of some spans of a video of YouTube, fetched in ranges and decoded.

yt-dlp says where the formats lie. The first bytes of the cheapest sufficient one hold an index; what the spans need is
fetched by our own session, so that every request has its turn and goes out where it should, and the head with some
pieces behind it is a file for ffmpeg. Where that saves nothing, or there is no index, the whole track is fetched.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from stages.ffmpeg import decode
from stages.reasons import Reason
from stages.records import Span
from stages.youtube.config import YoutubeConfig
from stages.youtube.formats import AudioFormat, choose
from stages.youtube.media_index import MediaIndex, NeedsMore, NoIndex, read_index
from stages.youtube.problem import Problem
from stages.youtube.session import YOUTUBE, Sessions
from stages.youtube.ytdlp import YtDlp

HEAD_BYTES = 1 << 16
"""Fetched first. Holds the index of two hours of either container."""
REQUEST_COST_BYTES = 1 << 16
"""What one more request is worth in bytes: so many more are fetched to save one, as turns are what is short."""
MAX_RANGE_BYTES = 10 * 2**20  # of one request; longer ones are slowed down by the service
_LEAD_MS = 1_000  # as in stages/ffmpeg: a decoder needs a run-up
_OVERHANG_MS = 500
_MAX_INDEX_READS = 4


@dataclass
class YoutubeAudio:
    """What was fetched of one video. `decode` as `stages.ffmpeg.decode`."""

    format: AudioFormat
    size: int  # of the whole track
    index: MediaIndex | None  # None: `whole` is all of it
    whole: bytes = b""
    pieces: dict[int, bytes] = field(default_factory=dict)
    bytes_read: int = 0

    @property
    def bytes_saved(self) -> int:
        return max(0, self.size - self.bytes_read)

    def decode(self, start_ms: int, end_ms: int, sample_rate_hz: int, timeout_s: float) -> tuple[bytes, bool]:
        """The span as mono 16-bit PCM, and whether the file was seen to be cut short. Raises MediaError."""
        with tempfile.NamedTemporaryFile(prefix="autorecap-", suffix=f".{self.format.container}") as file:
            if self.index is None:
                file.write(self.whole)
                file.flush()
                return decode(file.name, start_ms, end_ms, sample_rate_hz, timeout_s)
            wanted = self.index.covering(*_with_margins((start_ms, end_ms)))
            if not wanted:
                return b"", False
            file.write(self.index.head + b"".join(self.pieces[i] for i in wanted))
            file.flush()
            origin_ms = self.index.origin_ms(wanted[0])
            length_ms = self.index.origin_ms(wanted[-1]) - origin_ms + _length_ms(self.index, wanted[-1])
            pcm, truncated = decode(file.name, 0, round(length_ms), sample_rate_hz, timeout_s)
            first = max(0, round((start_ms - origin_ms) * sample_rate_hz / 1000))
            num_samples = round((end_ms - start_ms) * sample_rate_hz / 1000)
            return pcm[2 * first : 2 * (first + num_samples)], truncated


class AudioClient:
    """Fetches audio; used by many threads."""

    def __init__(self, config: YoutubeConfig, sessions: Sessions, sample_rate_hz: int) -> None:
        self.config, self.sessions, self.sample_rate_hz = config, sessions, sample_rate_hz

    def fetch(self, video_id: str, spans: Sequence[Span], egress: str, deadline: float) -> YoutubeAudio:
        """The audio that the spans need, by this egress, until `deadline` (time.monotonic()).

        Raises Problem, and what requests raises.
        """
        client = YtDlp(self.config, self.sessions.turns[egress])
        allow_local = self.config.base_url != YOUTUBE
        for is_last_try in (False, True):
            info = client.extract(video_id)
            chosen = choose(info, self.config.min_audio_kbps, self.sample_rate_hz, allow_local=allow_local)
            try:
                return _Download(chosen, self.sessions, egress, deadline).run(spans)
            except _Refused:
                if is_last_try:
                    raise Problem(Reason.PO_TOKEN_REQUIRED, f"403 for format {chosen.itag}") from None
        raise AssertionError("unreachable")


class _Refused(Exception):
    """403 for an address of media: it has expired, or wants a token."""


class _Download:
    """One track: its head, and then as much as is wanted."""

    def __init__(self, chosen: AudioFormat, sessions: Sessions, egress: str, deadline: float) -> None:
        self.format, self.session, self.deadline = chosen, sessions[egress], deadline
        self.size = chosen.size
        self.bytes_read = 0
        self.parts: dict[int, bytes] = {}

    def run(self, spans: Sequence[Span]) -> YoutubeAudio:
        self.parts[0] = self._get(0, HEAD_BYTES)
        assert self.size is not None
        index = self._index()
        if index is not None:
            wanted = sorted({i for span in spans for i in index.covering(*_with_margins(span))})
            ranges = ranges_of(index, wanted)
            if _cost(ranges) < _cost([(len(self.parts[0]), self.size)]):
                pieces = self._pieces(index, wanted, ranges)
                return YoutubeAudio(self.format, self.size, index, pieces=pieces, bytes_read=self.bytes_read)
        whole = self.parts[0] + self._get(len(self.parts[0]), self.size)
        return YoutubeAudio(self.format, self.size, None, whole=whole, bytes_read=self.bytes_read)

    def _index(self) -> MediaIndex | None:
        assert self.size is not None
        for _ in range(_MAX_INDEX_READS):
            try:
                return read_index(self.parts, self.size)
            except NoIndex:
                return None
            except NeedsMore as more:
                end = min(self.size, more.end or self.size)
                start = len(self.parts[0]) if more.start == 0 else more.start
                if end <= start or end - start > MAX_RANGE_BYTES:
                    return None
                data = self._get(start, end)
                self.parts[more.start] = self.parts.get(more.start, b"") + data
        return None

    def _pieces(self, index: MediaIndex, wanted: Sequence[int], ranges: Sequence[tuple[int, int]]) -> dict[int, bytes]:
        fetched = {start: self._get(start, end) for start, end in ranges}
        pieces = {}
        for i in wanted:
            piece = index.pieces[i]
            start = max(start for start in fetched if start <= piece.offset)
            pieces[i] = fetched[start][piece.offset - start : piece.offset - start + piece.size]
        return pieces

    def _get(self, start: int, end: int) -> bytes:
        """Bytes [start, end) of the track, in as many requests as that takes. Fewer where it is shorter."""
        parts = []
        while start < end:
            upto = min(end, start + MAX_RANGE_BYTES)
            parts.append(self._get_range(start, upto))
            if self.size is not None:
                end = min(end, self.size)
            start += len(parts[-1])
        return b"".join(parts)

    def _get_range(self, start: int, end: int) -> bytes:
        if time.monotonic() > self.deadline:
            raise Problem(Reason.TIMEOUT, "fetching took longer than media.timeout_s")
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        response = self.session.get(self.format.url, headers=headers)
        status, data = response.status_code, response.content
        self.bytes_read += len(data)
        if status == 403:
            raise _Refused
        if status == 429:
            raise Problem(Reason.RATE_LIMITED, "429 for media")
        if status in (404, 410, 416):
            raise Problem(Reason.BAD_ANSWER, f"HTTP {status} for format {self.format.itag}")
        if status >= 400 or not data:
            raise Problem(Reason.NETWORK, f"HTTP {status} and {len(data)} bytes for format {self.format.itag}")
        if status != 206:  # the whole of it, whatever was asked for
            self.size = len(data)
            return data[start:end]
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
        if total.isdecimal():
            self.size = int(total)
        if self.size is None:
            raise Problem(Reason.BAD_ANSWER, f"format {self.format.itag} does not say how long it is")
        if len(data) != min(end, self.size) - start:
            raise Problem(Reason.NETWORK, f"{len(data)} bytes came of {end - start} that were asked for")
        return data


def ranges_of(index: MediaIndex, wanted: Sequence[int]) -> list[tuple[int, int]]:
    """Byte ranges [start, end) that hold these pieces: neighbours in one, small holes fetched along."""
    ranges: list[tuple[int, int]] = []
    for i in wanted:
        start, end = index.pieces[i].offset, index.pieces[i].offset + index.pieces[i].size
        if ranges and start - ranges[-1][1] <= REQUEST_COST_BYTES:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
    return ranges


def _cost(ranges: Sequence[tuple[int, int]]) -> int:
    return sum(
        max(0, end - start) + REQUEST_COST_BYTES * -(-max(0, end - start) // MAX_RANGE_BYTES) for start, end in ranges
    )


def _with_margins(span: Span) -> tuple[int, int]:
    return span[0] - _LEAD_MS, span[1] + _OVERHANG_MS


def _length_ms(index: MediaIndex, piece: int) -> float:
    return index.pieces[piece].end_ms - index.pieces[piece].start_ms
