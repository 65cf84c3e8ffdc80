"""Names and layouts of the released AutoCap's weights (snap-research/GenAU) are translated into ours.

The released state dict holds BART twice (`special_tokens_embed.model.*` are aliases), its word table under four more
names, CLAP with its text branch, and misspells the Q-Former's layer norm. Its Swin transformers keep query, key and
value in one matrix. Nothing here builds a module or reads a file.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from autorecap.models.audio import MelConfig
from autorecap.models.autocap.config import SIZES, AutoCapConfig, BartSize, QFormerConfig
from autorecap.models.files import ModelFilesError
from autorecap.models.official_tensors import count
from autorecap.models.swin import SwinConfig

_HTSAT, _CLAP = "encoder.audio_enc", "clap_model.model.audio_branch"
_BART_ALIAS, _BART = "special_tokens_embed.model.", "decoder.model."
_WORDS = "decoder.model.shared.weight"
_TIED_WORDS = (
    "decoder.model.encoder.embed_tokens.weight",
    "decoder.model.decoder.embed_tokens.weight",
    "decoder.lm_head.weight",
)

# Why a tensor has no place in our model, by a part of its name. What is not listed here is a surprise.
_UNUSED = {
    "a constant that is computed anew": (
        "relative_position_index",
        "attn_mask",
        "position_ids",
        "token_type_ids",
        "audio_feats_extractor.",
        "spectrogram_extractor.",
        "logmel_extractor.",
        "audio_clap_resampler.",
    ),
    "the encoder's AudioSet classifier, which captions do not need": (".tscam_conv.", ".head."),
    "CLAP's text branch, which captions do not need": ("clap_model.model.text_branch.", ".text_projection."),
    "CLAP's training alone uses it": (".logit_scale_", ".text_transform.", ".audio_transform."),
}


PRETRAINED = ("encoder.audio_enc.", "clap_model.model.", "decoder.model.")
"""AutoCap's training starts from HTSAT, CLAP and BART, whose official names begin so."""


def from_official(
    tensors: Mapping[str, Tensor], config: AutoCapConfig, parts: tuple[str, ...] = ("",)
) -> tuple[dict[str, Tensor], list[str]]:
    """Returns our state dict in float32, and the official names that were not used, see `why_unused`.

    `parts`: only what has official names that begin so, such as `PRETRAINED`; else all, which has no eoa token.
    An alias counts as used where it is equal to what it stands for. Raises ModelFilesError that names the first tensor
    that is missing or not finite. Shapes are checked by `files.fill`, which puts the tensors into a model.
    """
    if config.use_eoa and "" in parts:
        raise ModelFilesError("official AutoCap has no eoa token: convert with use_eoa: false")
    by_name, aliases = _without_aliases(tensors)
    state: dict[str, Tensor] = {}
    used: set[str] = set()
    for ours, official, rows in _sources(config):
        if not official.startswith(parts):
            continue
        if official not in by_name:
            if official.endswith("num_batches_tracked"):  # no weight, and eval mode never reads it
                state[ours] = torch.tensor(0)
                continue
            raise ModelFilesError(f"official AutoCap: {official} is missing: {describe(tensors)}")
        used.add(official)
        tensor = by_name[official]
        if not (tensor.is_floating_point() or official.endswith("num_batches_tracked")) or (rows and not tensor.ndim):
            found = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
            raise ModelFilesError(f"official AutoCap: {official} is {found}, not a weight: fetch the file again")
        tensor = tensor[rows].clone() if rows else tensor
        if tensor.is_floating_point():
            tensor = tensor.float()
            if not bool(torch.isfinite(tensor).all()):
                raise ModelFilesError(f"official AutoCap: {official} holds NaN or infinity: fetch the file again")
        state[ours] = tensor
    for official, name in aliases.items():
        if name in used and torch.equal(tensors[official], by_name[name]):
            used.add(official)
    return state, [name for name in tensors if name not in used]


def why_unused(name: str) -> str:
    """Says why `from_official` did not use a tensor; "" where the reason is not known, which deserves a warning."""
    return next((why for why, parts in _UNUSED.items() if any(part in name for part in parts)), "")


