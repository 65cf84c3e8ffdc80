"""`AutoCap.caption` checks its arguments with these functions, and works in batches that fit into memory."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from autorecap.models.audio import as_waveforms
from autorecap.models.autocap.config import BartSize

SHORTEST_S = 0.1  # of a clip: less holds no sound that could be named
CPU_BATCH, GPU_BATCH = 16, 256  # clips at once


def check_options(bart: BartSize, num_beams: int, max_new_tokens: int, batch_size: int | None) -> None:
    """Raises ValueError that names an option which is out of range, or which BART's decoder cannot follow."""
    for name, value in (("num_beams", num_beams), ("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        if not isinstance(value, int | None):
            raise ValueError(f"{name} is {value!r}: write a whole number")
    longest = bart.max_positions - 1
    if not 1 <= max_new_tokens <= longest:
        raise ValueError(
            f"max_new_tokens is {max_new_tokens}: write 1 to {longest}, the positions of this model's decoder"
        )
    if num_beams < 1 or 2 * num_beams > bart.vocab:
        raise ValueError(
            f"num_beams is {num_beams}: write 1 to {bart.vocab // 2}: each takes two tokens of the vocabulary"
        )
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: write 1 or more, or None")


def one_text_each(texts: Sequence[str | None] | None, num_waveforms: int, what: str) -> list[str]:
    """Returns one text per waveform, "" where none is given. Raises ValueError where their numbers differ."""
    if texts is None:
        return [""] * num_waveforms
    if isinstance(texts, str):
        raise ValueError(f"{what}: expected a list with one text per waveform, found a single text")
    if len(texts) != num_waveforms:
        raise ValueError(f"{len(texts)} {what} for {num_waveforms} waveforms: give one for each")
    return [text or "" for text in texts]


def long_enough(waveforms: Sequence[object], sample_rate_hz: int, window_s: float) -> list[Tensor]:
    """Returns every waveform as `as_waveforms` does. Raises ValueError for one that is too short to caption."""
    clips = as_waveforms(waveforms, sample_rate_hz, window_s)
    for i, x_CS in enumerate(clips):
        if x_CS.shape[1] < SHORTEST_S * sample_rate_hz:
            raise ValueError(
                f"waveform {i}: lasts {x_CS.shape[1] / sample_rate_hz:.3f} s, too short to caption: "
                f"give {SHORTEST_S:g} s or more"
            )
    return clips


def in_batches(items: Sequence[int], size: int, work: Callable[[Sequence[int]], None]) -> None:
    """Calls `work` with at most `size` items at a time; where memory runs out, with half as many from there on."""
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
    """Tells whether memory ran out, on a GPU or on a CPU, whose allocator has no error of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
