"""HTSAT is the encoder whose time vectors AutoCap reads.

Shape suffixes: B batch, T frames, M mel bands, N time vectors, C channels.
"""

from torch import Tensor, nn

from autorecap.models.swin import SwinConfig, SwinEncoder


class Htsat(nn.Module):
    """HTSAT turns a log-mel spectrogram into time vectors, which become AutoCap's audio tokens."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.encoder = SwinEncoder(config)

    def forward(self, mel_BTM: Tensor) -> Tensor:
        """shape (B, T, M) -> (B, num_vectors, C)"""
        vectors_BNC: Tensor = self.encoder(mel_BTM)[0]
        return vectors_BNC
