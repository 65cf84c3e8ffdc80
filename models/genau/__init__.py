"""GenAu, the text-to-audio generator (paper, section 3.3)."""

from autorecap.models.genau.config import SIZES, ContextConfig, FitConfig, UNetConfig

__all__ = ["SIZES", "ContextConfig", "FitConfig", "UNetConfig"]
