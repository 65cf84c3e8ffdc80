"""YouTube's video ids, and the addresses that hold them."""

import re
from urllib.parse import parse_qs, urlsplit

from autorecap.stages.origin import WATCH_URL

ID = re.compile(r"[A-Za-z0-9_-]{11}")

_HOSTS = ("youtube.com", "youtube-nocookie.com")
_SHORT_HOST = "youtu.be"
_ID_FOLDERS = ("shorts", "embed", "live", "v", "e")


def watch_url(video_id: str) -> str:
    """Return the address of a video. In the plan it is the `media` of a video that has to be fetched."""
    return WATCH_URL + video_id


def video_id_of(text: str) -> str | None:
    """Return the id in an address of a video, or in a bare id; None where there is none.

    It knows watch, youtu.be, shorts, embed, live and v addresses, with any parameters, with or without scheme.
    """
    text = text.strip()
    if ID.fullmatch(text):
        return text
    try:
        url = urlsplit(text if "://" in text else f"https://{text}")
        host = (url.hostname or "").lower()
    except ValueError:  # such as a bracket that opens no IPv6 address
        return None
    parts = [part for part in url.path.split("/") if part]
    if host == _SHORT_HOST:
        video_id = parts[0] if parts else ""
    elif any(host == known or host.endswith(f".{known}") for known in _HOSTS):
        video_id = parts[1] if len(parts) > 1 and parts[0] in _ID_FOLDERS else parse_qs(url.query).get("v", [""])[0]
    else:
        return None
    return video_id if ID.fullmatch(video_id) else None
