"""Weights of the released AutoCap's kind, made by the recipe `autocap-parity-v1`, and its waveforms.

Every tensor is drawn from a generator that its official name seeds, so whoever knows the names has the same weights.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from autorecap.models.autocap import AutoCapConfig
from autorecap.models.autocap.config import BartSize, QFormerConfig
from autorecap.models.swin import SwinConfig

FIXED = (
    "relative_position_index",
    "attn_mask",
    "num_batches_tracked",
    "position_ids",
    "token_type_ids",
    "_extractor.",
    "resampler",
)
"""Parts of the names of constants, which the recipe does not fill: kernels, masks, indices."""
SHARED = "decoder.model.shared.weight"
TIED = (
    "decoder.model.encoder.embed_tokens.weight",
    "decoder.model.decoder.embed_tokens.weight",
    "decoder.lm_head.weight",
)
ALIAS = "special_tokens_embed.model."

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def is_fixed(key: str) -> bool:
    return any(part in key for part in FIXED)


def canonical(key: str) -> str:
    """Return the one name of a tensor that has several."""
    if key.startswith(ALIAS):
        key = "decoder.model." + key.removeprefix(ALIAS)
    return SHARED if key in TIED else key


def draw(key: str, shape: Sequence[int]) -> np.ndarray:
    """Return the float32 values of one official tensor."""
    key = canonical(key)
    seed = int.from_bytes(hashlib.sha256(f"autocap-parity-v1|{key}".encode()).digest()[:4], "little")
    u = (np.random.RandomState(seed).random_sample(math.prod(shape)) * 2 - 1).reshape(shape)
    match key.rsplit(".", 1)[-1]:
        case "running_var":
            u = 1 + 0.25 * u
        case "running_mean" | "bias" | "final_logits_bias":
            u = 0.1 * u
        case "relative_position_bias_table":
            u = 0.5 * u
        case "logit_scale_a" | "logit_scale_t":
            u = 2 + 0.1 * u
        case "weight" if len(shape) == 1:
            u = 1 + 0.1 * u
        case _:
            u = math.sqrt(3 / math.prod(shape[1:])) * u
    return np.asarray(u, dtype=np.float32)


def waveform(number: int, num_samples: int = 320_000, rate: int = 32_000) -> np.ndarray:
    """Clip 0, 1, ...: float32, zero mean, peak 0.5."""
    t = np.arange(num_samples, dtype=np.float64) / rate
    noise = np.random.RandomState(1000 + number).random_sample(num_samples) * 2 - 1
    x = 0.5 * np.sin(2 * np.pi * (220.0 * (number + 1)) * t + 3.0 * np.sin(2 * np.pi * 0.5 * t))
    x = x + 0.3 * np.sin(2 * np.pi * (1000.0 + 700.0 * t / 10 * (number + 1)) * t)
    x = x + 0.1 * noise * (0.5 + 0.5 * np.sin(2 * np.pi * (1.0 + number) * t))
    x = x - x.mean()
    return (x / (np.abs(x).max() + 1e-8) * 0.5).astype(np.float32)


def stereo_clip() -> tuple[np.ndarray, int]:
    """2.5 s of two channels, and the sample rate."""
    rate = 44_100
    t = np.arange(int(2.5 * rate)) / rate
    channels = 0.2 * np.sin(2 * np.pi * 440 * t) + 0.05, 0.7 * np.sin(2 * np.pi * 990 * t)
    return np.stack(channels).astype(np.float32), rate


def weights(config: AutoCapConfig) -> dict[str, Tensor]:
    """A state dict as the official code saves it, but for CLAP's text branch: aliases, constants, classifiers."""
    return {
        key: torch.zeros(shape) if is_fixed(key) else torch.from_numpy(draw(key, shape))
        for key, shape in shapes(config)
    }


def shapes(config: AutoCapConfig) -> Shapes:
    width, clap_width = config.bart.width, config.clap_width
    yield from _swin("encoder.audio_enc", config.htsat)
    yield from _swin("clap_model.model.audio_branch", config.clap)
    yield from _linear("clap_model.model.audio_projection.0", clap_width, config.clap.out_width)
    yield from _linear("clap_model.model.audio_projection.2", clap_width, clap_width)
    yield "clap_model.model.logit_scale_a", ()
    yield from _linear("clap_model.model.audio_transform.sequential.0", clap_width, clap_width)
    yield "audio_query_tokens", (1, config.qformer.num_queries, config.qformer.width)
    yield from _linear("enc_to_dec_proj", width, config.htsat.out_width)
    yield "audio_position_embedding.weight", (config.bart.max_positions + 2, width)
    yield from _norm("audio_Qfromer_layernorm_embedding", width)
    yield from _qformer("audio_Qformer.bert", config.qformer, width)
    yield from _linear("audio_qformer_proj", width, config.qformer.width)
    yield from _linear("clap_proj", width, clap_width)
    yield from _norm("clap_layernorm", width)
    yield "special_tokens_embed.special_token_embed.weight", (12, width)
    yield "decoder.final_logits_bias", (1, config.bart.vocab)
    yield "decoder.lm_head.weight", (config.bart.vocab, width)
    for prefix in ("decoder.model.", ALIAS):
        for key, shape in _bart(config.bart):
            yield prefix + key, shape


