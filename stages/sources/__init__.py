"""Reads the sources of videos and captioned clips: folders, lists of online videos, audio sets."""

from autorecap.stages.sources.audio_sets import AudioList, CaptionedAudio, locate, read_audio_list
from autorecap.stages.sources.errors import SourceError
from autorecap.stages.sources.folder import Folder, read_folder

__all__ = [
    "AudioList",
    "CaptionedAudio",
    "Folder",
    "SourceError",
    "locate",
    "read_audio_list",
    "read_folder",
]
