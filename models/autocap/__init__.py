"""AutoCap, the audio captioner, is defined here: modules, search, files, and how official weights are read."""

from autorecap.models.autocap.config import SIZES, AutoCapConfig
from autorecap.models.autocap.model import AutoCap
from autorecap.models.autocap.tokens import CaptionTokenizer
from autorecap.models.files import ModelFilesError

__all__ = ["SIZES", "AutoCap", "AutoCapConfig", "CaptionTokenizer", "ModelFilesError"]
