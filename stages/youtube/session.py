"""HTTP sessions that are polite and do not hang: every request has a turn in the budget and a time limit.

Both client libraries send their requests through these sessions: youtube-transcript-api is given one, and yt-dlp's
`urlopen` calls one (`ytdlp.py`).
"""

import email.utils
import threading
import time
from collections.abc import Callable
from http.cookiejar import LoadError, MozillaCookieJar
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import DecodeError, HTTPError, ReadTimeoutError

from autorecap.stages.reasons import Reason
from autorecap.stages.youtube.budget import Budget, Egress, wait_for_turn
from autorecap.stages.youtube.config import YoutubeConfig
from autorecap.stages.youtube.errors import TooSlow
from autorecap.stages.youtube.problem import Problem

YOUTUBE = "https://www.youtube.com"
_HOSTS = ("youtube.com", "googlevideo.com", "google.com", "youtube-nocookie.com")
"""Hosts of pages, media, sign-in and captchas. Addresses come from outside and by redirection: no other is asked."""
MAX_ANSWER_BYTES = 64 * 2**20
"""Largest answer. A watch page has one million bytes, hours of captions have ten, a range of media has eight."""
_CHUNK_BYTES = 1 << 16
_TOO_MANY = 429
_CAPTCHA = b'class="g-recaptcha"'
_CAPTCHA_BYTES = 100_000  # a page with a captcha is smaller; the page of a video, which may mention one, is larger


class Turns:
    """The turns of one egress, and the address to which its requests really go."""

    def __init__(
        self,
        egress: Egress,
        budget: Budget,
        config: YoutubeConfig,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.egress, self.budget, self.config, self.sleep = egress, budget, config, sleep
        self.base_url = config.base_url.rstrip("/")

    def wait(self) -> None:
        """Sleep until the next request may go out. Raises Parked."""
        wait_for_turn(self.budget, self.egress.name, self.sleep)

    def address(self, url: str) -> str:
        """Return the URL, moved to `youtube.base_url` if it is one of a page of YouTube."""
        return self.base_url + url.removeprefix(YOUTUBE) if url.startswith(f"{YOUTUBE}/") else url


class PoliteAdapter(HTTPAdapter):
    """Sends the requests of one session: each in its turn, with a limit on the time and size of its whole answer."""

    def __init__(self, turns: Turns) -> None:
        super().__init__(max_retries=0)
        self.turns = turns

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Return the answer, read to its end.

        Raises Parked, Problem for a 429, a captcha or a strange address, and the errors of requests.
        """
        config = self.turns.config
        assert request.url is not None
        if not may_be_asked(request.url, config.base_url):
            raise Problem(Reason.BAD_ANSWER, f"{request.url[:100]} is no address of YouTube")
        self.turns.wait()
        request.url = self.turns.address(request.url)
        deadline = time.monotonic() + config.request_timeout_s
        kwargs |= {"stream": True, "timeout": config.connect_timeout_s}
        response = super().send(request, **kwargs)
        try:
            response._content = _read(response, deadline)  # what `Response.content` returns, without a second read
        finally:
            response.close()
        if response.status_code == _TOO_MANY:  # before each library says it in its own way
            self.turns.budget.slow_down(self.turns.egress.name, retry_after_s(response.headers.get("Retry-After")))
            raise Problem(Reason.RATE_LIMITED, f"HTTP 429 for {urlsplit(request.url).path[:60]}")
        if len(response.content) < _CAPTCHA_BYTES and _CAPTCHA in response.content:
            raise Problem(Reason.IP_BLOCKED, f"a captcha in place of {urlsplit(request.url).path[:60]}")
        return response


class Sessions:
    """A session per thread and egress, since a session of requests is for one thread, and keeps connections open."""

    def __init__(self, config: YoutubeConfig, budget: Budget, sleep: Callable[[float], object] = time.sleep) -> None:
        self.egresses = config.egresses_by_name()
        self.turns = {name: Turns(egress, budget, config, sleep) for name, egress in self.egresses.items()}
        self._of_thread = threading.local()

    def __getitem__(self, egress: str) -> requests.Session:
        mine: dict[str, requests.Session] | None = getattr(self._of_thread, "sessions", None)
        if mine is None:
            mine = self._of_thread.sessions = {}
        if egress not in mine:
            mine[egress] = new_session(self.turns[egress])
        return mine[egress]


def new_session(turns: Turns) -> requests.Session:
    """Return a session whose requests leave by the egress of `turns`. Raises Problem where cookies cannot be read."""
    session = requests.Session()
    session.trust_env = False  # a proxy of the environment would be an egress that no budget knows
    adapter = PoliteAdapter(turns)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    if turns.egress.proxy:
        session.proxies = {"http": turns.egress.proxy, "https": turns.egress.proxy}
    if turns.egress.cookies:
        jar = MozillaCookieJar(turns.egress.cookies)
        try:
            jar.load(ignore_discard=True, ignore_expires=True)
        except (OSError, LoadError) as error:
            raise Problem(Reason.BOT_CHECK, f"cookies of {turns.egress.name}: {error}") from error
        session.cookies.update(jar)
    return session


def retry_after_s(header: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for, as a number or a date; None for neither."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


def may_be_asked(url: str, base_url: str) -> bool:
    """Return whether a URL is an address of YouTube.

    http is allowed only where `base_url`, which stands in for YouTube in tests, has it as well.
    """
    try:
        parts, base = urlsplit(url), urlsplit(base_url)
        host = (parts.hostname or "").lower()
        if (parts.scheme, host) == (base.scheme, base.hostname):
            return True
        return parts.scheme == "https" and any(host == known or host.endswith(f".{known}") for known in _HOSTS)
    except ValueError:
        return False


def _read(response: requests.Response, deadline: float) -> bytes:
    """Read the body, decoded. `Response.iter_content` would wait for a full chunk, however slowly it comes."""
    parts, size = [], 0
    try:
        while part := response.raw.read1(_CHUNK_BYTES, decode_content=True):
            parts.append(part)
            size += len(part)
            if time.monotonic() > deadline:
                raise TooSlow("the answer took longer than youtube.request_timeout_s")
            if size > MAX_ANSWER_BYTES:
                raise requests.exceptions.ContentDecodingError(f"more than {MAX_ANSWER_BYTES} bytes")
    except ReadTimeoutError as error:
        raise requests.exceptions.ReadTimeout(error) from error
    except DecodeError as error:
        raise requests.exceptions.ContentDecodingError(error) from error
    except HTTPError as error:
        raise requests.exceptions.ConnectionError(error) from error
    if response.raw.length_remaining:
        raise requests.exceptions.ConnectionError(f"{response.raw.length_remaining} bytes of the answer are missing")
    return b"".join(parts)
