"""The demo: synthesises a folder of videos, builds a dataset from it, shows it, and trains a generator on it.

python -m autorecap.demo demo-data
"""

import argparse
import shlex
import sys
import time
from pathlib import Path

from autorecap.cli import app
from autorecap.dataset.view import DatasetView
from autorecap.demo.corpus import CORPUS, synthesise_corpus

PROMPTS = ("A dog barks several times", "Rain falls on a surface")


def main(arguments: list[str] | None = None) -> int:
    """Run the demo. Return the exit code of the first command that failed, or 0."""
    parser = argparse.ArgumentParser(prog="python -m autorecap.demo", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("demo-data"), help="default: demo-data")
    folder: Path = parser.parse_args(arguments).folder
    started = time.perf_counter()
    videos, dataset = folder / "videos", folder / "dataset"
    print(f"Synthesising {len(CORPUS)} short videos in {videos}: what yt-dlp would leave, with its usual accidents")
    synthesise_corpus(videos)
    # --address local: the demo must not use a Ray cluster that happens to run here
    code = _run("build", "--videos", videos, "--out", dataset, "--config", "demo", "--address", "local")
    code = code or _run("inspect", dataset, "--clips", 8)
    code = code or _train(folder, dataset)
    if not code:
        print(_next_steps(folder, dataset))
        print(f"Done in {time.perf_counter() - started:.0f} s.")
    return code


def _train(folder: Path, dataset: Path) -> int:
    """Train VAE, vocoder and generator of the smallest size for a minute each, and generate a sound for each prompt."""
    vae, vocoder, latents, genau = (folder / name for name in ("vae", "vocoder", "latents", "genau"))
    for command in (
        ("train", "vae", "--config", "vae-demo", "--init", "demo", "--data", dataset, "--out", vae),
        ("train", "vocoder", "--config", "vocoder-demo", "--init", vae / "model", "--data", dataset,
         "--out", vocoder),
        ("encode", "--data", dataset, "--model", vocoder / "model", "--out", latents),
        ("train", "genau", "--config", "genau-demo", "--init", vocoder / "model", "--data", latents,
         "--out", genau),
        ("generate", *PROMPTS, "--model", genau / "model", "--out", folder / "wavs", "--seconds", 5, "--steps", 25,
         "--guidance", 2),
    ):  # fmt: skip
        if code := _run(*command):
            return code
    return 0


def _run(*arguments: object) -> int:
    """Print a command and run it as if it were typed. Return its exit code."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ autorecap {shlex.join(words)}", flush=True)
    return app(words, standalone_mode=False) or 0


def _next_steps(folder: Path, dataset: Path) -> str:
    view = DatasetView(str(dataset))
    rows = view.rows("select count(*) as clips from clips")[0]["clips"]
    longest = view.rows("select key from clips order by duration_ms desc, key desc limit 1")
    key = longest[0]["key"]  # one that was joined of several
    return f"""
The generator has seen {rows} clips for a minute. Listen to {folder}/wavs; {folder}/genau/report.html shows its curves
and sounds, as those of vae and vocoder do. The same commands train longer with --set loop.steps=2000.

Try next:

  autorecap inspect {dataset} --clip {key} --save clip.flac      listen to one clip
  autorecap inspect {dataset} --sql "select caption, duration_ms from clips"        ask anything
  autorecap inspect {dataset} --sql "select video_id, dropped from videos"          what was dropped, and why
  autorecap segment {dataset.parent}/videos/rainOnRoof1.en.json3 --duration 26      gaps of one transcript
  echo "A man speaks while birds sing" | autorecap filter                           what the keyword filter says
  autorecap build --videos YOUR_FOLDER --out YOUR_DATASET                           your own videos
"""  # noqa: S608


if __name__ == "__main__":
    sys.exit(main())
