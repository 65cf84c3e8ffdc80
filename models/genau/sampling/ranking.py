"""CLAP tells which of several sounds fits a text best."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from autorecap.models.autocap import AutoCap, pretrained
from autorecap.models.clap import ClapText
from autorecap.models.files import ModelFilesError
from autorecap.models.genau.audio import MEL


class ClapScorer:
    """A score is the cosine between CLAP's vectors of a sound and a text, from -1 to 1.

    The vector of a sound comes from the audio branch that a captioner listens with: it hears the first 10 s alone.
    """

    def __init__(self, captioner: AutoCap, text: ClapText) -> None:
        heard, read = captioner.config.clap_width, text.config.joint_width
        if heard != read:
            raise ValueError(
                f"CLAP's text branch gives vectors of {read} numbers, the captioner's CLAP of {heard}: take both from "
                "the same CLAP"
            )
        self.captioner = captioner
        self.text = text

    @classmethod
    def from_pretrained(
        cls, captioner: str | Path, text: str | Path | None = None, device: str | torch.device = "cpu"
    ) -> "ClapScorer":
        """Loads both branches of CLAP, the audio branch as part of a captioner. Raises ModelFilesError.

        `captioner`: a captioner's folder or hub id, or "demo". `text`: that of the text branch, if not in the
        captioner's folder.
        """
        if text is None:
            text = pretrained.find_clap_text(captioner)
        try:
            return cls(AutoCap.from_pretrained(captioner).to(device), ClapText.from_pretrained(text).to(device))
        except ValueError as error:
            raise ModelFilesError(f"{captioner}: {error}") from error

    @torch.inference_mode()
    def __call__(self, waveforms: Sequence[Tensor], texts: Sequence[str]) -> list[float]:
        """Returns one score per waveform (16 kHz) and its text."""
        window = round(self.captioner.config.window_s * MEL.sample_rate_hz)
        x_BS = self.captioner.prepare([waveform[:window] for waveform in waveforms], MEL.sample_rate_hz)
        audio_BP = self.captioner.clap(self.captioner.features(x_BS).clap)
        return [float(score) for score in (audio_BP * self.text.embed(texts)).sum(dim=1)]
