"""Fetches the audio of some spans of a YouTube video, in ranges of bytes.

yt-dlp says where the formats lie. The first bytes of the cheapest sufficient one hold an index; what the spans need is
fetched by our own session, so that every request has its turn and leaves by the right egress. Each byte is written
where it belongs, into a file as long as the track, and what was not fetched is marked as free space: a valid file, in
which all times hold, and which ffmpeg decodes to the same samples as the whole. Where fetching spans saves nothing, or
there is no index, the whole track is fetched.
"""

import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from autorecap.stages.media_files.ffmpeg import READ_AFTER_MS, READ_BEFORE_MS, decode
from autorecap.stages.reasons import Reason
from autorecap.stages.records import Span
from autorecap.stages.youtube.config import YoutubeConfig
from autorecap.stages.youtube.formats import AudioFormat, choose
from autorecap.stages.youtube.fragments import MIN_FILLER_BYTES, Index, Wanted, filler, read_index
from autorecap.stages.youtube.player import VideoMeta
from autorecap.stages.youtube.problem import Problem
from autorecap.stages.youtube.session import Sessions
from autorecap.stages.youtube.ytdlp import YtDlp, meta_of

Bytes = tuple[int, int]
"""A range of bytes of a file: [first, end)."""

HEAD_BYTES = 128 << 10
"""How much is fetched first. It holds the index of some hours, and often the first fragment, which starts the clock."""
REQUEST_BYTES = 128 << 10
"""The cost of a request in bytes: so many more are fetched to save one. About what arrives in the time of a request,
100 ms at 10 Mbit/s; turns are what is short."""
MAX_RANGE_BYTES = 8 << 20
"""Largest range of one request. The service slows longer ones down, and they have to fit the memory."""
_MAX_INDEX_READS = 6
_ALTERED = (403, 404, 410)  # addresses of media hold for some hours, and for one egress


@dataclass
class YoutubeAudio:
    """The fetched part of one track, in a temporary file that is removed when this is closed."""

    format: AudioFormat
    size: int  # of the whole track
    num_requests: int
    bytes_read: int
    file: Any = field(repr=False)  # temporary
    meta: VideoMeta = field(default_factory=VideoMeta)
    """Of the video. Where its clips come with the source, nothing else says it."""

    @property
    def bytes_saved(self) -> int:
        return max(0, self.size - self.bytes_read)

    @property
    def path(self) -> str:
        return str(self.file.name)

    def decode(self, start_ms: int, end_ms: int, sample_rate_hz: int, timeout_s: float) -> tuple[bytes, bool]:
        """Decode one of the fetched spans as `autorecap.stages.media_files.ffmpeg.decode` does."""
        return decode(self.path, start_ms, end_ms, sample_rate_hz, timeout_s)

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> "YoutubeAudio":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AudioClient:
    """Fetches audio; used by many threads."""

    def __init__(self, config: YoutubeConfig, sessions: Sessions, sample_rate_hz: int) -> None:
        self.config, self.sessions, self.sample_rate_hz = config, sessions, sample_rate_hz

    def fetch(self, video_id: str, spans: Sequence[Span], egress: str, deadline: float) -> YoutubeAudio:
        """Fetch the audio that the spans need, by this egress, until `deadline` (time.monotonic()).

        Raises Problem, and the errors of requests.
        """
        client = YtDlp(self.config, self.sessions.turns[egress], self.sessions[egress])
        for is_last_try in (False, True):
            info = client.extract(video_id)
            chosen = choose(info, self.config.min_audio_kbps, self.sample_rate_hz, self.config.base_url)
            download = _Download(chosen, self.sessions, egress, deadline)
            try:
                return replace(download.run(spans), meta=meta_of(info))
            except BaseException as error:
                download.file.close()
                if not isinstance(error, _Altered):
                    raise
                if is_last_try:
                    reason = Reason.PO_TOKEN_REQUIRED if error.status == 403 else Reason.BAD_ANSWER
                    raise Problem(reason, f"HTTP {error.status} for format {chosen.itag}, twice") from None
        raise AssertionError("unreachable")


