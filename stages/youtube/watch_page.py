"""Answers requests for watch pages from the last one: only the key for the player is needed, the same in all.

A browser does the same: it loads one page and then asks the player for video after video. A page is a megabyte: without
pages a transcript takes two requests in place of three, a tenth of the bytes and half the CPU time.
"""

import threading
import time
from typing import Any

import requests

from autorecap.stages.youtube.session import YOUTUBE, PoliteAdapter, Turns

WATCH_PAGES = f"{YOUTUBE}/watch?"
_KEY, _CONSENT = b'"INNERTUBE_API_KEY":', b"consent.youtube.com"
_KEY_BYTES = 200  # of it, and what stands around it


class WatchPages(PoliteAdapter):
    """Answers requests for watch pages of one egress with the essence of the last page, or fetches a page."""

    def __init__(self, turns: Turns, keep_s: float) -> None:
        """`keep_s`: for how long one page serves all videos; 0: each video gets its own."""
        super().__init__(turns)
        self.keep_s = keep_s
        self._last = b"", 0.0  # the page, and until when it serves, by time.monotonic(); one value for all threads
        self._fetching = threading.Lock()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Return the part of a watch page that holds the key; any other page whole. Raises as its base does."""
        if not self.keep_s:
            return self._fetched(request, *args, **kwargs)
        if page := self._page():
            return _answer(request, page)
        # One thread fetches a page, and the others wait for it; but not for ever.
        is_mine = self._fetching.acquire(timeout=self.turns.config.request_timeout_s)
        try:
            page = self._page()
            return _answer(request, page) if page else self._fetched(request, *args, **kwargs)
        finally:
            if is_mine:
                self._fetching.release()

    def _page(self) -> bytes:
        page, until = self._last
        return page if time.monotonic() < until else b""

    def _fetched(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        response = super().send(request, *args, **kwargs)
        if response.ok and (essence := _essence(response.content)):
            self._last = essence, time.monotonic() + self.keep_s
            response._content, response.encoding = essence, "utf-8"
        return response

    def forget(self) -> None:
        """Fetch a page next time: the key of this one may be why the player refused."""
        self._last = b"", 0.0


def _essence(page: bytes) -> bytes:
    """Return the key and the bytes around it; b"" for a page that has no key, or asks for consent.

    The library would decode, unescape and search a whole page: a tenth of the CPU time of a transcript.
    """
    at = page.find(_KEY)
    return b"" if at < 0 or _CONSENT in page else page[at : at + _KEY_BYTES]


def _answer(request: requests.PreparedRequest, content: bytes) -> requests.Response:
    response = requests.Response()
    response.status_code, response.encoding, response._content = 200, "utf-8", content
    response.request, response.url = request, request.url or ""
    return response
