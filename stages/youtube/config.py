"""Settings of the requests to YouTube."""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from autorecap.base.settings import FILE, Section, check, setting
from autorecap.stages.youtube.budget import BudgetConfig, Egress, LocalBudget

DIRECT = "direct"
"""The egress that is this machine's own address."""
API, YTDLP = "api", "ytdlp"
"""Routes to a transcript: youtube-transcript-api, and yt-dlp."""
_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


@dataclass(frozen=True, kw_only=True)
class YoutubeConfig(Section, name="youtube"):
    """Settings of the requests to YouTube: by which egresses, how fast, and as which clients."""

    budget: BudgetConfig = setting(BudgetConfig, "requests per second, and what happens when there are too many")
    egresses: tuple[str, ...] = setting(
        (DIRECT,),
        "How requests leave: direct (this machine's address), or by proxies, such as socks5h://host:1080 or "
        "http://user:password@host:8080. Each has a budget of its own over the whole cluster. Passwords go nowhere "
        "else.",
        filled=True,
    )
    cookies: tuple[str, ...] = setting(
        (),
        "Netscape cookie files, one per egress in the same order; '' for none. An account may be banned for it.",
        path=FILE,
    )
    in_flight: int = setting(
        64, "Videos whose transcripts one worker of the fetch pool fetches at the same time; it mostly waits.", ge=1
    )
    media_in_flight: int = setting(4, "Videos whose audio one worker of the media pool fetches at the same time.", ge=1)
    connect_timeout_s: float = setting(
        10.0, "Seconds that connecting may take, and the pause between two pieces of an answer.", gt=0
    )
    request_timeout_s: float = setting(60.0, "Seconds that one request and its whole answer may take.", gt=0)
    try_other_egresses_s: float = setting(
        60.0, "Seconds for which one video tries other egresses; then it waits for a later pass.", gt=0
    )
    routes: tuple[str, ...] = setting(
        (API, YTDLP),
        "Libraries that fetch transcripts, the preferred first: api (youtube-transcript-api), ytdlp (yt-dlp).",
        choices=(API, YTDLP),
        filled=True,
    )
    watch_page_s: float = setting(
        600.0,
        "Seconds for which one watch page serves all videos of an egress: it is a megabyte, of which only a key is "
        "needed. 0: a page for every video.",
        ge=0,
    )
    player_clients: tuple[str, ...] = setting(
        ("android_vr",),
        "Clients that yt-dlp poses as, see its documentation. android_vr gets audio formats in one request, without "
        "JavaScript.",
        filled=True,
    )
    extractor_args: tuple[str, ...] = setting(
        (),
        "Further --extractor-args of yt-dlp, such as 'youtube:po_token=android_vr.gvs+TOKEN' or those of a plug-in "
        "that provides PO tokens.",
    )
    min_audio_kbps: int = setting(
        64,
        "The cheapest audio with at least this many kbit/s, and the stored sample rate, is fetched; if there is none, "
        "the best. That is Opus at about 70, which holds all frequencies, in half the bytes of the best.",
        results=True,
        ge=1,
    )
    base_url: str = setting("https://www.youtube.com", "Address of YouTube; another one for tests.")

    def validate(self) -> None:
        for egress in self.egresses:
            check(
                egress == DIRECT or (urlsplit(egress).scheme in _SCHEMES and bool(urlsplit(egress).hostname)),
                "youtube.egresses",
                f"expected direct, or scheme://host:port with one of {', '.join(_SCHEMES)}, found {egress!r}",
            )
        uses_socks = any(egress.startswith("socks") for egress in self.egresses)
        check(
            not uses_socks or find_spec("socks") is not None,
            "youtube.egresses",
            "a SOCKS proxy needs a package: pip install pysocks",
        )
        check(
            len(self.cookies) in (0, len(self.egresses)),
            "youtube.cookies",
            f"expected one file for each of {len(self.egresses)} egresses, '' for none, found {len(self.cookies)}",
        )
        accounts = set(zip(self.egresses, self.cookies or ("",) * len(self.egresses), strict=True))
        check(
            len(accounts) == len(self.egresses),
            "youtube.egresses",
            "names one of them twice with the same cookies: leave one out",
        )
        for path in self.cookies:
            check(not path or Path(path).is_file(), "youtube.cookies", f"{path}: there is no such file")
        for text in self.extractor_args:
            check(
                bool(re.fullmatch(r"[\w-]+:[\w-]+=.*", text)),
                "youtube.extractor_args",
                f"expected KEY:NAME=VALUE, as for yt-dlp, found {text[:60]!r}",
            )
        url = urlsplit(self.base_url)
        check(
            url.scheme in ("http", "https") and bool(url.hostname) and not url.path.strip("/"),
            "youtube.base_url",
            f"expected scheme://host[:port], found {self.base_url!r}",
        )

    def egresses_by_name(self) -> dict[str, Egress]:
        """Return the egresses by name; a name holds no password."""
        names = [_name(address) for address in self.egresses]
        egresses = {}
        for number, (name, address) in enumerate(zip(names, self.egresses, strict=True)):
            unique = name if names.count(name) == 1 else f"{name}#{number}"  # several accounts at one proxy
            egresses[unique] = Egress(
                name=unique,
                proxy="" if address == DIRECT else address,
                cookies=self.cookies[number] if self.cookies else "",
            )
        return egresses

    def local_budget(self) -> LocalBudget:
        """Return a budget of this process alone for the egresses."""
        return LocalBudget(self.budget, list(self.egresses_by_name()))


def _name(address: str) -> str:
    if address == DIRECT:
        return DIRECT
    url = urlsplit(address)
    return f"{url.scheme}://{url.hostname}" + (f":{url.port}" if url.port else "")
