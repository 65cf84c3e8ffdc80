"""The server: one thread with an event loop, as many connections as come."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.fakes.youtube import pages
from tests.fakes.youtube.videos import FakeVideo

_DRIP_S = 0.2  # from byte to byte


@dataclass(frozen=True)
class Seen:
    """One request."""

    at: float  # time.monotonic()
    kind: str  # watch | player | timedtext | media | other
    video_id: str
    door: int  # the port by which it came: each stands for an egress that uses it as its proxy
    cookie: str = ""
    range: str = ""


@dataclass
class FakeYouTube:
    """The videos, and what was asked. `unknown`: what becomes of ids that are not among the videos."""

    videos: Mapping[str, FakeVideo]
    latency_s: float = 0.0
    refusal: Callable[[Seen], str] = lambda seen: ""  # a mishap because of the egress, such as "429", "captcha", "bot"
    requests: list[Seen] = field(default_factory=list)
    media_bytes: dict[str, int] = field(default_factory=dict)  # sent, by video
    key: str = pages.API_KEY  # in its pages; the player refuses any other
    elsewhere: str = ""  # where /redirect leads
    num_at_work: int = 0  # requests that wait for their answer now
    most_at_work: int = 0  # and at any time
    bytes_to_drip: int = 0  # of the last answer that drips, what has not been sent
    doors: list[int] = field(default_factory=list)
    unknown: Callable[[str], FakeVideo] = lambda video_id: FakeVideo(mishap="deleted")

    @property
    def url(self) -> str:
        return self.door(0)

    def door(self, number: int) -> str:
        """The address of a door; as a proxy, it leads to the same videos."""
        return f"http://127.0.0.1:{self.doors[number]}"

    def asked(self, kind: str) -> list[Seen]:
        return [seen for seen in self.requests if seen.kind == kind]

    def video(self, video_id: str) -> FakeVideo:
        return self.videos.get(video_id) or self.unknown(video_id)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/watch", self._watch)
        app.router.add_post("/youtubei/v1/player", self._player)
        app.router.add_get("/api/timedtext", self._timed_text)
        app.router.add_get("/videoplayback", self._media)
        app.router.add_route("*", "/{rest:.*}", self._other)
        return app

    # --- what all have in common

    async def _enter(self, request: web.Request, kind: str, video_id: str) -> tuple[FakeVideo, str]:
        """The video, and the mishap of this request, by its egress or its video. Answers some mishaps itself."""
        door = request.transport.get_extra_info("sockname")[1] if request.transport else 0
        cookie, wanted = request.headers.get("Cookie", ""), request.headers.get("Range", "")
        seen = Seen(time.monotonic(), kind, video_id, door, cookie, wanted)
        self.requests.append(seen)
        if self.latency_s:
            self.num_at_work += 1
            self.most_at_work = max(self.most_at_work, self.num_at_work)
            try:
                await asyncio.sleep(self.latency_s)
            finally:
                self.num_at_work -= 1
        video = self.video(video_id)
        befalls = self.refusal(seen) or _of_video(video, kind)
        if befalls in ("429", "429_retry_after"):
            headers = {"Retry-After": "1"} if befalls == "429_retry_after" else {}
            raise web.HTTPTooManyRequests(headers=headers)
        if befalls == "captcha":
            raise _Captcha
        if befalls == "error_500":
            raise web.HTTPInternalServerError
        if befalls in ("reset", "media_reset"):
            _hang_up(request)
        return video, befalls

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        video_id = request.query.get("v", "")
        video, befalls = await self._enter(request, "watch", video_id)
        if befalls == "consent" and "CONSENT=YES" not in request.headers.get("Cookie", ""):
            return web.Response(body=pages.CONSENT, content_type="text/html")
        page = pages.watch_page(video_id, video, self.key)
        headers = {"Content-Encoding": "gzip", "Content-Type": "text/html; charset=utf-8"}
        return web.Response(body=page, headers=headers)

    async def _player(self, request: web.Request) -> web.StreamResponse:
        try:
            asked: dict[str, Any] = json.loads(await request.read())
        except ValueError:
            return web.Response(status=400)
        video_id = str(asked.get("videoId", ""))
        video, befalls = await self._enter(request, "player", video_id)
        if request.query.get("key", self.key) != self.key:
            return web.json_response({"error": {"code": 400, "message": "API key not valid."}}, status=400)
        return web.json_response(pages.player(video_id, video, self.url, befalls))

    async def _timed_text(self, request: web.Request) -> web.StreamResponse:
        video_id, language = request.query.get("v", ""), request.query.get("lang", "")
        video, befalls = await self._enter(request, "timedtext", video_id)
        auto = request.query.get("kind") == "asr"
        body, content_type = _captions(video, language, request.query.get("fmt", ""), auto)
        if video.mishap == "po_token" or befalls == "empty":
            return web.Response(body=b"", content_type="text/html")
        if befalls == "truncated":
            return web.Response(body=body[: len(body) // 2], content_type=content_type)
        if befalls == "html":
            return web.Response(body=b"<!DOCTYPE html><html><body>Sorry</body></html>", content_type="text/html")
        if befalls == "drip":
            return await self._drip(request, body, content_type)
        if befalls == "wrong_length":
            await _break_off(request, body[: len(body) // 2], content_type, promised=len(body))
        return web.Response(body=body, content_type=content_type)

    async def _drip(self, request: web.Request, body: bytes, content_type: str) -> web.StreamResponse:
        """Send the body byte by byte, slowly."""
        answer = web.StreamResponse(headers={"Content-Type": content_type})
        answer.content_length = self.bytes_to_drip = len(body)
        await answer.prepare(request)
        for first in range(len(body)):
            await answer.write(body[first : first + 1])
            self.bytes_to_drip -= 1
            await asyncio.sleep(_DRIP_S)
        return answer

    async def _media(self, request: web.Request) -> web.StreamResponse:
        video_id = request.query.get("id", "")
        video, befalls = await self._enter(request, "media", video_id)
        path = video.media.get(request.query.get("itag", ""))
        if path is None or befalls == "expired":
            raise web.HTTPForbidden
        size = Path(path).stat().st_size
        is_range = "Range" in request.headers and befalls != "media_whole"
        first, end = _range_of(request, size) if is_range else (0, size)
        with Path(path).open("rb") as file:
            file.seek(first)
            body = file.read(end - first)
        if befalls == "media_short":
            body = body[: len(body) // 2]
        self.media_bytes[video_id] = self.media_bytes.get(video_id, 0) + len(body)
        headers = {"Accept-Ranges": "bytes"}
        if is_range:
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
        status = 206 if is_range else 200
        return web.Response(status=status, body=body, headers=headers, content_type="application/octet-stream")

    async def _other(self, request: web.Request) -> web.StreamResponse:
        await self._enter(request, "other", "")
        if self.elsewhere and request.path == "/redirect":
            raise web.HTTPFound(self.elsewhere)
        raise web.HTTPNotFound


_AT: dict[str, tuple[str, ...]] = {
    "watch": ("429", "429_retry_after", "captcha", "consent"),
    "player": ("429", "429_retry_after", "captcha", "error_500", *pages.REFUSED),
    "timedtext": ("reset", "empty", "truncated", "html", "drip", "wrong_length"),
    "media": ("expired", "media_reset", "media_short", "media_whole"),
    "other": (),
}
"""Which request a mishap of a video befalls. What is not here belongs to what the video is."""


def _captions(video: FakeVideo, language: str, fmt: str, auto: bool) -> tuple[bytes, str]:
    key = language, fmt, auto
    if key not in video.bodies:
        tracks = video.auto if auto else video.manual
        cues = tracks.get(language) or next(iter(tracks.values()), [])
        video.bodies[key] = pages.timed_text(cues, fmt, auto=auto)
    return video.bodies[key]


def _of_video(video: FakeVideo, kind: str) -> str:
    return video.mishap if video.happens(*_AT[kind]) else ""


class _Captcha(web.HTTPOk):
    """A page that wants a puzzle solved, in place of the one that was asked for."""

    def __init__(self) -> None:
        super().__init__(text=pages.CAPTCHA, content_type="text/html")


def _hang_up(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()
    raise asyncio.CancelledError


def faster_than(per_s: float, burst: int = 10) -> Callable[[Seen], str]:
    """A refusal of every door that asks more often than this: 429."""
    allowance: dict[int, tuple[float, float]] = {}

    def refuse(seen: Seen) -> str:
        left, at = allowance.get(seen.door, (float(burst), seen.at))
        left = min(burst, left + (seen.at - at) * per_s)
        allowance[seen.door] = (left - 1 if left >= 1 else left, seen.at)
        return "" if left >= 1 else "429"

    return refuse


def _range_of(request: web.Request, size: int) -> tuple[int, int]:
    wanted = request.http_range
    first = wanted.start or 0
    return first, min(size, wanted.stop if wanted.stop is not None else size)


async def _break_off(request: web.Request, body: bytes, content_type: str, *, promised: int) -> None:
    """Send fewer bytes than are promised, and hang up."""
    answer = web.StreamResponse(headers={"Content-Type": content_type})
    answer.content_length = promised
    await answer.prepare(request)
    await answer.write(body)
    assert request.transport is not None
    request.transport.close()
    raise asyncio.CancelledError


@contextmanager
def running(
    videos: Mapping[str, FakeVideo], *, num_doors: int = 1, port: int = 0, latency_s: float = 0.0
) -> Iterator[FakeYouTube]:
    """The fake, until the block ends."""
    fake = FakeYouTube(videos, latency_s=latency_s)
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(fake.app(), access_log=None, handler_cancellation=True)

    async def start() -> None:
        await runner.setup()
        for number in range(num_doors):
            site = web.TCPSite(runner, "127.0.0.1", port if number == 0 else 0, backlog=1024)
            await site.start()
            assert site._server is not None
            fake.doors.append(site._server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, name="fake YouTube", daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
