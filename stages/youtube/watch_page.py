"""Watch pages, one of which serves many videos: only the key for the player is wanted, and it is the same in all.

So does a browser, which loads one page and then asks the player for video after video. A page is a megabyte: without
them a transcript takes two requests in place of three, a tenth of the bytes and half the CPU time.
"""

import threading
import time
from typing import Any

import requests

from autorecap.stages.youtube.session import YOUTUBE, PoliteAdapter, Turns

WATCH_URL = f"{YOUTUBE}/watch?"
_KEY, _CONSENT = b'"INNERTUBE_API_KEY":', b"consent.youtube.com"
_KEY_BYTES = 200  # of it, and what stands around it


class WatchPages(PoliteAdapter):
    """Answers for every watch page of one egress: with what it holds of the last one, or by asking for the page."""

    def __init__(self, turns: Turns, keep_s: float) -> None:
        """`keep_s`: for how long one page serves all videos; 0: each gets its own."""
        super().__init__(turns)
        self.keep_s = keep_s
        self._held = b"", 0.0  # and until when, by time.monotonic(); one value, since many threads ask
        self._asking = threading.Lock()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """What youtube-transcript-api looks for in the page; all of a page that is another one. Raises as its base."""
        if not self.keep_s:
            return self._asked(request, *args, **kwargs)
        if page := self._page():
            return _answer(request, page)
        # One asks, and the others wait for what it gets; but not for ever.
        is_mine = self._asking.acquire(timeout=self.turns.config.request_timeout_s)
        try:
            page = self._page()
            return _answer(request, page) if page else self._asked(request, *args, **kwargs)
        finally:
            if is_mine:
                self._asking.release()

    def _page(self) -> bytes:
        held, until = self._held
        return held if time.monotonic() < until else b""

    def _asked(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        response = super().send(request, *args, **kwargs)
        if response.ok and (essence := _essence(response.content)):
            self._held = essence, time.monotonic() + self.keep_s
            response._content, response.encoding = essence, "utf-8"
        return response

    def forget(self) -> None:
        """Ask for a page next time: this one may be why the player refused."""
        self._held = b"", 0.0


def _essence(page: bytes) -> bytes:
    """The key and what stands around it; nothing of a page that holds none, or asks for consent.

    A whole page would be decoded, unescaped and searched by the library: a tenth of the CPU time of a transcript.
    """
    at = page.find(_KEY)
    return b"" if at < 0 or _CONSENT in page else page[at : at + _KEY_BYTES]


def _answer(request: requests.PreparedRequest, content: bytes) -> requests.Response:
    response = requests.Response()
    response.status_code, response.encoding, response._content = 200, "utf-8", content
    response.request, response.url = request, request.url or ""
    return response
