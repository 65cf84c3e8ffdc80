"""PatchGAN tells which patches of a log-mel spectrogram look real (Isola et al., 2017); it trains the VAE.

Here the spectrogram is an image of one channel. Names of weights are those of taming-transformers.
Shape suffixes: B batch, T frames, M mel bands.
"""

import torch
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Convolutions halve the image `num_layers` times, then score each patch. The first layer has no norm.

    In training mode batch norm reads the statistics of the images it is given, so real and made ones go in apart.
    """

    def __init__(self, width: int = 64, num_layers: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        wide = width
        for i in range(1, num_layers + 1):
            narrow, wide = wide, width * min(2**i, 8)
            stride = 2 if i < num_layers else 1
            layers += [
                nn.Conv2d(narrow, wide, 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(wide),
                nn.LeakyReLU(0.2),
            ]
        self.main = nn.Sequential(*layers, nn.Conv2d(wide, 1, 4, padding=1))
        self.apply(_start)

    def forward(self, image_B1TM: Tensor) -> Tensor:
        """Returns scores, high where a patch looks real. shape (B, 1, T, M) -> (B, 1, about T / 8, about M / 8)"""
        scores: Tensor = self.main(image_B1TM)
        return scores


@torch.no_grad()
def _start(layer: nn.Module) -> None:
    """Draws small weights, as DCGAN starts from."""
    if isinstance(layer, nn.Conv2d):
        layer.weight.normal_(0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        layer.weight.normal_(1.0, 0.02)
        layer.bias.zero_()
