"""What the fake says: a watch page of real size, the player's answer, captions in each of YouTube's formats."""

import gzip
import json
import random
from functools import cache
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.fakes.youtube.videos import Cues, FakeVideo

API_KEY = "AIzaSyFake_fake_fake_fake_fake_fake_0123"
PAGE_BYTES = 1_000_000
"""Of a watch page. It says next to nothing that is needed, and is most of what goes over the wire."""

BOT = "Sign in to confirm you\N{RIGHT SINGLE QUOTATION MARK}re not a bot"
REFUSED: dict[str, tuple[str, str]] = {
    "private": ("LOGIN_REQUIRED", "This video is private"),
    "deleted": ("ERROR", "This video is unavailable"),
    "terminated": ("ERROR", "This video is no longer available because the YouTube account was terminated."),
    "age": ("LOGIN_REQUIRED", "This video may be inappropriate for some users."),
    "geo": ("UNPLAYABLE", "The uploader has not made this video available in your country"),
    "members": ("UNPLAYABLE", "Join this channel to get access to members-only content like this video."),
    "upcoming": ("LIVE_STREAM_OFFLINE", "This live event will begin in 2 days."),
    "bot": ("LOGIN_REQUIRED", BOT),
}
_ITAGS: dict[str, dict[str, Any]] = {
    "139": {"mimeType": 'audio/mp4; codecs="mp4a.40.5"', "bitrate": 49_000, "audioSampleRate": "22050"},
    "140": {"mimeType": 'audio/mp4; codecs="mp4a.40.2"', "bitrate": 130_000, "audioSampleRate": "44100"},
    "249": {"mimeType": 'audio/webm; codecs="opus"', "bitrate": 55_000, "audioSampleRate": "48000"},
    "250": {"mimeType": 'audio/webm; codecs="opus"', "bitrate": 72_000, "audioSampleRate": "48000"},
    "251": {"mimeType": 'audio/webm; codecs="opus"', "bitrate": 140_000, "audioSampleRate": "48000"},
    "160": {"mimeType": 'video/mp4; codecs="avc1.4d400c"', "bitrate": 90_000, "width": 256, "height": 144, "fps": 25},
}
CAPTCHA = '<html><body><form action="index" method="post"><div class="g-recaptcha"></div></form></body></html>'
CONSENT = (
    b'<html><form action="https://consent.youtube.com/s" method="POST">'
    b'<input type="hidden" name="v" value="cb.20260101-00-p0.en+FX+000"></form></html>'
)


@cache
def _filler(seed: int) -> bytes:
    """Half of a page, gzipped: it looks like the scripts and data of a real one, and shrinks like them."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 12))) for _ in range(400)]
    shapes = [
        f'{{"{draw.choice(words)}Renderer":{{"{draw.choice(words)}":{{"simpleText":"%s"}},"{draw.choice(words)}":"%x",'
        f'"navigationEndpoint":{{"clickTrackingParams":"%x","{draw.choice(words)}":{{"url":"/{draw.choice(words)}"}}}}}}}},'
        for _ in range(60)
    ]
    parts, size = [], 0
    while size < PAGE_BYTES // 2:
        text = " ".join(draw.choices(words, k=draw.randint(1, 6)))
        part = draw.choice(shapes) % (text, draw.getrandbits(48), draw.getrandbits(48))
        parts.append(part)
        size += len(part)
    return gzip.compress("".join(parts).encode(), 6)


def watch_page(video_id: str, video: FakeVideo, key: str) -> bytes:
    """The page, gzipped in three members, of which only the middle one is the video's own."""
    own = f'ytcfg.set({{"INNERTUBE_API_KEY":"{key}","VIDEO":"{video_id}"}});<title>{escape(video.title)}</title>'
    own += f'<link rel="alternate" href="https://m.youtube.com/watch?v={video_id}&amp;app=desktop">'
    return _filler(1) + gzip.compress(own.encode(), 1) + _filler(2)


