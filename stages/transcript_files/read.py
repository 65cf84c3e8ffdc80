"""Reading of transcript files. The content decides on the format; the name only serves the messages."""

import codecs
import json
import re
from decimal import Decimal
from typing import Any

from autorecap.base.files import open_bytes
from autorecap.stages.transcript_files.api_json import parse_api_json
from autorecap.stages.transcript_files.json3 import parse_json3, parse_regular_json3
from autorecap.stages.transcript_files.timedtext import parse_timedtext
from autorecap.stages.transcript_files.transcript import Transcript, TranscriptError
from autorecap.stages.transcript_files.ttml import parse_ttml
from autorecap.stages.transcript_files.vtt_srt import has_timing_line, parse_vtt_srt

MAX_BYTES = 32 * 2**20  # twelve hours of speech with a time for every word are 8 MB of json3

_EXPECTED = "expected json3, srv1, srv2, srv3, ttml, vtt, srt or a list of {text, start, duration}"
_BOMS = [  # the longer first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
_HTML = re.compile(r"<(?:!doctype\s+)?html\b", re.IGNORECASE)
_TTML = re.compile(r"<(?:\w{1,40}:)?tt[\s>]")


def read_transcript(data: bytes, name: str) -> Transcript:
    """Read the transcript in `data`. Raises TranscriptError alone, whose message begins with `name`."""
    try:
        return _parse(data)
    except TranscriptError as error:
        raise TranscriptError(f"{name}: {error}") from None


def read_bytes(path: str) -> bytes:
    """Read the file at a path or URL, or as much of it as shows that it is too large. Raises OSError."""
    with open_bytes(path) as file:
        return file.read(MAX_BYTES + 1)


def _parse(data: bytes) -> Transcript:
    if len(data) > MAX_BYTES:
        raise TranscriptError(f"more than {MAX_BYTES // 2**20} MB, expected a transcript")
    text = _decode(data)
    head = text[:4000].lstrip()
    if not head and not text.strip():
        raise TranscriptError(
            "an empty file, which is no proof of silence: YouTube answers so when a token (PO token) is missing. "
            "Fetch the transcript again"
        )
    if head.startswith(("{", "[")):
        return _parse_json(text)
    if head.startswith("<"):
        return _parse_xml(text.lstrip())
    if head.startswith("WEBVTT"):
        return parse_vtt_srt(text, is_vtt=True)
    if has_timing_line(head):
        return parse_vtt_srt(text, is_vtt=False)
    raise TranscriptError(f"begins with {head[:40]!r}, {_EXPECTED}")


def _decode(data: bytes) -> str:
    encoding = next((encoding for bom, encoding in _BOMS if data.startswith(bom)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise TranscriptError(
            f"not {encoding} (byte {data[error.start]:#04x} at {error.start}), expected UTF-8, or UTF-16 with its mark"
        ) from None


def load_json(text: str) -> Any:
    """Decode JSON, with decimal fractions kept exact. Raises TranscriptError."""
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, ArithmeticError) as error:  # the second: an exponent that no Decimal can hold
        raise TranscriptError(f"not well-formed JSON ({error}): cut off, or no transcript"[:200]) from None
    except RecursionError:
        raise TranscriptError("JSON nested a thousand deep, expected a transcript") from None


def _parse_json(text: str) -> Transcript:
    if regular := parse_regular_json3(text):
        return regular
    document = load_json(text)
    if isinstance(document, list):
        return parse_api_json(document)
    if "events" in document or "wireMagic" in document:
        return parse_json3(document)
    keys = ", ".join(sorted(document)[:5])[:80] or "none"
    raise TranscriptError(f"JSON without events (its keys: {keys}), {_EXPECTED}")


def _parse_xml(text: str) -> Transcript:
    head = text[:4000]
    if _HTML.search(head):
        raise TranscriptError(f"an HTML page, such as a service sends in place of what it refuses, {_EXPECTED}")
    return parse_ttml(text) if _TTML.search(head) else parse_timedtext(text)
