"""The Q-Former condenses the audio tokens with learned queries (paper, section 3.1; Li et al., BLIP-2, 2023).

Its layers are BERT's, with the norm behind: self-attention among the queries, cross-attention to the audio,
feed-forward; a residual sum and a layer norm follow each.

Shape suffixes: B batch, Q queries, N audio tokens, W width, M memory width.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from autorecap.models.autocap.config import QFormerConfig


class Attention(nn.Module):
    """Multi-head attention of `x` to `memory` is followed by a residual sum and a layer norm."""

    def __init__(self, config: QFormerConfig, memory_width: int) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.dropout
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(memory_width, config.width)
        self.value = nn.Linear(memory_width, config.width)
        self.out = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.eps)

    def forward(self, x_BQW: Tensor, memory_BNM: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        """shape (B, Q, W), (B, N, M) and which tokens may be read (B, N) -> (B, Q, W)"""
        q, k, v = (
            rearrange(projection, "b n (h d) -> b h n d", h=self.num_heads)
            for projection in (self.query(x_BQW), self.key(memory_BNM), self.value(memory_BNM))
        )
        mask = None if mask_BN is None else mask_BN[:, None, None, :].bool()
        dropout = self.dropout if self.training else 0.0
        heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        out = self.out(rearrange(heads, "b h n d -> b n (h d)"))
        out_BQW: Tensor = self.norm(F.dropout(out, self.dropout, self.training) + x_BQW)
        return out_BQW


class FeedForward(nn.Module):
    """Two linear layers around an exact GELU are followed by a residual sum and a layer norm."""

    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        self.inner = nn.Linear(config.width, config.ffn_width)
        self.outer = nn.Linear(config.ffn_width, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self.dropout = config.dropout

    def forward(self, x_BQW: Tensor) -> Tensor:
        """shape (B, Q, W) -> (B, Q, W)"""
        out = self.outer(F.gelu(self.inner(x_BQW)))
        out_BQW: Tensor = self.norm(F.dropout(out, self.dropout, self.training) + x_BQW)
        return out_BQW


class QFormerLayer(nn.Module):
    """A layer of the Q-Former is self-attention, cross-attention and a feed-forward part."""

    def __init__(self, config: QFormerConfig, memory_width: int) -> None:
        super().__init__()
        self.self_attention = Attention(config, config.width)
        self.cross_attention = Attention(config, memory_width)
        self.ffn = FeedForward(config)

    def forward(self, x_BQW: Tensor, memory_BNM: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        """shape (B, Q, W) and (B, N, M) -> (B, Q, W)"""
        x_BQW = self.self_attention(x_BQW, x_BQW)
        x_BQW = self.cross_attention(x_BQW, memory_BNM, mask_BN)
        out_BQW: Tensor = self.ffn(x_BQW)
        return out_BQW


class QFormer(nn.Module):
    """The Q-Former refines `num_queries` learned vectors layer by layer with what they read in the memory."""

    def __init__(self, config: QFormerConfig, memory_width: int) -> None:
        super().__init__()
        self.config = config
        self.queries = nn.Parameter(torch.randn(1, config.num_queries, config.width) * 0.02)
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self.layers = nn.ModuleList(QFormerLayer(config, memory_width) for _ in range(config.num_layers))

    def forward(self, memory_BNM: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        """shape (B, N, M) and which tokens may be read (B, N) -> (B, num_queries, width)"""
        x_BQW = F.dropout(self.norm(self.queries), self.config.dropout, self.training)
        x_BQW = x_BQW.expand(len(memory_BNM), -1, -1)
        for layer in self.layers:
            x_BQW = layer(x_BQW, memory_BNM, mask_BN)
        return x_BQW
