"""The flow without Ray: block by block, and honest about a process that has fallen ill."""

import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest

from autorecap.base.errors import FINISHED_WITH_FAILURES
from autorecap.dataset.log import read_state
from autorecap.dataset.store import open_store
from autorecap.dataset.view import DatasetView
from autorecap.pipeline.build import run_events
from autorecap.pipeline.build.config import load_config
from autorecap.pipeline.build.driver import prepare, run
from autorecap.pipeline.build.local_flow import LocalFlow
from autorecap.pipeline.plan.sources import FolderSource
from autorecap.stages.stage import SickWorker

CONFIG = load_config(None, ["writer.videos_per_shard=4", "pools.block_videos=2"])


class Loses:
    """A stage that fails at everything after so many videos, as one whose GPU is lost."""

    name = "loses"

    def __init__(self, after: int) -> None:
        self.left = after
        self.groups: list[Any] = []

    def __call__(self, videos):
        self.groups.append(len(videos))
        self.left -= len(videos)
        if self.left < 0:
            raise RuntimeError("no GPU")
        return list(videos)


@pytest.fixture
def folder(tmp_path) -> str:
    (tmp_path / "videos").mkdir()
    for name in "abcdefghij":
        (tmp_path / "videos" / f"{name}.ogg").write_bytes(b"x")
    return str(tmp_path / "videos")


def build(folder, out, stage):
    job = prepare(FolderSource(folder), str(out), CONFIG)
    flow = LocalFlow(CONFIG, job.store, stages={"judge": [stage]})
    return flow, run(job, flow, lambda outcome, total: None)


def test_videos_go_through_in_blocks_and_are_counted(folder, tmp_path):
    stage = Loses(after=10)
    flow, outcome = build(folder, tmp_path / "out", stage)
    assert stage.groups == [2] * 5 and flow.counts() == {"judge": 10}
    assert outcome.counts["videos"] == 10


def test_a_build_runs_and_names_its_libraries_where_ray_and_some_of_them_are_not_installed(
    folder, tmp_path, monkeypatch
):
    def installed(name):
        if name in ("ray", "webdataset"):
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(run_events, "version", installed)
    build(folder, tmp_path / "out", Loses(after=10))
    events = min((tmp_path / "out" / "runs").iterdir())
    versions = json.loads(events.read_text().splitlines()[0])["versions"]
    assert versions["torch"] == version("torch") and not versions.keys() & {"ray", "webdataset"}


def test_a_stage_that_falls_ill_ends_the_build_and_what_is_committed_stays(folder, tmp_path):
    with pytest.raises(SickWorker, match="stage loses failed at each of 2 videos: RuntimeError: no GPU") as error:
        build(folder, tmp_path / "out", Loses(after=6))
    assert error.value.exit_code == FINISHED_WITH_FAILURES
    assert read_state(open_store(str(tmp_path / "out"))).done.ranges == ((0, 4),)
    build(folder, tmp_path / "out", Loses(after=10))
    rows = DatasetView(str(tmp_path / "out")).rows("select status from videos")
    assert [row["status"] for row in rows] == ["ok"] * 10


def test_a_stage_that_has_never_worked_ends_each_video_by_itself(folder, tmp_path):
    _, outcome = build(folder, tmp_path / "out", Loses(after=0))
    assert outcome.left == 10
    rows = DatasetView(str(tmp_path / "out")).rows("select distinct reason from videos")
    assert rows == [{"reason": "internal_error"}]
