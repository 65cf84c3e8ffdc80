"""Perceptual distances tell how different two log-mel spectrograms look: one number per pair, beside a plain L1.

`Lpips` is the official VAE's term and needs trained weights. `Multiscale` needs none: it has no learned notion of
likeness, it weighs blurs and shifted edges otherwise than L1 does. Shape suffixes: B batch, T frames, M mel bands.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# VGG-16 up to its last convolution, by width of each convolution. Between the slices, pooling halves the image.
_SLICES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# What is subtracted from an image in [-1, 1], and what it is divided by, per colour: ImageNet's statistics.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Multiscale(nn.Module):
    """The L1 of two images, and of their differences to the next frame and band, is averaged over blocks of 1, 2, 4, 8.

    Coarse blocks forgive what is a little out of place and L1 does not; differences ask for sharp edges.
    """

    scales = (1, 2, 4, 8)

    def forward(self, real_B1TM: Tensor, made_B1TM: Tensor) -> Tensor:
        """shape (B, 1, T, M), twice -> (B,)"""
        difference = made_B1TM - real_B1TM  # averages and differences are linear: of this one image, in place of two
        total = difference.new_zeros(len(difference))
        scales = [scale for scale in self.scales if 2 * scale <= min(difference.shape[2:])]
        for scale in scales:
            coarse = F.avg_pool2d(difference, scale)
            for part in (coarse, coarse.diff(dim=2), coarse.diff(dim=3)):
                total = total + part.abs().mean(dim=(1, 2, 3))
        return total / len(scales)


class Lpips(nn.Module):
    """LPIPS is the weighted squared distance of VGG-16's unit feature vectors (Zhang et al., 2018).

    Names of weights are those of taming-transformers. A new one has random weights: load weights before use, from an
    official VAE checkpoint, which carries them (`genau/official/vae.py`). It is frozen, and always in evaluation mode.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scaling_layer = _Scaling()
        self.net = _Vgg()
        for i, widths in enumerate(_SLICES):
            # An entry of nothing in front: in the official code that is the dropout.
            self.add_module(
                f"lin{i}", nn.ModuleDict({"model": nn.Sequential(nn.Identity(), _weights_per_channel(widths[-1]))})
            )
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Lpips":
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, real_B1TM: Tensor, made_B1TM: Tensor) -> Tensor:
        """shape (B, 1, T, M), twice -> (B,). Images of one channel are seen as grey. At least 16 frames and bands."""
        real, made = self.net(self.scaling_layer(real_B1TM)), self.net(self.scaling_layer(made_B1TM))
        total = made_B1TM.new_zeros(len(made_B1TM))
        for i, (a, b) in enumerate(zip(real, made, strict=True)):
            weigh = self.get_submodule(f"lin{i}.model")
            total = total + weigh((_unit(a) - _unit(b)).square()).mean(dim=(1, 2, 3))
        return total


class _Scaling(nn.Module):
    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(_SHIFT)[None, :, None, None])
        self.register_buffer("scale", torch.tensor(_SCALE)[None, :, None, None])

    def forward(self, image: Tensor) -> Tensor:
        """shape (B, 1, T, M) -> (B, 3, T, M)"""
        return (image - self.shift) / self.scale


class _Vgg(nn.Module):
    """VGG-16's convolutions are numbered through, as torchvision numbers them."""

    def __init__(self) -> None:
        super().__init__()
        number, width_in = 0, 3
        for i, widths in enumerate(_SLICES, start=1):
            layers = nn.Sequential()
            if i > 1:
                layers.add_module(str(number), nn.MaxPool2d(2))
                number += 1
            for width in widths:
                layers.add_module(str(number), nn.Conv2d(width_in, width, 3, padding=1))
                layers.add_module(str(number + 1), nn.ReLU())
                number, width_in = number + 2, width
            self.add_module(f"slice{i}", layers)

    def forward(self, image: Tensor) -> list[Tensor]:
        """shape (B, 3, T, M) -> the output of each slice"""
        out = []
        for part in self.children():
            image = part(image)
            out.append(image)
        return out


def _weights_per_channel(width: int) -> nn.Conv2d:
    return nn.Conv2d(width, 1, 1, bias=False)


def _unit(features: Tensor) -> Tensor:
    """Returns feature vectors of unit length.

    A length has no derivative at 0, and ReLU makes vectors that are 0.
    """
    length: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)  # its gradient at 0 is taken as 0
    return features / (length + 1e-10)
