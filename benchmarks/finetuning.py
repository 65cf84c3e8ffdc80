"""Does the bundled captioner learn real sounds? Fine-tuned on half of the recordings of each class, asked of the rest.

    python -m benchmarks.finetuning ESC-10

The folder holds one folder per class, as ESC-10 does: dog_bark/1-100032-A.ogg is captioned "Dog bark". The first half
of a class, by name, is learned from, the second half judged. Recordings cut from one source share a name up to the
last dash: of the second half, those whose source was also in the first are reported apart.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

import torch

from autorecap.dataset.reading.clips import read_audio
from autorecap.dataset.reading.examples import ExamplesConfig
from autorecap.models.autocap import AutoCap
from autorecap.training.autocap.recipe import AutoCapTraining, train_autocap
from autorecap.training.autocap.task import AutoCapTaskConfig
from autorecap.training.loop.config import LoopConfig
from autorecap.training.recipe import RunConfig

SOUNDS = {".ogg", ".wav", ".flac", ".mp3"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="one folder per class")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--frozen", nargs="*", default=[], help="encoders, bart, embeddings")
    parser.add_argument("--mix", type=float, default=0.1, help="share of clips that get another one mixed in")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.folder is None:
        print("needs recordings, which the project does not carry: name a folder such as ESC-10's")
        return
    learned, asked = halves(options.folder)
    sources = {source(path) for paths in learned.values() for path in paths}
    settings = AutoCapTraining(
        task=AutoCapTaskConfig(frozen=tuple(options.frozen)),
        examples=ExamplesConfig(mix_p=options.mix),
        loop=LoopConfig(
            steps=options.steps,
            warmup_steps=min(20, options.steps),
            batch_size=options.batch_size,
            lr=options.lr,
            log_every=50,
            seed=options.seed,
        ),
        run=RunConfig(save_every=options.steps),
    )
    with tempfile.TemporaryDirectory() as scratch:
        listed = Path(scratch, "learned.csv")
        with listed.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["file_name", "caption"])
            rows.writerows(
                (path.relative_to(options.folder), text) for text, paths in learned.items() for path in paths
            )
        started = time.perf_counter()
        data = f"{listed}@{options.folder}"
        outcome = train_autocap(settings, [data], Path(scratch, "run"), init="demo", device="cpu")
        seconds = time.perf_counter() - started
        before, after = (judge(model, asked, sources) for model in (AutoCap.DEMO, outcome.model))
    print(f"{len(learned)} classes, {sum(map(len, learned.values()))} clips learned from in {seconds:.0f} s")
    print(f"{'captions that name the class':36}{'bundled':>10}{'fine-tuned':>12}{'by chance':>11}")
    for name in before:
        print(f"{name:36}{before[name]:10.1%}{after[name]:12.1%}{1 / len(asked):11.1%}")


def halves(folder: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Files by caption: the first half of each class, and the second."""
    learned, asked = {}, {}
    for each in sorted(path for path in folder.iterdir() if path.is_dir()):
        paths = sorted(path for path in each.iterdir() if path.suffix in SOUNDS)
        text = each.name.replace("_", " ").capitalize()
        learned[text], asked[text] = paths[: (len(paths) + 1) // 2], paths[(len(paths) + 1) // 2 :]
    return learned, asked


def source(path: Path) -> str:
    """What recordings cut from one file have in common."""
    return f"{path.parent.name}/{path.stem.rpartition('-')[0]}"


def judge(model_path: str | Path, asked: dict[str, list[Path]], sources: set[str]) -> dict[str, float]:
    """Share of captions that name the class: of all clips, and of those whose source was not learned from."""
    model = AutoCap.from_pretrained(model_path)
    right: dict[Path, bool] = {}
    for text, paths in asked.items():
        for path in paths:
            waveform, rate = read_audio(str(path), window_s=model.config.window_s, share=0.0)
            right[path] = text.lower() in model.caption([waveform], rate)[0].lower()
    fresh = [path for path in right if source(path) not in sources]
    return {
        f"all {len(right)} clips": sum(right.values()) / len(right),
        f"{len(fresh)} of other sources": sum(right[path] for path in fresh) / max(len(fresh), 1),
    }


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
