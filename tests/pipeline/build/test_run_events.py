"""Events of a run: who is at work, lines that outlive their driver, and no passwords in them."""

import json
import os
from pathlib import Path

import pytest

from autorecap.dataset.store import StoreError, open_store
from autorecap.pipeline.build.run_events import RunEvents, library_versions


def test_a_run_says_who_is_at_work_and_what_happened_without_passwords(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    events = RunEvents(store, epoch=7)
    lease = json.loads(store.read("lease.json"))
    assert (lease["epoch"], lease["pid"], lease["run"]) == (7, os.getpid(), events.run)
    events.add("began", egress="http://me:secret@host:9")
    events.add("pass", videos=3)
    events.flush()
    (file,) = (tmp_path / "runs").iterdir()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["began", "pass"] and lines[1]["videos"] == 3
    assert file.name.startswith(events.run) and "secret" not in file.read_text()


def test_a_store_in_trouble_does_not_end_a_run_for_its_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path))
    events = RunEvents(store, epoch=1)

    def trouble(self: object, name: str, data: bytes) -> None:
        raise StoreError("gone")

    monkeypatch.setattr(type(store), "put", trouble)
    events.add("began")
    monkeypatch.undo()
    events.flush()
    (file,) = (tmp_path / "runs").iterdir()
    assert json.loads(file.read_text())["event"] == "began", "it is written when the store is back"


def test_versions_are_those_of_what_builds_a_dataset() -> None:
    versions = library_versions(("ray", "not-installed"))
    assert versions["ffmpeg"].startswith("ffmpeg version") and {"python", "ray", "torch", "yt-dlp"} <= set(versions)
    assert "not-installed" not in versions and "ray" not in library_versions()
