"""GenAu a second time, as plainly as can be: functions over tensors with official names, without a module of ours.

It stands for the official code at sizes of which no numbers are at hand: tests/models/genau/test_released_size.py
first checks it against the official numbers of the small sizes. Shape suffixes as in `models/genau`.
"""

import math
from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

Weights = Mapping[str, Tensor]


class Under:
    """The weights under a prefix."""

    def __init__(self, weights: Weights, prefix: str = "") -> None:
        self.weights, self.prefix = weights, prefix

    def __getitem__(self, name: str) -> Tensor:
        return self.weights[self.prefix + name].float()

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.weights

    def under(self, name: str) -> "Under":
        return Under(self.weights, f"{self.prefix}{name}.")

    def all(self, pattern: str) -> list["Under"]:
        """`pattern.format(0)`, `pattern.format(1)`, ... as far as there are any."""
        found: list[Under] = []
        while any(name.startswith(self.prefix + pattern.format(len(found)) + ".") for name in self.weights):
            found.append(self.under(pattern.format(len(found))))
        return found

    def linear(self, name: str, x: Tensor) -> Tensor:
        y = F.linear(x, self[f"{name}.weight"])
        return y + self[f"{name}.bias"] if f"{name}.bias" in self else y

    def conv(self, name: str, x: Tensor, **how: int) -> Tensor:
        return F.conv1d(x, self[f"{name}.weight"], self[f"{name}.bias"], **how)


# --- FIT


def fit(w: Weights, x_BCT: Tensor, t_B: Tensor, text_BW: Tensor, ids_B: Tensor, groups: int, head: int) -> Tensor:
    """The noise in a latent of full length."""
    m = Under(w)
    patch = m["to_patches.0.weight"].shape[1] // x_BCT.shape[1]
    x = m.linear("to_patches.0", rearrange(x_BCT, "b c (n p) -> b n (c p)", p=patch))
    x = F.layer_norm(x, x.shape[-1:], m["to_patches.1.weight"], m["to_patches.1.bias"]) + m["patches_pe"]
    angle = 2 * math.pi * t_B[:, None] * m["time_mlp.0.weights"]
    time = torch.cat([t_B[:, None].float(), angle.sin(), angle.cos()], dim=1)
    time = m.linear("time_mlp.3", F.gelu(m.linear("time_mlp.1", time)))
    dataset = m.linear("dataset_id_conditioning_mlp.0", F.one_hot(ids_B, 32).float())
    context = torch.stack([m.linear("context_projection_summary_text_embeddings", text_BW), time, dataset], dim=1)
    latents = m["latents"].expand(len(x), -1, -1)
    for block in m.all("blocks.{}"):
        x = rearrange(x, "b (k g) p -> (b k) g p", k=groups)
        for layer in block.all("local_layers.{}"):
            x = _layer(layer.under("0"), layer.under("1"), x, None, head)
        if "latents_attend_to_patches.to_q.weight" in block:
            cross = block.under
            latents = _layer(
                cross("latents_attend_to_context"), cross("latents_context_attn_ff"), latents, context, head
            )
            latents = rearrange(latents, "b (k m) l -> (b k) m l", k=groups)
            latents = _layer(cross("latents_attend_to_patches"), cross("latents_cross_attn_ff"), latents, x, head)
            latents = rearrange(latents, "(b k) m l -> b (k m) l", k=groups)
            for layer in block.all("global_layers.{}"):
                latents = _layer(layer.under("0"), layer.under("1"), latents, None, head)
            own = rearrange(latents, "b (k m) l -> (b k) m l", k=groups)
            x = _layer(cross("patches_attend_to_latents"), cross("patches_cross_attn_ff"), x, own, head)
        x = rearrange(x, "(b k) g p -> b (k g) p", k=groups)
    x = m.linear("patch_to_pixels.1", F.layer_norm(x, x.shape[-1:], m["patch_to_pixels.0.gamma"]))
    return rearrange(x, "b n (c p) -> b c (n p)", p=patch)


