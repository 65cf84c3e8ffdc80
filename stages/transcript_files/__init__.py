"""Transcripts as files: every format that YouTube and its tools write, and the choice among several tracks.

One file per format, each from decoded text to cues; `read.py` picks the format by content, `choice.py` the track.
"""

from autorecap.stages.transcript_files.read import read_bytes, read_transcript
from autorecap.stages.transcript_files.transcript import Transcript, TranscriptError

__all__ = ["Transcript", "TranscriptError", "read_bytes", "read_transcript"]
