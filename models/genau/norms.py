"""VAE and U-Net share this group norm, which looks at the sound of a clip and not at the padding behind it.

Shape suffixes: B batch, C channels, T frames, G norm groups.
"""

import torch
from einops import rearrange
from torch import Tensor, nn


def at_least_float32(x: Tensor) -> Tensor:
    """Returns the tensor in float32, or in float64 where it already is: bf16 is too coarse for means and variances."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class GroupNorm(nn.GroupNorm):
    """A group norm runs over a clip's sound, and gives 0 behind its end, as convolutions find behind any clip."""

    def forward(self, x_BCT: Tensor, mask_B1T: Tensor | None = None) -> Tensor:
        """shape (B, C, T) -> (B, C, T). `mask_B1T`: True where a frame holds sound. None: everywhere."""
        if mask_B1T is None:  # not super().forward, which refuses a single clip of a single frame
            return torch.group_norm(x_BCT, self.num_groups, self.weight, self.bias, self.eps)
        x_BGCT = rearrange(at_least_float32(x_BCT), "b (g c) t -> b g c t", g=self.num_groups)
        padding_B11T = ~mask_B1T[:, :, None]
        count = mask_B1T.sum(dim=2)[..., None, None] * x_BGCT.shape[2]
        mean = x_BGCT.masked_fill(padding_B11T, 0).sum(dim=(2, 3), keepdim=True) / count
        centred_BGCT = (x_BGCT - mean).masked_fill(padding_B11T, 0)
        variance = centred_BGCT.square().sum(dim=(2, 3), keepdim=True) / count
        normal_BCT = (centred_BGCT * (variance + self.eps).rsqrt()).flatten(1, 2)
        normal_BCT = normal_BCT * self.weight[:, None] + self.bias[:, None]
        return normal_BCT.masked_fill(~mask_B1T, 0).to(x_BCT.dtype)