def clap_text_from_official(tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Returns CLAP's text branch by transformers' names (ClapTextModelWithProjection); None where there is none.

    `tensors`: of AutoCap, or of a CLAP checkpoint of LAION, whose names lack `clap_model.model.`.
    """
    state = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("module.").removeprefix("clap_model.").removeprefix("model.")
        if name.endswith(("position_ids", "token_type_ids")):
            continue
        if name.startswith("text_branch."):
            state[name.replace("text_branch.", "text_model.", 1)] = tensor.float()
        elif name.startswith("text_projection."):
            _, layer, kind = name.split(".")  # a Sequential: linear, ReLU, linear
            state[f"text_projection.linear{1 if layer == '0' else 2}.{kind}"] = tensor.float()
    return state or None


def official_config(tensors: Mapping[str, Tensor]) -> AutoCapConfig:
    """Reads the size of official weights from their shapes, with the options that released weights want.

    BART's number of heads has no trace in its shapes and is taken from the size of equal width in `SIZES`.
    Raises ModelFilesError where the tensors are not AutoCap's.
    """
    by_name, _ = _without_aliases(tensors)

    def shape(name: str, num_axes: int) -> torch.Size:
        if name not in by_name:
            raise ModelFilesError(f"official AutoCap: {name} is missing: {describe(tensors)}")
        found = by_name[name].shape
        if len(found) != num_axes:
            raise ModelFilesError(
                f"official AutoCap: {name} has shape {tuple(found)}, expected {num_axes} axes: fetch the file again"
            )
        return found

    try:
        return _sizes_of(by_name, shape)
    except ValueError as error:  # no such model can be
        raise ModelFilesError(f"official AutoCap: {error}: the file is damaged, or of another configuration") from error


def _sizes_of(by_name: Mapping[str, Tensor], shape: Callable[[str, int], torch.Size]) -> AutoCapConfig:
    vocab, width = shape(_WORDS, 2)
    heads = {size.bart.width: size.bart.num_heads for name, size in SIZES.items() if name != "demo"}
    if width not in heads:
        raise ModelFilesError(f"official AutoCap: BART is {width} wide, expected one of {', '.join(map(str, heads))}")
    _, num_queries, qformer_width = shape("audio_query_tokens", 3)
    config = AutoCapConfig(
        size="released",
        htsat=_swin(by_name, _HTSAT, shape, MelConfig()),
        clap=_swin(by_name, _CLAP, shape, MelConfig(sample_rate_hz=48_000, hop=480)),
        clap_width=shape("clap_model.model.audio_projection.2.weight", 2)[0],
        qformer=QFormerConfig(
            num_queries=num_queries,
            width=qformer_width,
            num_layers=count(by_name, "audio_Qformer.bert.encoder.layer.{}.attention.self.query.weight"),
            ffn_width=shape("audio_Qformer.bert.encoder.layer.0.intermediate_query.dense.weight", 2)[0],
        ),
        bart=BartSize(
            vocab=vocab,
            width=width,
            num_layers=count(by_name, _BART + "encoder.layers.{}.fc1.weight"),
            num_heads=heads[width],
            ffn_width=shape(_BART + "encoder.layers.0.fc1.weight", 2)[0],
            max_positions=shape(_BART + "encoder.embed_positions.weight", 2)[0] - 2,
        ),
        use_eoa=False,
    )
    known = (name for name, size in SIZES.items() if replace(size, size=config.size, use_eoa=False) == config)
    return replace(config, size=next(known, config.size))


def describe(tensors: Mapping[str, Tensor]) -> str:
    """Says whose weights these seem to be, where they are not AutoCap's, and what to do."""

    def has(*parts: str) -> bool:
        return any(name.startswith(parts) for name in tensors)

    if has("model.diffusion_model.", "first_stage_model."):
        return "these look like weights of GenAu, the generator: `autorecap convert` has another kind for them"
    if has("audio_Qformer.", "audio_query_tokens", "enc_to_dec_proj."):
        return "these look like an AutoCap that is incomplete or of another configuration: fetch the file again"
    if has("audio_branch.", "text_branch.", "module.audio_branch.", "audio_model.", "text_model."):
        return "these look like weights of CLAP alone, of which AutoCap is but a part"
    if has("sed_model.", "audio_enc.", "patch_embed.", "module.patch_embed.", "bn0."):
        return "these look like weights of HTSAT alone, of which AutoCap is but a part"
    if has("shared.weight", "model.shared.weight", "model.encoder.embed_tokens.", "encoder.embed_tokens."):
        return "these look like weights of BART alone, of which AutoCap is but a part"
    return f"these are not AutoCap's weights: the first of {len(tensors)} is {next(iter(tensors), 'missing')}"


# --- names and sizes


def _canonical(name: str) -> str:
    """Returns one name for all that stand for the same tensor."""
    if name.startswith(_BART_ALIAS):
        name = _BART + name.removeprefix(_BART_ALIAS)
    return _WORDS if name in _TIED_WORDS else name


def _without_aliases(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns tensors by canonical name, and the other names in use with the canonical one of each."""
    canonical = {name: _canonical(name) for name in tensors}
    by_name = {name: tensors[name] for name in tensors if canonical[name] == name}
    for name, target in canonical.items():
        by_name.setdefault(target, tensors[name])  # a file may hold an alias alone
    return by_name, {name: target for name, target in canonical.items() if name != target}


def _swin(
    tensors: Mapping[str, Tensor], prefix: str, shape: Callable[[str, int], torch.Size], mel: MelConfig
) -> SwinConfig:
    width, _, patch, _ = shape(f"{prefix}.patch_embed.proj.weight", 4)
    num_stages = count(tensors, prefix + ".layers.{}.blocks.0.norm1.weight")
    blocks = [f"{prefix}.layers.{stage}.blocks" for stage in range(num_stages)]
    return SwinConfig(
        mel=mel,
        patch=patch,
        width=width,
        depths=tuple(count(tensors, names + ".{}.norm1.weight") for names in blocks),
        heads=tuple(shape(f"{names}.0.attn.relative_position_bias_table", 2)[1] for names in blocks),
    )


_Source = tuple[str, str, slice | None]  # our name, the official one, which of its rows


def _sources(config: AutoCapConfig) -> Iterator[_Source]:
    """Yields where each of our tensors comes from; the eoa token, which official weights lack, is left out."""
    yield from _swin_sources(config.htsat, "htsat.encoder.swin", _HTSAT)
    yield from _swin_sources(config.clap, "clap.encoder.swin", _CLAP)
    for layer in ("0", "2"):
        yield from _both(f"clap.projection.{layer}", f"clap_model.model.audio_projection.{layer}")
    yield from _both("audio_in", "enc_to_dec_proj")
    num_positions = config.num_audio_tokens  # the table is a copy of BART's, which has two rows more than positions
    yield "audio_positions.weight", "audio_position_embedding.weight", slice(num_positions)
    yield from _both("audio_norm", "audio_Qfromer_layernorm_embedding")
    yield from _qformer_sources(config.qformer)
    yield from _both("audio_out", "audio_qformer_proj")
    yield from _both("clap_in", "clap_proj")
    yield from _both("clap_norm", "clap_layernorm")
    yield "tags.weight", "special_tokens_embed.special_token_embed.weight", None
    yield "bart.final_logits_bias", "decoder.final_logits_bias", None
    for name in _bart_names(config.bart):
        yield f"bart.model.{name}", _BART + name, None


def _both(ours: str, official: str, rows: slice | None = None) -> Iterator[_Source]:
    for kind in ("weight", "bias"):
        yield f"{ours}.{kind}", f"{official}.{kind}", rows


def _swin_sources(config: SwinConfig, ours: str, official: str) -> Iterator[_Source]:
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        yield f"{ours}.batch_norm.{name}", f"{official}.bn0.{name}", None
    for name in ("patch_embed.proj", "patch_embed.norm", "norm"):
        yield from _both(f"{ours}.{name}", f"{official}.{name}")
    for stage, depth in enumerate(config.depths):
        width = config.width * 2**stage
        for block in range(depth):
            a, b = f"{ours}.layers.{stage}.blocks.{block}", f"{official}.layers.{stage}.blocks.{block}"
            yield from _both(f"{a}.layernorm_before", f"{b}.norm1")
            yield from _both(f"{a}.layernorm_after", f"{b}.norm2")
            table = "relative_position_bias_table"
            yield f"{a}.attention.self.{table}", f"{b}.attn.{table}", None
            for i, part in enumerate(("query", "key", "value")):
                rows = slice(i * width, (i + 1) * width)
                yield from _both(f"{a}.attention.self.{part}", f"{b}.attn.qkv", rows)
            yield from _both(f"{a}.attention.output.dense", f"{b}.attn.proj")
            yield from _both(f"{a}.intermediate.dense", f"{b}.mlp.fc1")
            yield from _both(f"{a}.output.dense", f"{b}.mlp.fc2")
        if stage + 1 < len(config.depths):
            a, b = f"{ours}.layers.{stage}.downsample", f"{official}.layers.{stage}.downsample"
            yield f"{a}.reduction.weight", f"{b}.reduction.weight", None
            yield from _both(f"{a}.norm", f"{b}.norm")


def _qformer_sources(config: QFormerConfig) -> Iterator[_Source]:
    yield "qformer.queries", "audio_query_tokens", None
    yield from _both("qformer.norm", "audio_Qformer.bert.embeddings.LayerNorm")
    for layer in range(config.num_layers):
        a, b = f"qformer.layers.{layer}", f"audio_Qformer.bert.encoder.layer.{layer}"
        for ours, official in (("self_attention", "attention"), ("cross_attention", "crossattention")):
            for part in ("query", "key", "value"):
                yield from _both(f"{a}.{ours}.{part}", f"{b}.{official}.self.{part}")
            yield from _both(f"{a}.{ours}.out", f"{b}.{official}.output.dense")
            yield from _both(f"{a}.{ours}.norm", f"{b}.{official}.output.LayerNorm")
        yield from _both(f"{a}.ffn.inner", f"{b}.intermediate_query.dense")
        yield from _both(f"{a}.ffn.outer", f"{b}.output_query.dense")
        yield from _both(f"{a}.ffn.norm", f"{b}.output_query.LayerNorm")


def _bart_names(size: BartSize) -> Iterator[str]:
    """Yields the names of BART's tensors, which are transformers' in both."""
    yield "shared.weight"
    for side, attentions in (("encoder", ("self_attn",)), ("decoder", ("self_attn", "encoder_attn"))):
        yield f"{side}.embed_positions.weight"
        modules = ["layernorm_embedding"]
        for layer in range(size.num_layers):
            parts = [f"{attention}.{x}_proj" for attention in attentions for x in ("k", "v", "q", "out")]
            parts += [f"{attention}_layer_norm" for attention in attentions] + ["fc1", "fc2", "final_layer_norm"]
            modules += [f"layers.{layer}.{part}" for part in parts]
        for module in modules:
            yield f"{side}.{module}.weight"
            yield f"{side}.{module}.bias"
