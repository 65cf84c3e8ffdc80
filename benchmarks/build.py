"""What Ray costs and brings on this machine: the same build by a RayFlow, and by a LocalFlow in one process.

    python -m benchmarks.build [--copies 8]

Both run the same stages and the same writer over the same videos, and must publish the same shards. Ray's time is
taken with and without its start: on a laptop the start counts, over a million videos it does not.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from autorecap.cluster.start import LOCAL, connected
from autorecap.dataset.log import read_state
from autorecap.dataset.store import open_store
from autorecap.demo.corpus import CORPUS, synthesise_corpus
from autorecap.pipeline.build.config import BuildConfig, load_config
from autorecap.pipeline.build.driver import Outcome, prepare, run
from autorecap.pipeline.build.local_flow import LocalFlow
from autorecap.pipeline.plan.sources import FolderSource


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=8, help="of the demo's first twelve videos")
    options = parser.parse_args()
    config = load_config(None, ["writer.videos_per_shard=16", "pools.block_videos=4"])
    with tempfile.TemporaryDirectory() as folder:
        videos = make_videos(Path(folder, "videos"), options.copies)
        local, local_s = build(videos, f"{folder}/local", config, LocalFlow)
        started = time.perf_counter()
        with connected(LOCAL):
            from autorecap.cluster.ray_flow import RayFlow

            ray, ray_s = build(videos, f"{folder}/ray", config, RayFlow)
        with_start_s = time.perf_counter() - started
        assert local == ray, "the shards differ"
        count = 12 * options.copies
        print(f"{count} videos, {len(local)} shards, the same bytes both ways")
        for name, seconds in (("LocalFlow", local_s), ("RayFlow", ray_s), ("RayFlow with Ray's start", with_start_s)):
            print(f"{name:>24}: {seconds:6.1f} s  {count / seconds:6.2f} videos/s  {local_s / seconds:5.2f}x")


def make_videos(folder: Path, copies: int) -> str:
    synthesise_corpus(folder, CORPUS[:12])
    for path in list(folder.iterdir()):
        for copy in range(1, copies):
            shutil.copy(path, folder / f"c{copy}{path.name}")
    return str(folder)


def build(videos: str, out: str, config: BuildConfig, flow: type) -> tuple[list[str], float]:
    """The names of the shards, which are hashes of their bytes, and the seconds from planning to the last commit."""
    job = prepare(FolderSource(videos), out, config)
    started = time.perf_counter()
    run(job, flow(config, job.store), _silent)
    names = read_state(open_store(out)).names("shards")
    return [name for name in names if name.endswith(".tar")], time.perf_counter() - started


def _silent(outcome: Outcome, total: int) -> None:
    """No progress lines: they are not what is measured."""


if __name__ == "__main__":
    main()
