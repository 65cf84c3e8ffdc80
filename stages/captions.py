"""The captions stage: AutoCap listens to every clip that is not silent (paper, 3.1 and A.2).

torch is imported where the model is made: workers of other pools read these settings too, and should not wait for it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from stages.records import Clip, Verdict, Video
from stages.settings import check, setting

DEMO = "demo"
"""As `model`: the bundled one, which knows the sounds of the demo and nothing else."""


@dataclass(frozen=True, kw_only=True)
class CaptionsConfig:
    """Which model captions, and how."""

    model: str = setting(DEMO, "A folder or hub id for AutoCap.from_pretrained, or 'demo' for the bundled small model.")
    num_beams: int = setting(2, "Beams of the search; the paper's released code uses 2.", results=True)
    max_new_tokens: int = setting(30, "Longest caption, in tokens.", results=True)
    use_title: bool = setting(True, "Give the model the video's title (paper, 3.1).", results=True)
    silence_dbfs: float = setting(
        -60.0,
        "A clip with a lower RMS level is silent and not captioned: a thousandth of full scale, below a quiet room.",
        results=True,
    )
    batch_clips: int = setting(16, "Clips captioned at once. On a CPU batches stay within one video (see docs).")
    device: str = setting("auto", "cpu, cuda, or auto: cuda where the worker has a GPU.")
    num_threads: int = setting(1, "CPU threads of one model. The pool grows by more workers, not by threads.")

    def __post_init__(self) -> None:
        check(bool(self.model), "captions.model is empty: name a folder or hub id, or 'demo'")
        # Bounds above what anybody needs: memory grows with beams x tokens x clips.
        check(1 <= self.num_beams <= 32, f"captions.num_beams is {self.num_beams}: 1 to 32")
        check(1 <= self.max_new_tokens <= 256, f"captions.max_new_tokens is {self.max_new_tokens}: 1 to 256")
        check(self.silence_dbfs <= 0, f"captions.silence_dbfs is {self.silence_dbfs}: 0 or below, such as -50")
        check(1 <= self.batch_clips <= 4096, f"captions.batch_clips is {self.batch_clips}: 1 to 4096")
        check(self.device in ("auto", "cpu", "cuda"), f"captions.device is {self.device!r}: auto, cpu or cuda")
        check(self.num_threads >= 1, f"captions.num_threads is {self.num_threads}: at least 1")

    @property
    def model_path(self) -> str:
        from models.autocap import AutoCap

        return str(AutoCap.DEMO) if self.model == DEMO else self.model


class Captions:
    """Gives every clip a caption, or the verdict `silent`."""

    name = "captions"

    def __init__(self, config: CaptionsConfig) -> None:
        import torch

        from models.autocap import AutoCap

        self.config = config
        device = config.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.across_videos = device != "cpu"
        if device == "cpu":
            torch.set_num_threads(config.num_threads)
        self.model = AutoCap.from_pretrained(config.model_path).to(device).eval()

    def __call__(self, videos: Sequence[Video]) -> list[Video]:
        heard = [video.map_clips(self._without_silence) for video in videos]
        captions: dict[tuple[int, int], str] = {}
        for batch in self._batches(heard):
            texts = self.model.caption(
                [_samples(heard[v].clips[c]) for v, c in batch],
                heard[batch[0][0]].clips[batch[0][1]].sample_rate_hz,
                titles=[heard[v].title if self.config.use_title else "" for v, _ in batch],
                video_captions=[heard[v].clips[c].video_caption for v, c in batch],
                num_beams=self.config.num_beams,
                max_new_tokens=self.config.max_new_tokens,
            )
            captions.update(zip(batch, texts, strict=True))
        return [
            replace(
                video,
                clips=tuple(
                    replace(clip, caption=captions[v, c]) if (v, c) in captions else clip
                    for c, clip in enumerate(video.clips)
                ),
            )
            for v, video in enumerate(heard)
        ]

    def _without_silence(self, clip: Clip) -> Clip:
        if clip.rms_dbfs is not None and clip.rms_dbfs < self.config.silence_dbfs:
            return clip.dropped(Verdict.SILENT)
        return clip

    def _batches(self, videos: Sequence[Video]) -> Iterator[list[tuple[int, int]]]:
        """Clips to caption together, as (video, clip) positions.

        Kernels give a clip other last bits in another batch. On a CPU a batch never spans videos, so a caption depends
        on its video alone and builds are reproducible; a GPU is only busy with full batches, so there it does.
        """
        todo = [
            [(v, c) for c, clip in enumerate(video.clips) if clip.verdict is Verdict.PENDING and clip.audio]
            for v, video in enumerate(videos)
        ]
        if self.across_videos:
            todo = [sorted(chain(*todo), key=lambda at: videos[at[0]].clips[at[1]].num_samples)]
        for clips in todo:
            for first in range(0, len(clips), self.config.batch_clips):
                yield clips[first : first + self.config.batch_clips]


def _samples(clip: Clip) -> np.ndarray:
    """The clip's PCM as float samples in [-1, 1)."""
    return np.frombuffer(clip.audio or b"", dtype="<i2").astype(np.float32) / 32768


def model_files(config: CaptionsConfig) -> list[Path]:
    """The files of the model, checked without loading the weights, for the fingerprint of a dataset.

    A model of the hub is downloaded. Raises ValueError that names the file where one is missing or damaged, and where
    there is neither a folder nor a model of the hub.
    """
    from models import files
    from models.autocap import pretrained

    with _named():
        folder = pretrained.find(config.model_path)
        pretrained.read_config(folder / files.CONFIG)
        pretrained.read_tokenizer(folder / pretrained.TOKENIZER)
        files.check_weights(folder / files.WEIGHTS)
        return [folder / name for name in pretrained.FILES]


def window_ms(config: CaptionsConfig) -> int:
    """What the model hears at once: no clip may be longer. Raises ValueError as `model_files` does."""
    from models import files
    from models.autocap import pretrained

    with _named():
        folder = pretrained.find(config.model_path)
        return int(pretrained.read_config(folder / files.CONFIG).window_s * 1000)


@contextmanager
def _named() -> Iterator[None]:
    """What is wrong with the model's files is said of the setting that names them."""
    from models.files import ModelFilesError

    try:
        yield
    except (ModelFilesError, OSError) as error:
        raise ValueError(f"captions.model: {error}") from error
