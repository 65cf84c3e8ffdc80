"""The captions of the demo, learned from what its frozen encoders make of many scenes, computed once.

A step then costs a fraction of one that listens, and the Q-Former and BART of the demo, which start from nothing, need
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

_AT_ONCE = 64  # scenes drawn, and heard


@dataclass(frozen=True)
class HeardScenes:
    """What the encoders hear in scenes, and what is in them."""

    heard: Heard
    kinds: list[tuple[str, ...]]
    compositions: list[str]

    def __len__(self) -> int:
        return len(self.kinds)

    @classmethod
    @torch.inference_mode()
    def listen(cls, model: AutoCap, bank: SoundBank, positions: range, threads: int) -> "HeardScenes":
        """Every scene at these positions of the bank, once."""
        model.eval()
        device = model.device
        vectors, clap, kinds, compositions = [], [], [], []
        with ThreadPoolExecutor(threads) as pool:
            for first in range(0, len(positions), _AT_ONCE):
                drawn = list(pool.map(bank.draw, positions[first : first + _AT_ONCE]))
                mels = (torch.cat([scene.features[i] for scene in drawn]).to(device) for i in range(2))
                heard = model.hear(AudioFeatures(*mels))
                vectors.append(heard.vectors.half().cpu())
                clap.append(heard.clap.half().cpu())
                kinds += [scene.kinds for scene in drawn]
                compositions += [scene.composition for scene in drawn]
        # Clones: what inference mode makes cannot be learned from.
        return cls(Heard(torch.cat(vectors).clone(), torch.cat(clap).clone()), kinds, compositions)


class HeardTask(AutoCapTask):
    """AutoCap's own task, its examples heard beforehand; texts are other ones at every position."""

    def __init__(self, model: AutoCap, scenes_: HeardScenes, config: AutoCapTaskConfig, seed: int) -> None:
        super().__init__(model, _no_examples, config, seed)
        self.scenes = scenes_

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
            audio=Heard(*(tensor[chosen].float() for tensor in self.scenes.heard)),
            stripes=None,
            titles=titles,
            video_captions=video_captions,
            captions=captions,
        )


def _no_examples(position: int) -> Example:
    raise AssertionError("this task knows its batches already")
