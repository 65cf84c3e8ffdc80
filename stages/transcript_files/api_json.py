"""The list that youtube-transcript-api returns and many tools store: `[{"text", "start", "duration"}]`, in seconds."""

from typing import Any

from autorecap.stages.transcript_files.rows import Row, to_cues
from autorecap.stages.transcript_files.times import to_ms
from autorecap.stages.transcript_files.transcript import Transcript, TranscriptError


def parse_api_json(snippets: list[Any]) -> Transcript:
    """Read the transcript in a decoded list of snippets. Raises TranscriptError."""
    rows = []
    for number, snippet in enumerate(snippets, 1):
        text = snippet.get("text") if isinstance(snippet, dict) else None
        if not isinstance(text, str):
            raise TranscriptError(
                f"snippet {number} is {str(snippet)[:40]!r}, expected an object with text, start and duration"
            )
        start_ms = to_ms(snippet.get("start"), unit_ms=1000)
        if start_ms is None:
            if not text.strip():
                continue
            raise TranscriptError(f"start of snippet {number} is {str(snippet.get('start'))[:40]!r}, expected seconds")
        rows.append(Row(start_ms, to_ms(snippet.get("duration"), unit_ms=1000), [text], [0]))
    return Transcript(to_cues(rows), "api")
