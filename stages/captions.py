"""The captions stage: AutoCap captions every clip that is not silent (paper, 3.1 and A.2).

torch is imported where the model is made: workers of other pools read these settings too, and should not wait for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from autorecap.base.settings import MODEL, Section, setting
from autorecap.models import DEMO
from autorecap.stages.inference import hub
from autorecap.stages.inference.batches import At, groups, with_clips
from autorecap.stages.media_files.levels import levels
from autorecap.stages.records import Clip, Verdict, Video


@dataclass(frozen=True, kw_only=True)
class CaptionsConfig(Section, name="captions"):
    """Settings of the captions stage: which model captions, and how."""

    model: str = setting(
        DEMO,
        "A folder or hub id for AutoCap.from_pretrained, or 'demo' for the bundled small model.",
        path=MODEL,
        filled=True,
    )
    # Upper bounds are above what anybody needs: memory grows with beams x tokens x clips.
    num_beams: int = setting(
        2, "Beams of the search for a caption; the paper's released code uses 2.", results=True, ge=1, le=32
    )
    max_new_tokens: int = setting(30, "Longest caption, in tokens.", results=True, ge=1, le=256)
    use_title: bool = setting(True, "Give the model the video's title (paper, 3.1).", results=True)
    silence_dbfs: float = setting(
        -60.0,
        "RMS level in dBFS below which a clip is silent and not captioned: a thousandth of full scale, below a quiet "
        "room.",
        results=True,
        le=0,
    )
    batch_clips: int = setting(
        16,
        "Clips captioned at once, halved where memory runs out. On a CPU batches stay within one video (see docs).",
        ge=1,
        le=4096,
    )
    device: str = setting(
        "auto",
        "cpu, cuda, or auto: cuda where the worker has a GPU. All models of a worker use it.",
        choices=("auto", "cpu", "cuda"),
    )
    precision: str = setting(
        "auto",
        "float32, bfloat16, or auto: bfloat16 on a GPU that has it, float32 on a CPU, where builds are reproducible.",
        results=True,
        choices=("auto", "float32", "bfloat16"),
    )
    compiled: bool = setting(
        False, "torch.compile the model. It costs minutes at the start of every worker: for builds of days on a GPU."
    )
    num_threads: int = setting(
        1, "CPU threads of a worker's models. The pool grows by more workers, not by threads.", ge=1
    )

    @property
    def torch_device(self) -> str:
        import torch

        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        return self.device


class Captions:
    """Gives every clip without a caption one, or the verdict `silent`.

    `keep_clap`: also keeps CLAP's vector of the audio, for the scores stage.
    """

    name = "captions"

    def __init__(self, config: CaptionsConfig, *, keep_clap: bool = False) -> None:
        import torch

        from autorecap.models.autocap import AutoCap
        from autorecap.models.autocap.captioning import SHORTEST_S
        from autorecap.models.autocap.model import dtype_for

        self.config = config
        self.shortest_ms = round(1000 * SHORTEST_S)
        self.keep_clap = keep_clap
        device = torch.device(config.torch_device)
        self.across_videos = device.type != "cpu"
        if device.type == "cpu":
            torch.set_num_threads(config.num_threads)
        dtype = getattr(torch, config.precision, torch.float32)
        if config.precision == "auto" and device.type != "cpu":
            dtype = dtype_for(device)
        with hub.blamed_on("captions.model"):
            self.model = AutoCap.from_pretrained(config.model, dtype=dtype, compiled=config.compiled).to(device)

    def __call__(self, videos: Sequence[Video]) -> list[Video]:
        videos = [video.map_clips(self._without_silence) for video in videos]
        captioned: dict[At, Clip] = {}
        for group in groups(videos, self._is_captionable, across_videos=self.across_videos):
            clips = [videos[v].clips[c] for v, c in group]
            titles = [videos[v].title if self.config.use_title else "" for v, _ in group]
            captioned.update(zip(group, self._caption(clips, titles), strict=True))
        return with_clips(videos, captioned)

    def _is_captionable(self, clip: Clip) -> bool:
        """Tell whether the clip waits for a caption, and AutoCap can give it one: what is too short stays without."""
        waits = clip.verdict is Verdict.PENDING and not clip.caption and bool(clip.audio)
        return waits and clip.duration_ms >= self.shortest_ms

    def _caption(self, clips: Sequence[Clip], titles: Sequence[str]) -> list[Clip]:
        texts, clap_BP = self.model.caption(
            [self._heard(clip) for clip in clips],
            clips[0].sample_rate_hz,
            titles=titles,
            video_captions=[clip.video_caption for clip in clips],
            num_beams=self.config.num_beams,
            max_new_tokens=self.config.max_new_tokens,
            batch_size=self.config.batch_clips,
            return_clap=True,
        )
        vectors = [row.tobytes() if self.keep_clap else None for row in clap_BP.numpy().astype("<f4")]
        return [
            replace(clip, caption=text, clap_audio=vector)
            for clip, text, vector in zip(clips, texts, vectors, strict=True)
        ]

    def _heard(self, clip: Clip) -> np.ndarray:
        """Return the samples that the model hears, shape (S,): of a clip longer than its window, the loudest window."""
        samples = np.frombuffer(clip.audio or b"", dtype="<i2")
        size = round(self.model.config.window_s * clip.sample_rate_hz)
        windows = [samples[first : first + size] for first in range(0, max(1, len(samples) - size // 2), size)]
        return max(windows, key=lambda window: levels(window.tobytes())[0]) if len(windows) > 1 else windows[0]

    def _without_silence(self, clip: Clip) -> Clip:
        if clip.caption:  # it came with the clip
            return clip
        if clip.rms_dbfs is not None and clip.rms_dbfs < self.config.silence_dbfs:
            return clip.dropped(Verdict.SILENT)
        return clip


def model_files(config: CaptionsConfig) -> list[Path]:
    """Return the files of the model, for the fingerprint of a dataset, after a check that does not load the weights.

    A model of the hub is downloaded. Raises SettingError that names the file where one is missing or damaged, and where
    there is neither a folder nor a model of the hub.
    """
    from autorecap.models.autocap import AutoCap, pretrained

    with hub.blamed_on("captions.model"):
        AutoCap.check_pretrained(config.model)
        folder = pretrained.find(config.model)
        return [folder / name for name in pretrained.FILES]


def window_ms(config: CaptionsConfig) -> int:
    """Return how much the model hears at once; no clip may be longer. Raises SettingError as `model_files` does."""
    from autorecap.models import files
    from autorecap.models.autocap import pretrained

    with hub.blamed_on("captions.model"):
        folder = pretrained.find(config.model)
        return int(pretrained.read_config(folder / files.CONFIG).window_s * 1000)
