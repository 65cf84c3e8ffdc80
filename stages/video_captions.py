"""The video captions stage: says what a clip's picture shows, for AutoCap to read. Off unless a model is named.

AutoCap takes it as its second kind of metadata beside the title (paper, 3.1; there by Panda-70M's captioner). The media
stage fetches one frame per clip, from its middle, only when this stage is on.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from autorecap.base.settings import MODEL, Section, SettingError, check, setting
from autorecap.base.text import printable
from autorecap.stages.inference import hub
from autorecap.stages.inference.batches import At, groups, with_clips
from autorecap.stages.records import Clip, Verdict, Video

MAX_CHARS = 500  # a captioner that never ends its sentence must not fill a dataset


@dataclass(frozen=True, kw_only=True)
class VideoCaptionsConfig(Section, name="video_captions"):
    """Settings of the video captions stage: which model captions pictures, and how."""

    model: str = setting(
        "",
        "An image-to-text model of transformers that needs no prompt (BLIP, GIT, vision encoder-decoders): a folder or "
        "hub id. Empty: off. Needs Pillow: pip install 'autorecap[pictures]'.",
        path=MODEL,
    )
    num_beams: int = setting(1, "Beams of the search for a caption.", results=True, ge=1, le=32)
    max_new_tokens: int = setting(30, "Longest caption, in tokens.", results=True, ge=1, le=256)
    batch_frames: int = setting(
        16, "Pictures captioned at once. On a CPU batches stay within one video.", ge=1, le=4096
    )


class VideoCaptions:
    """Turns the frame of a clip into its `video_caption`."""

    name = "video_captions"

    def __init__(self, config: VideoCaptionsConfig, device: str) -> None:
        from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        folder = find_model(config)
        self.config = config
        self.device = device
        # transformers' modules have no types
        self.processor: Any = AutoImageProcessor.from_pretrained(folder)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForImageTextToText.from_pretrained(folder, use_safetensors=True)
        self.model = model.to(device).eval()

    def __call__(self, videos: Sequence[Video]) -> list[Video]:
        captioned: dict[At, Clip] = {}
        for group in groups(videos, _to_caption, across_videos=self.device != "cpu"):
            clips = [videos[v].clips[c] for v, c in group]
            texts = self.caption([clip.frame or b"" for clip in clips])
            captioned.update(
                (at, replace(clip, video_caption=text, frame=None))
                for at, clip, text in zip(group, clips, texts, strict=True)
            )
        return with_clips(videos, captioned)

    def caption(self, frames: Sequence[bytes]) -> list[str]:
        """Return one caption for each JPEG."""
        size = self.config.batch_frames
        return [text for i in range(0, len(frames), size) for text in self._batch(frames[i : i + size])]

    def _batch(self, frames: Sequence[bytes]) -> list[str]:
        import torch
        from PIL import Image

        pictures = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
        pixels = self.processor(images=pictures, return_tensors="pt").to(self.device)
        with torch.inference_mode():
            ids = self.model.generate(
                pixel_values=pixels["pixel_values"],
                do_sample=False,
                num_beams=self.config.num_beams,
                max_new_tokens=self.config.max_new_tokens,
            )
        return [printable(text, MAX_CHARS) for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]


def _to_caption(clip: Clip) -> bool:
    return clip.verdict is Verdict.PENDING and clip.frame is not None


def find_model(config: VideoCaptionsConfig) -> Path:
    """Return the folder of the model; one of the hub is downloaded. Raises SettingError that names what is wrong."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    check(
        find_spec("PIL") is not None,
        "video_captions.model",
        "pictures are read with Pillow, which is not installed: pip install 'autorecap[pictures]'",
    )
    folder = hub.find(config.model, "video_captions.model")
    try:
        known = type(AutoConfig.from_pretrained(folder)) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    except (ValueError, OSError) as error:
        raise SettingError("video_captions.model", f"{folder}: {error}") from error
    check(known, "video_captions.model", f"{folder} is no image-to-text model of transformers, such as a BLIP or a GIT")
    return folder
