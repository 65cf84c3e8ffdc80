"""The audio branch of CLAP: one vector for the whole clip, in the space that CLAP shares with texts.

Wu et al., "Large-scale Contrastive Language-Audio Pretraining", 2023.
Shape suffixes: B batch, T frames, M mel bands, P joint width.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from models.swin import SwinConfig, SwinEncoder


class ClapAudio(nn.Module):
    """Swin encoder, pooled, projected, of unit length."""

    def __init__(self, config: SwinConfig, joint_width: int) -> None:
        super().__init__()
        self.encoder = SwinEncoder(config)
        self.projection = nn.Sequential(
            nn.Linear(config.out_width, joint_width), nn.ReLU(), nn.Linear(joint_width, joint_width)
        )

    def forward(self, mel_BTM: Tensor) -> Tensor:
        """shape (B, T, M) -> (B, P), L2-normalised"""
        _, pooled_BC = self.encoder(mel_BTM)
        return F.normalize(self.projection(pooled_BC), dim=-1)