def player(video_id: str, video: FakeVideo, base: str, befalls: str) -> dict[str, Any]:
    """The player's answer to one of the apps."""
    details = {
        "videoId": video_id,
        "title": video.title,
        "lengthSeconds": str(round(video.duration_ms / 1000)),
        "shortDescription": video.description,
        "isLiveContent": video.mishap in ("live", "upcoming"),
        "author": "Somebody",
        "channelId": "UC" + "a" * 22,
    }
    if befalls in REFUSED:
        status, reason = REFUSED[befalls]
        return {"playabilityStatus": {"status": status, "reason": reason}, "videoDetails": details}
    answer: dict[str, Any] = {"playabilityStatus": {"status": "OK"}, "videoDetails": details}
    if video.mishap == "live":
        details["isLive"] = True
    answer["streamingData"] = {"expiresInSeconds": "21540", "adaptiveFormats": _formats(video_id, video, base)}
    if tracks := _tracks(video_id, video):
        answer["captions"] = {
            "playerCaptionsTracklistRenderer": {
                "captionTracks": tracks,
                "translationLanguages": [
                    {"languageCode": code, "languageName": {"runs": [{"text": code}]}} for code in ("de", "en", "fr")
                ],
            }
        }
    return answer


def _formats(video_id: str, video: FakeVideo, base: str) -> list[dict[str, Any]]:
    if video.mishap == "no_audio":
        files: dict[str, Path | None] = {"160": None}
    else:
        files = {**video.media} if video.media else {"140": None}  # None: offered, and not there
    return [
        {
            "itag": int(itag),
            "url": f"{_media_base(video, base)}/videoplayback?{urlencode({'id': video_id, 'itag': itag})}",
            "contentLength": str(Path(path).stat().st_size if path else 320_000),
            "approxDurationMs": str(video.duration_ms),
            "audioChannels": 1,
            "averageBitrate": _ITAGS[itag]["bitrate"],
            **_ITAGS[itag],
        }
        for itag, path in files.items()
    ]


def _media_base(video: FakeVideo, base: str) -> str:
    return "http://169.254.169.254" if video.mishap == "media_elsewhere" else base


def _tracks(video_id: str, video: FakeVideo) -> list[dict[str, Any]]:
    if video.mishap == "no_captions":
        return []
    tracks = []
    for kind, found in (("", video.manual), ("asr", video.auto)):
        for language in found:
            code = "ja" if video.mishap == "no_english" else language
            query = {"v": video_id, "lang": code, **({"kind": kind} if kind else {})}
            token = "&exp=xpe" if video.mishap == "po_token" else ""
            tracks.append(
                {
                    "baseUrl": f"https://www.youtube.com/api/timedtext?{urlencode(query)}{token}&fmt=srv3",
                    "name": {"runs": [{"text": f"{code} {kind}".strip()}]},
                    "languageCode": code,
                    "isTranslatable": True,
                    **({"kind": kind} if kind else {}),
                }
            )
    return tracks


def timed_text(cues: Cues, fmt: str, *, auto: bool) -> tuple[bytes, str]:
    """Captions and their content type. `fmt`: json3, srv3, or srv1, which is what no fmt means."""
    if fmt == "json3":
        return json.dumps(_json3(cues, auto=auto)).encode(), "application/json"
    if fmt == "srv3":
        rows = "".join(f'<p t="{start}" d="{ms}">{_words(text, auto)}</p>' for start, ms, text in cues)
        return f'<?xml version="1.0"?><timedtext format="3"><body>{rows}</body></timedtext>'.encode(), "text/xml"
    rows = "".join(
        f'<text start="{start / 1000:g}" dur="{ms / 1000:g}">{escape(escape(text, quote=False))}</text>'
        for start, ms, text in cues
    )
    return f'<?xml version="1.0"?><transcript>{rows}</transcript>'.encode(), "text/xml"


def _json3(cues: Cues, *, auto: bool) -> dict[str, Any]:
    end = max((start + ms for start, ms, _ in cues), default=0)
    window = {"tStartMs": 0, "dDurationMs": end, "id": 1, "wpWinPosId": 1, "wsWinStyleId": 1}
    events: list[dict[str, Any]] = [window] if auto else []
    for start, ms, text in cues:
        segs: list[dict[str, Any]] = [{"utf8": text}]
        if auto:
            words, step = text.split(" "), 250
            segs = [
                {"utf8": word if i == 0 else f" {word}", "acAsrConf": 0, **({"tOffsetMs": i * step} if i else {})}
                for i, word in enumerate(words)
            ]
        events.append({"tStartMs": start, "dDurationMs": ms, "segs": segs, **({"wWinId": 1} if auto else {})})
    return {"wireMagic": "pb3", "events": events}


def _words(text: str, auto: bool) -> str:
    if not auto:
        return escape(text, quote=False)
    return "".join(
        f'<s t="{250 * i}" ac="0">{escape(" " * bool(i) + word, quote=False)}</s>'
        for i, word in enumerate(text.split(" "))
    )
