"""Every backbone of GenAu takes and gives the same: FIT (`fit.py`) and the U-Net (`unet.py`) are called alike.

    prediction = backbone(x_BCT, timesteps_B, Text(summary_BW), dataset_ids_B)
    prediction.eps        # (B, C, T), what the diffusion's objective asks for
    prediction.latents    # FIT's learned tokens after the last block, or None; may be passed to the next step

A clip of any duration is a latent of `frames` frames, rounded up to a multiple of `backbone.frames_multiple` and at
most `backbone.max_frames`. In a batch of several durations `mask_BT` says which frames are sound: each sample's
output is then what it would be alone.

Shape suffixes: B batch, C channels of the latent, T frames, W width of a text vector, N words or context tokens,
D context width, F time frequencies.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from autorecap.models.genau.backbones.config import ContextConfig

TIME_FREQUENCIES = 8  # of the learned sines and cosines of the timestep


class Text(NamedTuple):
    """The text encoders give these vectors for the texts of a batch. ContextConfig fixes which parts are there."""

    summary_BW: Tensor | None = None  # one vector per text; (B, context.summary_width)
    words_BNW: Tensor | None = None  # one vector per word; (B, N, context.word_width)
    word_mask_BN: Tensor | None = None  # True where `words_BNW` holds a word, False where padding. None: all are words


class Prediction(NamedTuple):
    """A backbone returns a prediction."""

    eps: Tensor  # (B, C, T) in the precision of the input; 0 on masked frames
    latents: Tensor | None  # FIT: (B, groups * latents per group, width); 0 for masked groups. U-Net: None


class Backbone(nn.Module, ABC):
    """A backbone is a network that predicts the noise in a latent."""

    channels: int  # of the latent
    max_frames: int
    frames_multiple: int
    takes_latents: bool = False  # `previous_latents` may be given

    @abstractmethod
    def forward(
        self,
        x_BCT: Tensor,
        timesteps_B: Tensor,
        text: Text,
        dataset_ids_B: Tensor,
        mask_BT: Tensor | None = None,
        previous_latents: Tensor | None = None,
    ) -> Prediction:
        """Returns the prediction for a noisy latent.

        `timesteps_B`: 0 to 999. `dataset_ids_B`: below `context.num_datasets`.
        `mask_BT`: True where the frame is sound; a sample's sound comes first and its padding last. None: all is sound.
        On the CPU it costs no wait for the device.
        `previous_latents`: `Prediction.latents` of the sampling step before, or None (self-conditioning).
        Raises ValueError for a number of frames that does not fit, and for text vectors that the config does not name.
        """

    @abstractmethod
    def compile_blocks(self, backend: str = "inductor") -> None:
        """Compiles the blocks in place by torch.compile: names of weights stay, equal blocks share compiled code."""

    def checkpoint_activations(self, enabled: bool = True) -> None:
        """Keeps no activations inside blocks; the backward pass computes them again: less memory, 4/3 the work."""
        self.checkpointing = enabled

    checkpointing: bool = False

    def run(self, block: nn.Module, *inputs: object) -> Any:
        """Calls `block(*inputs)`, with its activations kept or not."""
        if self.checkpointing and self.training:
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)

    def check_frames(self, x_BCT: Tensor) -> None:
        """Raises ValueError where the latent has another shape than the backbone takes."""
        frames = x_BCT.shape[-1]
        if x_BCT.ndim != 3 or x_BCT.shape[1] != self.channels:
            raise ValueError(f"latent: shape is {tuple(x_BCT.shape)}, expected (batch, {self.channels}, frames)")
        if not 0 < frames <= self.max_frames or frames % self.frames_multiple:
            raise ValueError(
                f"latent: {frames} frames, expected a multiple of {self.frames_multiple} up to {self.max_frames}: "
                "pad it, and mask the padding with mask_BT"
            )

    def check_mask(self, x_BCT: Tensor, mask_BT: Tensor) -> Tensor:
        """Returns the mask as booleans. Raises ValueError for another shape, and where a clip is all padding."""
        expected = (x_BCT.shape[0], x_BCT.shape[-1])
        if mask_BT.shape != expected:
            raise ValueError(f"mask: shape is {tuple(mask_BT.shape)}, expected {expected}: a value per frame")
        mask_BT = mask_BT.bool()
        empty_B = ~mask_BT.any(dim=1)
        if bool(empty_B.any()):
            raise ValueError(f"mask: clip {int(empty_B.int().argmax())} of the batch has no frame of sound")
        return mask_BT


class TimeEmbedding(nn.Module):
    """The timestep is embedded by an MLP over its sines and cosines of learned frequencies.

    It computes in fp32, weights too, whatever the model is cast to: at timestep 999 a frequency in bf16 is off by whole
    periods. Under FSDP's mixed precision it needs a unit of its own that stays in fp32.
    """

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(TIME_FREQUENCIES))
        self.hidden = nn.Linear(1 + 2 * TIME_FREQUENCIES, hidden)
        self.out = nn.Linear(hidden, width)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TimeEmbedding":
        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        super()._apply(move, recurse)  # type: ignore[no-untyped-call]  # torch's has no types
        return self

    def forward(self, timesteps_B: Tensor) -> Tensor:
        """shape (B,) -> (B, D)"""
        with torch.autocast(timesteps_B.device.type, enabled=False):
            time_B1 = timesteps_B.float()[:, None]
            angle_BF = 2 * math.pi * time_B1 * self.frequencies
            features = torch.cat([time_B1, angle_BF.sin(), angle_BF.cos()], dim=1)
            embedding_BD: Tensor = self.out(F.gelu(self.hidden(features)))
            return embedding_BD


class ContextTokens(nn.Module):
    """All conditions become tokens: the text's summary, the time, the dataset, then the text's words."""

    def __init__(self, config: ContextConfig, time_hidden: int) -> None:
        super().__init__()
        self.config = config
        self.time = TimeEmbedding(time_hidden, config.width)
        self.dataset = nn.Linear(config.num_datasets, config.width)
        self.summary = nn.Linear(config.summary_width, config.width, bias=False) if config.summary_width else None
        self.words = nn.Linear(config.word_width, config.width, bias=False) if config.word_width else None

    @property
    def num_vectors(self) -> int:
        """This many tokens come before the words."""
        return 2 if self.summary is None else 3

    def forward(self, timesteps_B: Tensor, text: Text, dataset_ids_B: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns tokens of shape (B, N, D), and which of them count, shape (B, N), or None where all do."""
        dtype = self.dataset.weight.dtype
        one_hot = F.one_hot(dataset_ids_B, self.config.num_datasets).to(dtype)
        tokens = [self.time(timesteps_B).to(dtype), self.dataset(one_hot).to(dtype)]
        if (summary := _checked("summary_BW", text.summary_BW, self.config.summary_width)) is not None:
            assert self.summary is not None
            tokens.insert(0, self.summary(summary.to(dtype)).to(dtype))
        tokens_BND = torch.stack(tokens, dim=1)
        if (words := _checked("words_BNW", text.words_BNW, self.config.word_width)) is None:
            return tokens_BND, None
        assert self.words is not None
        mask = None
        if text.word_mask_BN is not None:
            mask = torch.cat([text.word_mask_BN.new_ones(tokens_BND.shape[:2]), text.word_mask_BN], dim=1).bool()
        return torch.cat([tokens_BND, self.words(words.to(dtype)).to(dtype)], dim=1), mask


def _checked(name: str, vectors: Tensor | None, width: int) -> Tensor | None:
    found = 0 if vectors is None else vectors.shape[-1]
    if found != width:
        raise ValueError(
            f"text: {name} has width {found}, but the backbone was built for {width} (0: none). "
            "Use the text encoders that its config names"
        )
    return vectors
