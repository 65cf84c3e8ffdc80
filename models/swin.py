"""The Swin transformer over spectrograms that HTSAT and CLAP's audio branch share.

Chen et al., "HTS-AT: A Hierarchical Token-Semantic Audio Transformer", 2022. The Swin blocks are the ones that
transformers has for CLAP; the mel front-end is ours, batched and on the model's device.
Shape suffixes: B batch, T frames, M mel bands, N time vectors, C channels.
"""

from dataclasses import dataclass

from einops import reduce
from torch import Tensor, nn
from transformers import ClapAudioConfig
from transformers.models.clap.modeling_clap import ClapAudioEncoder

from models.audio import LogMel, MelConfig


@dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """An HTSAT encoder: a Swin transformer over a mel spectrogram that is folded to a square image."""

    mel: MelConfig
    patch: int = 4  # mel bands and frames per patch of the image
    width: int = 96  # channels of the first stage; each further stage has twice as many
    depths: tuple[int, ...] = (2, 2, 6, 2)  # blocks per stage
    heads: tuple[int, ...] = (4, 8, 16, 32)  # attention heads per stage
    window: int = 8  # patches per side of an attention window
    image: int = 256  # pixels per side: 64 bands x 4 chunks of time, and 256 frames
    drop_path: float = 0.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.heads):
            raise ValueError(f"swin: {len(self.depths)} depths but {len(self.heads)} heads: one of each per stage")
        if self.image % (self.patch * 2 ** (len(self.depths) - 1)):
            raise ValueError(f"swin: an image of {self.image} does not divide into {self.patch}-patches and stages")

    @property
    def out_width(self) -> int:
        """Channels of the last stage."""
        return self.width * 2 ** (len(self.depths) - 1)


class SwinEncoder(nn.Module):
    """Log-mel, batch norm over the bands, and Swin blocks. Serves HTSAT and CLAP's audio branch."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.mel = LogMel(config.mel)
        self.swin = ClapAudioEncoder(
            ClapAudioConfig(
                window_size=config.window,
                num_mel_bins=config.mel.num_mels,
                spec_size=config.image,
                patch_size=config.patch,
                patch_stride=[config.patch, config.patch],
                patch_embeds_hidden_size=config.width,
                hidden_size=config.out_width,
                depths=list(config.depths),
                num_attention_heads=list(config.heads),
                num_hidden_layers=len(config.depths),
                drop_path_rate=config.drop_path,
                hidden_dropout_prob=config.dropout,
                attention_probs_dropout_prob=config.dropout,
            )
        )

    @property
    def num_vectors(self) -> int:
        """Time vectors per window: 32 at the usual sizes."""
        chunks = self.config.image // self.config.mel.num_mels  # of time, stacked in the image
        return chunks * self.config.image // (self.config.patch * 2 ** (len(self.config.depths) - 1))

    def forward(self, mel_BTM: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mels, as `self.mel` makes them of waveforms. shape (B, T, M) -> time vectors (B, N, C), pooled (B, C)"""
        out = self.swin(mel_BTM[:, None])
        return reduce(out.last_hidden_state, "b c f n -> b n c", "mean"), out.pooler_output