class _Altered(Exception):
    """An address of media holds no longer, or never did."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


class _Download:
    """The download of one track: first its head, then as much as is needed."""

    def __init__(self, chosen: AudioFormat, sessions: Sessions, egress: str, deadline: float) -> None:
        self.format, self.session, self.deadline = chosen, sessions[egress], deadline
        self.size = chosen.size
        self.bytes_read = 0
        self.num_requests = 0
        self.file = tempfile.NamedTemporaryFile(prefix="autorecap-", suffix=f".{chosen.container}")  # noqa: SIM115

    def run(self, spans: Sequence[Span]) -> YoutubeAudio:
        head = self._get(0, HEAD_BYTES)
        assert self.size is not None
        pieces = {0: head}
        index = self._index(pieces)
        rest: Bytes = len(pieces[0]), self.size
        is_whole = True
        if index is not None:
            needed = bytes_needed(index, spans)
            missing = joined(_without(each, rest[0]) for each in needed if each[1] > rest[0])
            if cost(missing) < cost([rest]):
                for each in missing:
                    self._fetch(*each)
                self._mark_free(index, [*index.described, *needed])
                is_whole = False
        if is_whole:
            self._fetch(*rest)
        self.file.flush()
        return YoutubeAudio(self.format, self.size, self.num_requests, self.bytes_read, self.file)

    def _index(self, pieces: dict[int, bytes]) -> Index | None:
        """Read the index, if there is one. `pieces[0]` grows where the head is longer than expected."""
        assert self.size is not None
        for _ in range(_MAX_INDEX_READS):
            answer = read_index(pieces, self.size)
            if not isinstance(answer, Wanted):
                return answer
            data = self._get(answer.first, answer.end)
            if answer.first == len(pieces[0]):
                pieces[0] += data
            else:
                pieces[answer.first] = data
        return None

    def _mark_free(self, index: Index, needed: list[Bytes]) -> None:
        """Mark all bytes that are not needed as free space, even fetched ones, which may be cut off."""
        assert self.size is not None
        self.file.truncate(self.size)
        at = 0
        for first, end in [*sorted(needed), (self.size, self.size)]:
            if first - at >= MIN_FILLER_BYTES:
                self.file.seek(at)
                self.file.write(filler(index.kind, first - at))
            at = max(at, end)

    def _fetch(self, first: int, end: int) -> None:
        for start in range(first, end, MAX_RANGE_BYTES):
            self._get(start, min(end, start + MAX_RANGE_BYTES))

    def _get(self, first: int, end: int) -> bytes:
        """Fetch bytes [first, end) of the track into the file and return them; fewer where the track is shorter."""
        if time.monotonic() > self.deadline:
            raise Problem(Reason.TIMEOUT, "fetching took longer than media.timeout_s")
        headers = {**self.format.headers, "Range": f"bytes={first}-{end - 1}", "Accept-Encoding": "identity"}
        response = self.session.get(self.format.url, headers=headers)
        status, data = response.status_code, response.content
        self.num_requests += 1
        self.bytes_read += len(data)
        if status in _ALTERED:
            raise _Altered(status)
        if status >= 500:
            raise Problem(Reason.NETWORK, f"HTTP {status} for format {self.format.itag}")
        if status == 200 and first == 0:  # the whole track, whatever the range was
            self.size = len(data)
        elif status != 206:
            raise Problem(Reason.BAD_ANSWER, f"HTTP {status} for bytes of format {self.format.itag}")
        else:
            self._check_range(response.headers.get("Content-Range", ""), first)
            assert self.size is not None
            if len(data) != min(end, self.size) - first:
                raise Problem(Reason.NETWORK, f"{len(data)} bytes came of {end - first} that were asked for")
        self.file.seek(first)
        self.file.write(data)
        return data

    def _check_range(self, content_range: str, first: int) -> None:
        """Check a header such as "bytes 0-99/1234". Raises Problem, also where the track has become another one."""
        span, _, total = content_range.removeprefix("bytes ").partition("/")
        if total.isdecimal() and len(total) < 16:
            if self.size is not None and self.bytes_read and self.num_requests > 1 and self.size != int(total):
                raise Problem(Reason.BAD_ANSWER, f"format {self.format.itag} has {self.size} bytes, then {total}")
            self.size = int(total)
        if self.size is None or span.partition("-")[0] != str(first):
            raise Problem(Reason.BAD_ANSWER, f"Content-Range {content_range[:60]!r} for bytes from {first}")


def bytes_needed(index: Index, spans: Iterable[Span]) -> list[Bytes]:
    """Return the bytes of the fragments that the spans need, and of the first one, which starts the clock."""
    fragments = {index.fragments[0]}
    for start_ms, end_ms in spans:
        fragments.update(index.covering(start_ms - READ_BEFORE_MS, end_ms + READ_AFTER_MS))
    return sorted((each.first, each.end) for each in fragments)


def joined(ranges: Iterable[Bytes]) -> list[Bytes]:
    """Join ranges that are so close that fetching the bytes between them costs less than another request."""
    out: list[Bytes] = []
    for first, end in ranges:
        if out and first - out[-1][1] <= REQUEST_BYTES:
            out[-1] = out[-1][0], end
        else:
            out.append((first, end))
    return out


def cost(ranges: Iterable[Bytes]) -> int:
    """Return the cost of fetching ranges, in bytes, with the cost of their requests."""
    return sum(end - first + REQUEST_BYTES * -(-(end - first) // MAX_RANGE_BYTES) for first, end in ranges)


def _without(span: Bytes, before: int) -> Bytes:
    return max(span[0], before), span[1]