def _layer(attention: Under, feed_forward: Under, x: Tensor, context: Tensor | None, head: int) -> Tensor:
    normed = F.layer_norm(x, x.shape[-1:], attention["norm.gamma"])
    if context is None:
        context = normed
    else:
        context = F.layer_norm(context, context.shape[-1:], attention["norm_context.gamma"])
    q = rearrange(attention.linear("to_q", normed), "b n (h d) -> b h n d", d=head)
    k, v = (rearrange(part, "b n (h d) -> b h n d", d=head) for part in attention.linear("to_kv", context).chunk(2, -1))
    found = (q @ k.mT / math.sqrt(head)).softmax(dim=-1) @ v
    x = x + attention.linear("to_out", rearrange(found, "b h n d -> b n (h d)"))
    last = "net.3" if "net.3.weight" in feed_forward else "net.2"
    hidden = feed_forward.linear("net.0", F.layer_norm(x, x.shape[-1:], feed_forward["norm.gamma"]))
    return x + feed_forward.linear(last, F.gelu(hidden))


# --- VAE


def encode(w: Weights, mel_BMT: Tensor) -> Tensor:
    """The posterior's mean."""
    m = Under(w, "encoder.")
    h = m.conv("conv_in", mel_BMT, padding=1)
    for level in m.all("down.{}"):
        for block in level.all("block.{}"):
            h = _block(block, h)
        if "downsample.conv.weight" in level:
            h = level.conv("downsample.conv", F.pad(h, (1, 1)), stride=2)
    h = m.conv("conv_out", F.silu(_norm(m, "norm_out", _middle(m.under("mid"), h))), padding=1)
    return Under(w).conv("quant_conv", h).chunk(2, dim=1)[0]


def decode(w: Weights, z_BCN: Tensor) -> Tensor:
    """The log-mel spectrogram of a latent."""
    m = Under(w, "decoder.")
    h = _middle(m.under("mid"), m.conv("conv_in", Under(w).conv("post_quant_conv", z_BCN), padding=1))
    for level in reversed(m.all("up.{}")):
        for block in level.all("block.{}"):
            h = _block(block, h)
        if "upsample.conv.weight" in level:
            h = level.conv("upsample.conv", F.interpolate(h, scale_factor=2.0, mode="nearest"), padding=1)
    return m.conv("conv_out", F.silu(_norm(m, "norm_out", h)), padding=1)


def _norm(m: Under, name: str, h: Tensor) -> Tensor:
    return F.group_norm(h, 32, m[f"{name}.weight"], m[f"{name}.bias"], 1e-6)


def _block(m: Under, x: Tensor) -> Tensor:
    h = m.conv("conv1", F.silu(_norm(m, "norm1", x)), padding=1)
    h = m.conv("conv2", F.silu(_norm(m, "norm2", h)), padding=1)
    return h + (m.conv("nin_shortcut", x) if "nin_shortcut.weight" in m else x)


def _middle(m: Under, h: Tensor) -> Tensor:
    h, attention = _block(m.under("block_1"), h), m.under("attn_1")
    normed = _norm(attention, "norm", h)
    q, k, v = (attention.conv(name, normed) for name in "qkv")
    found = v @ (q.mT @ k / math.sqrt(q.shape[1])).softmax(dim=-1).mT
    return _block(m.under("block_2"), h + attention.conv("proj_out", found))


# --- vocoder


def vocode(w: Weights, mel_BMT: Tensor) -> Tensor:
    """The waveform with its 32 samples too many."""
    m = Under(w)
    h = m.conv("conv_pre", mel_BMT, padding=3)
    for i, (rate, up) in enumerate(zip((5, 4, 2, 2, 2), m.all("ups.{}"), strict=True)):
        weight = up["weight"]
        h = F.conv_transpose1d(F.leaky_relu(h, 0.1), weight, up["bias"], rate, padding=(weight.shape[2] - rate) // 2)
        h = sum((_residual(m.under(f"resblocks.{3 * i + j}"), h) for j in range(3)), torch.zeros(())) / 3
    return m.conv("conv_post", F.leaky_relu(h), padding=3).tanh()[:, 0]


def _residual(m: Under, h: Tensor) -> Tensor:
    for i, dilation in enumerate((1, 3, 5)):
        reach = m[f"convs1.{i}.weight"].shape[2] // 2
        inner = m.conv(f"convs1.{i}", F.leaky_relu(h, 0.1), dilation=dilation, padding=reach * dilation)
        h = h + m.conv(f"convs2.{i}", F.leaky_relu(inner, 0.1), padding=reach)
    return h
