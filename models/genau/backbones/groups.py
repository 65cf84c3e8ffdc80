"""Only those groups of a batch are computed that have sound in them.

FIT's layers work inside a group of patches, all but two: the attention among the latents of a clip, and theirs to its
context. So a batch of clips of several durations is the list of their groups, and what lies behind a clip's end is
never computed. Only those two attentions see clips: for them `unpack` lays the list out by clip, and `pack` undoes it.

Shape suffixes: B batch, T frames, K groups per clip, N groups in the list, G patches per group.
"""

from typing import NamedTuple

from einops import rearrange
from torch import Tensor

from autorecap.models.genau.backbones.config import FitConfig


class Groups(NamedTuple):
    """The groups of a batch form a list."""

    batch: int
    per_clip: int  # in the batch's longest clip
    index_N: Tensor | None = None  # of the list's groups among all B * K. None: the list is all of them
    patch_mask_NG: Tensor | None = None  # True where a patch holds sound. None: everywhere
    group_mask_BK: Tensor | None = None  # True where a group is in the list. None: everywhere

    def pack(self, x_BK: Tensor) -> Tensor:
        """Goes from clips to the list. shape (B, K, ...) -> (N, ...)"""
        x = x_BK.flatten(0, 1)
        return x if self.index_N is None else x.index_select(0, self.index_N)

    def unpack(self, x_N: Tensor) -> Tensor:
        """Goes from the list to clips, with 0 in the groups that are not in it. shape (N, ...) -> (B, K, ...)"""
        if self.index_N is not None:
            everywhere = x_N.new_zeros(self.batch * self.per_clip, *x_N.shape[1:])
            x_N = everywhere.index_copy(0, self.index_N, x_N)
        return rearrange(x_N, "(b k) ... -> b k ...", b=self.batch)


def group(x_BCT: Tensor, mask_BT: Tensor | None, config: FitConfig) -> Groups:
    """Lists the groups of a batch of latents. `mask_BT`: boolean, or None where all is sound.

    Where the mask lies on the CPU, nothing here waits for the device.
    """
    batch, _, frames = x_BCT.shape
    every = Groups(batch, frames // config.group_frames)
    if mask_BT is None or bool(mask_BT.all()):
        return every
    mask_BKGP = rearrange(mask_BT, "b (k g p) -> b k g p", g=config.group_size, p=config.patch_size)
    patch_mask_BKG = mask_BKGP.any(-1)
    group_mask_BK = patch_mask_BKG.any(-1)
    index_N = group_mask_BK.flatten().nonzero().squeeze(1)
    patch_mask_NG = patch_mask_BKG.flatten(0, 1)[index_N]

    def here(x: Tensor) -> Tensor | None:
        return None if bool(x.all()) else x.to(x_BCT.device, non_blocking=True)

    return Groups(
        every.batch,
        every.per_clip,
        index_N=None if bool(group_mask_BK.all()) else index_N.to(x_BCT.device, non_blocking=True),
        patch_mask_NG=here(patch_mask_NG),
        group_mask_BK=here(group_mask_BK),
    )
