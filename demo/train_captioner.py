"""Train the demo captioner from nothing, on synthesised sounds, on two cores:

python -m autorecap.demo.train_captioner --out models/autocap/demo_weights

Three tasks run on the project's training loop. The audio encoders learn which sounds there are and when; then they are
frozen and encode many scenes once; from these the Q-Former and BART learn captions, and CLAP's text tower which text
fits.
"""

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from autorecap.demo import scenes, sentences
from autorecap.demo.caption_task import EncodedCaptionTask, EncodedScenes
from autorecap.demo.clap_text import PairTask, new_text_tower
from autorecap.demo.random_draws import generator_without_purpose
from autorecap.demo.sound_bank import SoundBank
from autorecap.demo.sounds import KINDS, synthesise
from autorecap.demo.synthesis import SAMPLE_RATE_HZ
from autorecap.demo.tag_task import TagTask
from autorecap.models.autocap import SIZES, AutoCap, CaptionTokenizer
from autorecap.models.clap import TEXT_FOLDER, ClapText
from autorecap.training.autocap.task import AutoCapTaskConfig
from autorecap.training.loop.config import LoopConfig
from autorecap.training.loop.task import Task
from autorecap.training.loop.trainer import Trainer
from autorecap.training.report.logs import for_people

MIN_ACCURACY = {"clean": 0.97, "recorded": 0.97, "misled": 0.97, "mix": 0.65, "sequence": 0.8}
"""Accuracy over fresh clips, per condition: a model below it does not replace the bundled one."""
CLIPS_PER_KIND = 12  # in each condition of the evaluation
FRESH_SEED = 1_000_003  # the sounds of the evaluation are never trained on


def train(args: argparse.Namespace) -> tuple[AutoCap, ClapText]:
    """Return a trained captioner of size `demo`, and the text tower of its CLAP."""
    torch.manual_seed(args.seed)
    config = SIZES["demo"]
    model = AutoCap(config, CaptionTokenizer.train(sentences.corpus(), config.bart.vocab))
    text = new_text_tower(model.tokenizer)
    _say("synthesising sounds")
    bank = SoundBank(model, args.sounds, args.seed, args.threads)
    _say("encoders: which sounds, and when")
    _fit(TagTask(model, bank), args, args.tag_steps, args.batch_size)
    _say("encoding the scenes to caption")
    # Not the scenes of the first task: the encoders know those better than the clips to come.
    first = args.tag_steps * args.batch_size
    encoded = EncodedScenes.encode(model, bank, range(first, first + args.scenes), args.threads)
    _say("captions")
    caption_task = EncodedCaptionTask(
        model, encoded, AutoCapTaskConfig(frozen=("encoders",), label_smoothing=0.05), args.seed
    )
    _fit(caption_task, args, args.steps, 2 * args.batch_size)
    _say("texts for CLAP")
    _fit(PairTask(text, encoded, args.seed), args, args.text_steps, 2 * args.batch_size)
    return model.cpu().eval(), text.cpu().eval()


def _fit(task: Task, args: argparse.Namespace, steps: int, batch_size: int) -> None:
    loop = LoopConfig(
        steps=steps,
        batch_size=batch_size,
        lr=args.lr,
        warmup_steps=min(50, steps),
        threads=args.threads,
        prefetch=2 * args.threads,
        precision="fp32",
        log_every=100,
        seed=args.seed,
    )
    Trainer(task, loop, device=args.device).run(lambda line: _say(for_people(line)))


def _say(text: str) -> None:
    print(text, flush=True)


def evaluate(model: AutoCap) -> dict[str, dict[str, float]]:
    """Return the share of fresh clips whose caption names their sound, per condition and kind.

    Conditions are `clean`, one sound of 1 to 10 s without a title; `recorded`, the same, degraded; `misled`, with a
    title about another sound; `mix` and `sequence`, two sounds that must both be named.
    """
    results: dict[str, dict[str, float]] = {}
    for condition in ("clean", "recorded", "misled", "mix", "sequence"):
        results[condition] = {}
        for kind_index, kind in enumerate(KINDS):
            rng = generator_without_purpose(FRESH_SEED, kind_index)
            clips = [_fresh_clip(kind, condition, rng) for _ in range(CLIPS_PER_KIND)]
            titles = [sentences.misleading_title([kind], rng) if condition == "misled" else "" for _ in clips]
            captions = model.caption([waveform for waveform, _ in clips], SAMPLE_RATE_HZ, titles)
            right = [
                all(sentences.names(text, k) for k in kinds) for text, (_, kinds) in zip(captions, clips, strict=True)
            ]
            results[condition][kind] = sum(right) / len(right)
    return results


