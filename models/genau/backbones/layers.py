"""A layer of FIT is attention, then feed-forward, each with its norm in front and added to its input.

Norms have a gain and no bias, projections of the attention have no bias; there is no modulation by the timestep, which
comes in as a context token. Shape suffixes: N groups (or clips), Q queries, K keys, H heads, W width, D width per head.
"""

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from autorecap.models.genau.backbones.groups import Groups


def norm(width: int) -> nn.LayerNorm:
    """Returns a layer norm that has a gain and no bias."""
    return nn.LayerNorm(width, bias=False)


class Attention(nn.Module):
    """Tokens attend to each other, or to a context where a `context_width` is given, with several heads."""

    def __init__(self, width: int, hidden: int, head_width: int, context_width: int | None = None) -> None:
        super().__init__()
        self.heads = hidden // head_width
        self.norm = norm(width)
        self.context_norm = None if context_width is None else norm(context_width)
        self.query = nn.Linear(width, hidden, bias=False)
        self.key_value = nn.Linear(context_width or width, 2 * hidden, bias=False)
        self.out = nn.Linear(hidden, width, bias=False)

    def forward(
        self,
        x_NQW: Tensor,
        context_NKW: Tensor | None = None,
        mask_NK: Tensor | None = None,
        clips: Groups | None = None,
    ) -> Tensor:
        """shape (N, Q, W) -> (N, Q, W)

        `mask_NK`: True for the keys that count.
        `clips`: attend within clips instead of groups. `context_NKW` and `mask_NK` then have a row per clip.
        """
        x_NQW = self.norm(x_NQW)
        query = self.query(x_NQW)
        if context_NKW is None or self.context_norm is None:
            key_value = self.key_value(x_NQW)
        else:
            key_value = self.key_value(self.context_norm(context_NKW))
        if clips is not None:
            query = clips.unpack(query).flatten(1, 2)
            key_value = clips.unpack(key_value).flatten(1, 2) if context_NKW is None else key_value
        query_NHQD = rearrange(query, "n q (h d) -> n h q d", h=self.heads)
        key_NHKD, value_NHKD = rearrange(key_value, "n k (two h d) -> two n h k d", two=2, h=self.heads)
        mask = None if mask_NK is None else mask_NK[:, None, None]
        attended = F.scaled_dot_product_attention(query_NHQD, key_NHKD, value_NHKD, attn_mask=mask)
        attended = rearrange(attended, "n h q d -> n q (h d)")
        if clips is not None:
            attended = clips.pack(rearrange(attended, "b (k q) w -> b k q w", k=clips.per_clip))
        out_NQW: Tensor = self.out(attended)
        return out_NQW


class FeedForward(nn.Module):
    """A norm is followed by an MLP that is four times as wide inside."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = norm(width)
        self.inner = nn.Linear(width, 4 * width)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(4 * width, width)

    def forward(self, x_NQW: Tensor) -> Tensor:
        """shape (N, Q, W) -> (N, Q, W)"""
        out_NQW: Tensor = self.out(self.dropout(F.gelu(self.inner(self.norm(x_NQW)))))
        return out_NQW


class Layer(nn.Module):
    """Attention and feed-forward are each added to their input."""

    def __init__(
        self, width: int, hidden: int, head_width: int, *, context_width: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attention = Attention(width, hidden, head_width, context_width)
        self.feed_forward = FeedForward(width, dropout)

    def forward(
        self,
        x_NQW: Tensor,
        context_NKW: Tensor | None = None,
        mask_NK: Tensor | None = None,
        clips: Groups | None = None,
    ) -> Tensor:
        """shape (N, Q, W) -> (N, Q, W); the other arguments are the attention's."""
        x_NQW = x_NQW + self.attention(x_NQW, context_NKW, mask_NK, clips)
        out_NQW: Tensor = x_NQW + self.feed_forward(x_NQW)
        return out_NQW
