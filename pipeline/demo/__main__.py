"""The demo: synthesise a folder of videos, build a dataset from it, look at it. What `make demo` runs.

python -m pipeline.demo demo-data
"""

import sys
from pathlib import Path

from pipeline.cli import app
from pipeline.dataset.view import DatasetView
from pipeline.demo.corpus import CORPUS, synthesise_corpus

CONFIG = Path(__file__).parents[2] / "configs" / "demo.yaml"


def main(folder: Path) -> int:
    videos, dataset = folder / "videos", folder / "dataset"
    print(f"Synthesising {len(CORPUS)} short videos in {videos}: what yt-dlp would leave, with its usual accidents")
    synthesise_corpus(videos)
    command = ["build", "--videos", str(videos), "--out", str(dataset), "--config", str(CONFIG)]
    command += ["--address", "local"]  # a Ray that happens to run here is not for demos
    print(f"\n$ autorecap {' '.join(command)}", flush=True)
    code = app(command, standalone_mode=False) or 0
    if code:
        return code
    print(f"\n$ autorecap inspect {dataset} --clips 8", flush=True)
    app(["inspect", str(dataset), "--clips", "8"], standalone_mode=False)
    print(_next_steps(dataset))
    return 0


def _next_steps(dataset: Path) -> str:
    longest = DatasetView(str(dataset)).rows("select key from clips order by duration_ms desc, key desc limit 1")
    key = longest[0]["key"]  # one that was joined of several
    return f"""
Try next (after `source .venv/bin/activate`):

  autorecap inspect {dataset} --clip {key} --save clip.flac      listen to one clip
  autorecap inspect {dataset} --sql "select caption, duration_ms from clips"        ask anything
  autorecap inspect {dataset} --sql "select video_id, dropped from videos"          what was dropped, and why
  autorecap segment {dataset.parent}/videos/rainOnRoof1.en.json3 --duration 26      gaps of one transcript
  echo "A man speaks while birds sing" | autorecap filter                           what the keyword filter says
  autorecap build --videos YOUR_FOLDER --out YOUR_DATASET                           your own videos
"""  # noqa: S608


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
