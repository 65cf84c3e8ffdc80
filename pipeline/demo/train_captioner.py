"""Train the demo captioner from nothing, on synthesised sounds, in minutes on two cores:

python -m pipeline.demo.train_captioner --out models/autocap/demo_weights
"""

import argparse
import sys
import time
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from models.autocap import SIZES, AutoCap, CaptionTokenizer
from pipeline.demo import scenes, sentences
from pipeline.demo.sounds import KINDS, SAMPLE_RATE_HZ, synthesise
from pipeline.training.autocap_task import AutoCapTask, AutoCapTaskConfig, Example
from pipeline.training.loop import LoopConfig, Trainer, logger

MIN_ACCURACY = 0.9  # over fresh clips of one sound: a model below it replaces nothing
FRESH_SEED = 1_000_003  # the sounds of the evaluation are never trained on


class SceneExamples:
    """`num_scenes` scenes, in another order and with other texts every time around."""

    num_tags = len(KINDS)

    def __init__(self, seed: int, num_scenes: int) -> None:
        self.seed, self.num_scenes = seed, num_scenes

    def __call__(self, position: int) -> Example:
        round_, place = divmod(position, self.num_scenes)
        index = int(_order(self.seed, round_, self.num_scenes)[place])
        kinds, composition, _ = scenes.plan_scene(self.seed, index)
        title, video_caption, caption = scenes.draw_texts(self.seed, position, kinds, composition)
        return Example(
            key=index,
            load=lambda: scenes.draw_scene(self.seed, index).waveform,
            sample_rate_hz=SAMPLE_RATE_HZ,
            title=title,
            video_caption=video_caption,
            caption=caption,
            tags=tuple(KINDS.index(kind) for kind in kinds),
        )


@lru_cache(maxsize=4)
def _order(seed: int, round_: int, num_scenes: int) -> np.ndarray:
    return np.random.default_rng([seed, round_]).permutation(num_scenes)


def train(steps: int, batch_size: int, num_scenes: int, seed: int, log_path: Path | None, device: str) -> AutoCap:
    """A captioner of size `demo` that knows the sounds."""
    torch.manual_seed(seed)
    config = SIZES["demo"]
    model = AutoCap(config, CaptionTokenizer.train(sentences.corpus(), config.bart.vocab))
    for encoder in (model.htsat.encoder, model.clap.encoder):
        # The patches' convolution can do what these scales do, and with them fixed no gradient need flow back to the
        # spectrograms: 40 % of the work of a step.
        encoder.swin.batch_norm.requires_grad_(False)
    task_config = AutoCapTaskConfig(tag_weight=2.0, label_smoothing=0.05, cached_clips=num_scenes, seed=seed)
    task = AutoCapTask(model, SceneExamples(seed, num_scenes), task_config)
    loop = LoopConfig(steps=steps, batch_size=batch_size, seed=seed, device=device)
    Trainer(task, loop).run(logger(log_path))
    return model.cpu().eval()


def evaluate(model: AutoCap, clips_per_kind: int = 12, seed: int = FRESH_SEED) -> dict[str, dict[str, float]]:
    """Share of fresh clips whose caption names their sound, per condition and kind.

    `clean`: one sound of 1 to 10 s without a title. `recorded`: the same, mistreated. `misled`: with a title about
    another sound. `mix` and `sequence`: two sounds, both named.
    """
    results: dict[str, dict[str, float]] = {}
    for condition in ("clean", "recorded", "misled", "mix", "sequence"):
        results[condition] = {}
        for kind_index, kind in enumerate(KINDS):
            rng = np.random.default_rng([seed, kind_index])
            clips = [_fresh_clip(kind, condition, seed, rng) for _ in range(clips_per_kind)]
            titles = [sentences.misleading_title([kind], rng) if condition == "misled" else "" for _ in clips]
            captions = model.caption([waveform for waveform, _ in clips], SAMPLE_RATE_HZ, titles)
            right = [
                all(sentences.names(text, k) for k in kinds) for text, (_, kinds) in zip(captions, clips, strict=True)
            ]
            results[condition][kind] = sum(right) / len(right)
    return results


def _fresh_clip(kind: str, condition: str, seed: int, rng: np.random.Generator) -> tuple[np.ndarray, tuple[str, ...]]:
    if condition in ("mix", "sequence"):
        while True:
            index = int(rng.integers(10**9)) // len(KINDS) * len(KINDS) + KINDS.index(kind)
            kinds, composition, _ = scenes.plan_scene(seed, index)
            if composition == condition:
                return scenes.draw_scene(seed, index).waveform, kinds
    waveform = synthesise(kind, scenes.draw_seconds(rng), rng)
    return (scenes.mistreat(waveform, rng) if condition == "recorded" else waveform), (kind,)


def mean(shares: dict[str, float]) -> float:
    """The mean over the kinds."""
    return sum(shares.values()) / len(shares)


def main(arguments: list[str] | None = None) -> int:
    """0 where the model was written, 1 where it was not good enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for config, weights and tokenizer")
    parser.add_argument("--steps", type=int, default=1_100)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--scenes", type=int, default=5_040, help="distinct clips to learn from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--log", type=Path, help="append one JSON line per logged step here")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    started = time.perf_counter()
    model = train(args.steps, args.batch_size, args.scenes, args.seed, args.log, args.device)
    with TemporaryDirectory() as folder:  # what is judged is what is stored, in half precision
        model.save_pretrained(folder, dtype=torch.float16)
        model = AutoCap.from_pretrained(folder)
    print(f"trained in {time.perf_counter() - started:.0f} s; listening to fresh clips")
    results = evaluate(model)
    print(f"{'':14}" + "".join(f"{condition:>10}" for condition in results))
    for kind in KINDS:
        print(f"{kind:14}" + "".join(f"{shares[kind]:10.0%}" for shares in results.values()))
    print(f"{'all':14}" + "".join(f"{mean(shares):10.1%}" for shares in results.values()))
    accuracy = min(mean(results[condition]) for condition in ("clean", "recorded", "misled"))
    if accuracy < MIN_ACCURACY:
        print(f"{args.out} is left as it is: {accuracy:.1%} is below {MIN_ACCURACY:.0%}. Train longer (--steps)")
        return 1
    model.save_pretrained(args.out, dtype=torch.float16)
    print(f"written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
