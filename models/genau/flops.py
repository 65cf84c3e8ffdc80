"""The operations of FIT are counted from its config: what its matrix products need, two per product.

The count is that of torch's counter and of the official figures: products alone, neither norms nor sums, and the
backward pass as needed, without what a memory-saving kernel or checkpointed activations compute again.
"""

from autorecap.models.genau.backbones.backbone import TIME_FREQUENCIES
from autorecap.models.genau.backbones.config import FitConfig


def flops(
    config: FitConfig, *, batch: int = 1, frames: int | None = None, num_words: int = 0, backward: bool = False
) -> int:
    """Returns the operations of a forward pass, or of a forward and a backward pass, for a batch of clips.

    `frames`: of each clip, rounded up to whole groups; the longest by default. Clips of several durations need the sum
    of what each needs, and a little for the padding between latents. `num_words`: context tokens beside the fixed ones.
    """
    frames = config.max_frames if frames is None else frames
    groups = -(-frames // config.group_frames)
    patches, latents = groups * config.group_size, groups * config.group_latents
    patch, latent, context = config.patch_width, config.latent_width, config.context
    tokens = 2 + bool(context.summary_width) + num_words

    local = _layer(patches, patches, config.group_size, patch, patch, patch)
    block = config.local_layers * local
    block += _layer(latents, tokens, tokens, latent, context.width, config.context_attention_width)
    block += _layer(latents, patches, config.group_size, latent, patch, config.cross_width)
    block += config.global_layers * _layer(latents, latents, latents, latent, latent, latent)
    block += _layer(patches, latents, config.group_latents, patch, latent, config.cross_width)

    pixels = patches * config.channels * config.patch_size * patch
    # What comes in needs no gradient: the latent, texts and dataset ids have no product backward for it.
    first = pixels + context.width * (context.summary_width + context.num_datasets + num_words * context.word_width)
    time = (1 + 2 * TIME_FREQUENCIES) * 4 * patch + 4 * patch * context.width
    rest = config.num_blocks * block + config.local_layers * local + time + pixels
    return 2 * batch * (2 * first + 3 * rest if backward else first + rest)


def _layer(queries: int, keys: int, keys_each: int, width: int, key_width: int, hidden: int) -> int:
    """Counts the multiplications of attention and feed-forward. `keys_each`: how many of the keys a query sees."""
    projections = 2 * queries * width * hidden + keys * key_width * 2 * hidden
    return projections + 2 * queries * keys_each * hidden + 8 * queries * width * width