def _linear(name: str, out: int, into: int, bias: bool = True) -> Shapes:
    yield f"{name}.weight", (out, into)
    if bias:
        yield f"{name}.bias", (out,)


def _norm(name: str, width: int) -> Shapes:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _swin(name: str, config: SwinConfig) -> Shapes:
    bands, first = config.mel.num_mels, config.width
    yield from _norm(f"{name}.bn0", bands)
    yield f"{name}.bn0.running_mean", (bands,)
    yield f"{name}.bn0.running_var", (bands,)
    yield f"{name}.bn0.num_batches_tracked", ()
    yield f"{name}.patch_embed.proj.weight", (first, 1, config.patch, config.patch)
    yield f"{name}.patch_embed.proj.bias", (first,)
    yield from _norm(f"{name}.patch_embed.norm", first)
    for stage, (depth, heads) in enumerate(zip(config.depths, config.heads, strict=True)):
        width = first * 2**stage
        for block in range(depth):
            here = f"{name}.layers.{stage}.blocks.{block}"
            yield from _norm(f"{here}.norm1", width)
            yield f"{here}.attn.relative_position_bias_table", ((2 * config.window - 1) ** 2, heads)
            yield f"{here}.attn.relative_position_index", (config.window**2, config.window**2)
            yield from _linear(f"{here}.attn.qkv", 3 * width, width)
            yield from _linear(f"{here}.attn.proj", width, width)
            yield from _norm(f"{here}.norm2", width)
            yield from _linear(f"{here}.mlp.fc1", 4 * width, width)
            yield from _linear(f"{here}.mlp.fc2", width, 4 * width)
        if stage + 1 < len(config.depths):
            yield from _linear(f"{name}.layers.{stage}.downsample.reduction", 2 * width, 4 * width, bias=False)
            yield from _norm(f"{name}.layers.{stage}.downsample.norm", 4 * width)
    yield from _norm(f"{name}.norm", config.out_width)
    yield f"{name}.tscam_conv.bias", (527,)
    yield from _linear(f"{name}.head", 527, 527)


def _qformer(name: str, config: QFormerConfig, memory_width: int) -> Shapes:
    width = config.width
    yield f"{name}.embeddings.position_ids", (1, 1024)
    yield from _norm(f"{name}.embeddings.LayerNorm", width)
    for layer in range(config.num_layers):
        here = f"{name}.encoder.layer.{layer}"
        for attention, into in (("attention", width), ("crossattention", memory_width)):
            yield from _linear(f"{here}.{attention}.self.query", width, width)
            yield from _linear(f"{here}.{attention}.self.key", width, into)
            yield from _linear(f"{here}.{attention}.self.value", width, into)
            yield from _linear(f"{here}.{attention}.output.dense", width, width)
            yield from _norm(f"{here}.{attention}.output.LayerNorm", width)
        yield from _linear(f"{here}.intermediate_query.dense", config.ffn_width, width)
        yield from _linear(f"{here}.output_query.dense", width, config.ffn_width)
        yield from _norm(f"{here}.output_query.LayerNorm", width)


def _bart(size: BartSize) -> Shapes:
    yield "shared.weight", (size.vocab, size.width)
    for side, attentions in (("encoder", ("self_attn",)), ("decoder", ("self_attn", "encoder_attn"))):
        yield f"{side}.embed_tokens.weight", (size.vocab, size.width)
        yield f"{side}.embed_positions.weight", (size.max_positions + 2, size.width)
        yield from _norm(f"{side}.layernorm_embedding", size.width)
        for layer in range(size.num_layers):
            here = f"{side}.layers.{layer}"
            for attention in attentions:
                for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    yield from _linear(f"{here}.{attention}.{part}", size.width, size.width)
                yield from _norm(f"{here}.{attention}_layer_norm", size.width)
            yield from _linear(f"{here}.fc1", size.ffn_width, size.width)
            yield from _linear(f"{here}.fc2", size.width, size.ffn_width)
            yield from _norm(f"{here}.final_layer_norm", size.width)