def _fresh_clip(kind: str, condition: str, rng: np.random.Generator) -> tuple[np.ndarray, tuple[str, ...]]:
    if condition in ("mix", "sequence"):
        while True:
            index = int(rng.integers(10**9)) // len(KINDS) * len(KINDS) + KINDS.index(kind)
            kinds, composition, _ = scenes.choose_scene(FRESH_SEED, index)
            if composition == condition:
                return scenes.draw_scene(FRESH_SEED, index).waveform, kinds
    waveform = synthesise(kind, scenes.draw_seconds(rng), rng)
    return (scenes.degrade(waveform, rng) if condition == "recorded" else waveform), (kind,)


def retrieval(model: AutoCap, text: ClapText, num_scenes: int = 140) -> dict[str, float]:
    """Return how well texts and sounds match over fresh scenes of one sound or two.

    There is one caption for each set of sounds that occurs (`texts` of them). `right` is the share of scenes whose own
    caption has the highest cosine; `fitting` and `other` are the mean cosines with it and with other captions.
    """
    drawn = [scenes.draw_scene(FRESH_SEED, index) for index in range(num_scenes)]
    sounds = [frozenset(scene.kinds) for scene in drawn]
    captions = {
        each: sentences.caption(scene.kinds, scene.composition, np.random.default_rng(FRESH_SEED))
        for each, scene in zip(sounds, drawn, strict=True)
    }
    sets = list(captions)
    with torch.inference_mode():
        mels = (model.features(model.prepare([scene.waveform], SAMPLE_RATE_HZ)).clap for scene in drawn)
        audio = torch.cat([model.clap(mel) for mel in mels])
        cosines = audio @ text.embed([captions[each] for each in sets]).T
    own = torch.tensor([[each == other for other in sets] for each in sounds])
    return {
        "right": float((cosines.argmax(dim=1) == own.float().argmax(dim=1)).float().mean()),
        "texts": float(len(sets)),
        "fitting": float(cosines[own].mean()),
        "other": float(cosines[~own].mean()),
    }


def mean(shares: dict[str, float]) -> float:
    """Return the mean over all kinds."""
    return sum(shares.values()) / len(shares)


def main(arguments: list[str] | None = None) -> int:
    """Train, evaluate and write the models. Return 0, or 1 if the captioner was not good enough to be written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for config, weights and tokenizer")
    parser.add_argument("--sounds", type=int, default=240, help="synthesised of each kind")
    parser.add_argument("--tag-steps", type=int, default=900, help="steps of the encoders")
    parser.add_argument("--scenes", type=int, default=14_000, help="distinct ones to caption")
    parser.add_argument("--steps", type=int, default=3_000, help="steps of the captions")
    parser.add_argument("--text-steps", type=int, default=800, help="steps of CLAP's text tower")
    parser.add_argument(
        "--batch-size", type=int, default=32, help="scenes per step of the encoders; twice as many after"
    )
    parser.add_argument("--lr", type=float, default=1e-3, help="at the peak of each schedule")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    started = time.perf_counter()
    model, text = train(args)
    with TemporaryDirectory() as folder:  # evaluate the weights as they are stored, in half precision
        model.save_pretrained(folder, dtype=torch.float16)
        text.save_pretrained(Path(folder, TEXT_FOLDER), dtype=torch.float16)
        model, text = AutoCap.from_pretrained(folder), ClapText.from_pretrained(Path(folder, TEXT_FOLDER))
    _say(f"trained in {time.perf_counter() - started:.0f} s; evaluating on fresh clips")
    results = evaluate(model)
    _say(f"{'':14}" + "".join(f"{condition:>10}" for condition in results))
    for kind in KINDS:
        _say(f"{kind:14}" + "".join(f"{shares[kind]:10.0%}" for shares in results.values()))
    _say(f"{'all':14}" + "".join(f"{mean(shares):10.1%}" for shares in results.values()))
    matches = retrieval(model, text)
    _say(
        f"CLAP: {matches['right']:.1%} of scenes find their caption among {matches['texts']:.0f}; cosine with it "
        f"{matches['fitting']:.2f}, with others {matches['other']:.2f}"
    )
    below = [name for name, least in MIN_ACCURACY.items() if mean(results[name]) < least]
    if below:
        shares = ", ".join(f"{name} {mean(results[name]):.1%} (at least {MIN_ACCURACY[name]:.0%})" for name in below)
        print(f"{args.out} is left as it is: {shares}. Train longer (--tag-steps, --steps)")
        return 1
    model.save_pretrained(args.out, dtype=torch.float16)
    text.save_pretrained(args.out / TEXT_FOLDER, dtype=torch.float16)
    print(f"written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
