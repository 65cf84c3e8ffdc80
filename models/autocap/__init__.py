"""AutoCap, the audio captioner."""

from models.autocap.config import SIZES, AutoCapConfig
from models.autocap.model import AutoCap
from models.autocap.tokens import CaptionTokenizer
from models.files import ModelFilesError

__all__ = ["SIZES", "AutoCap", "AutoCapConfig", "CaptionTokenizer", "ModelFilesError"]
