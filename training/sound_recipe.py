"""Recipe of the parts of a GenAu that learn from sound alone: VAE and vocoder."""

from abc import abstractmethod
from pathlib import Path

from torch import nn

from autorecap.dataset.reading.examples import CAPTIONS_ALONE, ClipExamples, PlainExamples
from autorecap.dataset.reading.manifest import Manifest
from autorecap.models.genau.audio import MEL
from autorecap.models.genau.model import GenAu
from autorecap.training.data_checks import check_audio, check_rates
from autorecap.training.generator_inputs import open_generator
from autorecap.training.loop.config import LoopConfig
from autorecap.training.recipe import Recipe


class SoundRecipe(Recipe):
    """Trains one part of a GenAu and its discriminators, on clips without their texts."""

    model: GenAu
    _clips: Manifest

    def load(self, init: str) -> GenAu:
        return open_generator(init, with_text=False)

    def check(self, clips: Manifest) -> None:
        check_audio(clips)
        check_rates(clips, MEL.sample_rate_hz)

    def examples(self, clips: Manifest, loop: LoopConfig) -> ClipExamples:
        """Return the clips to learn from, unmixed, in the order of the run."""
        self._clips = clips
        return ClipExamples(clips, CAPTIONS_ALONE, self.seconds, loop.seed, self.config.data.window)

    @property
    def seconds(self) -> float:
        """Length of the longest clip."""
        return float(self.config.task.seconds)

    def plain_examples(self, held_out: Manifest) -> PlainExamples:
        """Return clips for validation and samples: the validation data, or the training data if there is none."""
        return PlainExamples(held_out if len(held_out) else self._clips, self.seconds)

    def sampled_clips(self, held_out: Manifest) -> range:
        """Return which clips become samples: each makes two sounds, as it is and as the model returns it."""
        return range(min(len(held_out) or len(self._clips), max(self.config.run.num_samples // 2, 1)))

    @abstractmethod
    def trained_part(self) -> nn.Module:
        """Return the part of the GenAu that is trained."""

    def about(self) -> str:
        return f" in the {type(self.trained_part()).__name__} of size {self.model.config.size} and its discriminators"

    def save(self, folder: Path) -> None:
        self.model.cpu().save_pretrained(folder)
