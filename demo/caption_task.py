"""Task of the demo's captions: scenes go through the frozen encoders once, and captions are learned from the result.

A step then costs a fraction of one with the encoders, and the demo's Q-Former and BART, which start untrained, need
thousands of steps.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from autorecap.dataset.reading.examples import Example
from autorecap.demo import scenes
from autorecap.demo.sound_bank import SoundBank
from autorecap.models.autocap.model import AudioFeatures, AutoCap, Heard
from autorecap.training.autocap.task import AutoCapTask, AutoCapTaskConfig, CaptionBatch

_AT_ONCE = 64  # scenes drawn and encoded


@dataclass(frozen=True)
class EncodedScenes:
    """Scenes as the frozen encoders return them, with the sounds that are in them."""

    features: Heard
    kinds: list[tuple[str, ...]]
    compositions: list[str]

    def __len__(self) -> int:
        return len(self.kinds)

    @classmethod
    @torch.inference_mode()
    def encode(cls, model: AutoCap, bank: SoundBank, positions: range, threads: int) -> "EncodedScenes":
        """Draw the scenes at these positions of the bank, and encode each once."""
        model.eval()
        device = model.device
        vectors, clap, kinds, compositions = [], [], [], []
        with ThreadPoolExecutor(threads) as pool:
            for first in range(0, len(positions), _AT_ONCE):
                drawn = list(pool.map(bank.draw, positions[first : first + _AT_ONCE]))
                mels = (torch.cat([scene.features[i] for scene in drawn]).to(device) for i in range(2))
                features = model.hear(AudioFeatures(*mels))
                vectors.append(features.vectors.half().cpu())
                clap.append(features.clap.half().cpu())
                kinds += [scene.kinds for scene in drawn]
                compositions += [scene.composition for scene in drawn]
        # Clones, since tensors that were made in inference mode cannot take part in training.
        return cls(Heard(torch.cat(vectors).clone(), torch.cat(clap).clone()), kinds, compositions)


class EncodedCaptionTask(AutoCapTask):
    """AutoCap's task on encoded scenes; their texts are drawn anew at every position."""

    def __init__(self, model: AutoCap, encoded: EncodedScenes, config: AutoCapTaskConfig, seed: int) -> None:
        super().__init__(model, _no_examples, config, seed)
        self.scenes = encoded

    def batch(self, positions: range) -> CaptionBatch:
        chosen = [scenes.scene_at(self.seed, position, len(self.scenes)) for position in positions]
        texts = [
            scenes.draw_texts(self.seed, position, self.scenes.kinds[index], self.scenes.compositions[index])
            for position, index in zip(positions, chosen, strict=True)
        ]
        titles, video_captions, captions = zip(*texts, strict=True)
        return self.collate(
            names=tuple(f"scene {index}" for index in chosen),
            unreadable=(),
            audio=Heard(*(tensor[chosen].float() for tensor in self.scenes.features)),
            stripes=None,
            titles=titles,
            video_captions=video_captions,
            captions=captions,
        )


def _no_examples(position: int) -> Example:
    raise AssertionError("this task makes its batches from encoded scenes")
