"""Transcripts: every format that YouTube and its tools write, the choice among several, and the stage that reads them.

One file per format, each from decoded text to cues; `read.py` picks the format by content, `choice.py` the track.
"""

from autorecap.stages.transcripts.read import read_bytes, read_transcript
from autorecap.stages.transcripts.stage import Transcripts, TranscriptsConfig
from autorecap.stages.transcripts.transcript import Transcript, TranscriptError

__all__ = ["Transcript", "TranscriptError", "Transcripts", "TranscriptsConfig", "read_bytes", "read_transcript"]
