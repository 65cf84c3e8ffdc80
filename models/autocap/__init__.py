"""AutoCap, the audio captioner."""

from models.autocap.config import SIZES, AutoCapConfig
from models.autocap.model import AutoCap
from models.autocap.pretrained import ModelFilesError
from models.autocap.tokens import CaptionTokenizer

__all__ = ["SIZES", "AutoCap", "AutoCapConfig", "CaptionTokenizer", "ModelFilesError"]
