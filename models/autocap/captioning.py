"""From any number of clips to captions: clips of similar prompts share a batch, which shrinks where memory runs out."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from autorecap.models.audio import as_waveforms

if TYPE_CHECKING:
    from autorecap.models.autocap.model import AutoCap

SHORTEST_S = 0.1  # of a clip: less holds no sound that could be named
CPU_BATCH, GPU_BATCH = 16, 256  # clips at once


def caption(
    model: "AutoCap",
    waveforms: Sequence[object],
    sample_rate_hz: int,
    titles: Sequence[str | None] | None,
    video_captions: Sequence[str | None] | None,
    *,
    num_beams: int,
    max_new_tokens: int,
    batch_size: int | None,
) -> tuple[list[str], Tensor]:
    """`AutoCap.caption`: texts, and CLAP's vectors on the CPU. Raises ValueError."""
    _check(model, num_beams, max_new_tokens, batch_size)
    titles, video_captions = _texts(titles, waveforms, "titles"), _texts(video_captions, waveforms, "video captions")
    clips = as_waveforms(waveforms, sample_rate_hz, model.config.window_s)
    for i, x_CS in enumerate(clips):
        if x_CS.shape[1] < SHORTEST_S * sample_rate_hz:
            raise ValueError(
                f"waveform {i}: lasts {x_CS.shape[1] / sample_rate_hz:.3f} s, too short to caption: "
                f"give {SHORTEST_S:g} s or more"
            )
    prompts = [
        model.tokenizer.metadata_ids(title, seen, model.config.max_metadata_tokens)
        for title, seen in zip(titles, video_captions, strict=True)
    ]
    texts = [""] * len(clips)
    clap_BP = torch.zeros(len(clips), model.config.clap_width)
    # Audio always fills the window, so it is the prompts whose lengths differ. Padding is what a batch wastes.
    order = sorted(range(len(clips)), key=lambda i: len(prompts[i]))

    def one_batch(chosen: Sequence[int]) -> None:
        x_BS = model._prepare([clips[i] for i in chosen], sample_rate_hz, numbers=chosen)
        ids_BT, mask_BT = model.tokenizer.padded([prompts[i] for i in chosen])
        heard = model.hear(model.features(x_BS))
        out_BL = model.generate(
            heard,
            ids_BT.to(model.device),
            mask_BT.to(model.device),
            num_beams=num_beams,
            max_new_tokens=max_new_tokens,
        )
        clap_BP[torch.tensor(chosen)] = heard.clap.float().cpu()
        for i, row in zip(chosen, out_BL.tolist(), strict=True):
            texts[i] = model.tokenizer.decode(row)

    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            default = GPU_BATCH if model.device.type == "cuda" else CPU_BATCH
            in_batches(order, batch_size or default, one_batch)
    finally:
        model.train(was_training)
    return texts, clap_BP


def in_batches(items: Sequence[int], size: int, work: Callable[[Sequence[int]], None]) -> None:
    """`work` on at most `size` items at a time; where memory runs out, on half as many from there on."""
    done = 0
    while done < len(items):
        chosen = items[done : done + size]
        try:
            work(chosen)
            done += len(chosen)
            continue
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(chosen) == 1:
                raise
        # Outside the except block: the error holds on to every tensor of the attempt.
        size = len(chosen) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or a CPU, whose allocator has no error of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _check(model: "AutoCap", num_beams: int, max_new_tokens: int, batch_size: int | None) -> None:
    for name, value in (("num_beams", num_beams), ("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        if not isinstance(value, int | None):
            raise ValueError(f"{name} is {value!r}: write a whole number")
    longest = model.config.bart.max_positions - 1
    if not 1 <= max_new_tokens <= longest:
        raise ValueError(f"max_new_tokens is {max_new_tokens}: 1 to {longest}, the positions of this model's decoder")
    if num_beams < 1 or 2 * num_beams > model.config.bart.vocab:
        raise ValueError(f"num_beams is {num_beams}: at least 1, and two tokens of the vocabulary for each")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: at least 1, or None")


def _texts(texts: Sequence[str | None] | None, waveforms: Sequence[object], what: str) -> list[str]:
    if texts is None:
        return [""] * len(waveforms)
    if isinstance(texts, str):
        raise ValueError(f"{what}: one text for each waveform, found a single text: put it into a list")
    if len(texts) != len(waveforms):
        raise ValueError(f"{len(waveforms)} waveforms, {len(texts)} {what}: one each")
    return [text or "" for text in texts]
