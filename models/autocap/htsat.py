"""HTSAT: the encoder whose time vectors AutoCap reads.

Chen et al., "HTS-AT: A Hierarchical Token-Semantic Audio Transformer", 2022. The Swin blocks are the ones that
transformers has for CLAP; the mel front-end is ours, batched and on the model's device.
Shape suffixes: B batch, T frames, M mel bands, N time vectors, C channels.
"""

from einops import reduce
from torch import Tensor, nn
from transformers import ClapAudioConfig
from transformers.models.clap.modeling_clap import ClapAudioEncoder

from models.audio import LogMel
from models.autocap.config import SwinConfig


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


class Htsat(nn.Module):
    """HTSAT's time vectors as audio tokens."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.encoder = SwinEncoder(config)

    @property
    def num_vectors(self) -> int:
        return self.encoder.num_vectors

    def forward(self, mel_BTM: Tensor) -> Tensor:
        """shape (B, T, M) -> (B, num_vectors, C)"""
        return self.encoder(mel_BTM)[0]
