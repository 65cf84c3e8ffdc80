"""AutoCap, the audio captioner: its modules, its search for captions, its files, and the official weights."""

from autorecap.models.autocap.config import SIZES, AutoCapConfig
from autorecap.models.autocap.model import AutoCap
from autorecap.models.autocap.tokens import CaptionTokenizer
from autorecap.models.files import ModelFilesError

__all__ = ["SIZES", "AutoCap", "AutoCapConfig", "CaptionTokenizer", "ModelFilesError"]
