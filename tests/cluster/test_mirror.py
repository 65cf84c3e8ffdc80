"""A run's folder in an object store: what is sent, what is fetched, what stays where it is."""

import time
from pathlib import Path

import pytest

from autorecap.cluster.mirror import Mirror, mirrored


@pytest.fixture
def url(s3_bucket: str) -> str:
    return f"{s3_bucket}/runs/genau"


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_run_goes_on_elsewhere_with_its_logs_and_without_its_checkpoints(url: str, tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    with mirrored(url, first, print):
        write(first, log="1", samples__5__prompts="[]", checkpoints__state="no")
        (first / ".draft").write_text("half")
    with mirrored(url, second, print):
        assert {str(p.relative_to(second)) for p in second.rglob("*") if p.is_file()} == {"log", "samples/5/prompts"}
        write(second, log="1 2")
    again = Mirror(url, first)
    again.pull()
    assert (first / "log").read_text() == "1 2"


def test_what_has_not_changed_is_not_sent_again(url: str, tmp_path: Path) -> None:
    write(tmp_path, log="1", model="weights")
    mirror = Mirror(url, tmp_path)
    mirror.push()
    mirror.place.fs.pipe_file(mirror.place.path("model"), b"touched there")
    write(tmp_path, log="1 2")
    mirror.push()
    assert mirror.place.read("model") == b"touched there"
    assert mirror.place.read("log") == b"1 2"


def test_logs_are_sent_when_a_run_ends_in_an_error(url: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), mirrored(url, tmp_path, print):
        write(tmp_path, log="1")
        raise RuntimeError
    assert Mirror(url, tmp_path).place.read("log") == b"1"


def test_what_ended_the_run_is_said_and_not_that_its_logs_could_not_be_sent(url: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the run's own"), mirrored(url, tmp_path, print):
        (tmp_path / "log").symlink_to("/proc/self/mem")  # a file that nobody can read from its beginning
        raise RuntimeError("the run's own")


def test_a_failure_on_the_way_is_said_whatever_it_is_and_what_is_left_is_sent_later(url: str, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch, mirrored(url, tmp_path, said.append, every_s=0.01):
        patch.setattr(Mirror, "push", fail)
        write(tmp_path, log="1")
        while len(said) < 2:
            time.sleep(0.01)
        patch.undo()
    assert "logs could not be sent now and will be later: ValueError: no credentials" in said[0]
    assert Mirror(url, tmp_path).place.read("log") == b"1"


def fail(mirror: Mirror) -> None:
    raise ValueError("no credentials")  # botocore's errors are no OSErrors


def test_no_name_of_an_object_leads_out_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, folder = Mirror("memory://bucket/run", tmp_path / "a" / "b"), tmp_path / "a" / "b"
    # fsspec gives the same object to whoever asks for one of this kind: other tests, too
    monkeypatch.setattr(bad.place.fs, "find", lambda root: [f"{root}/../../owned", f"{root}/log"])
    monkeypatch.setattr(bad.place.fs, "cat_file", lambda path: b"1")
    bad.pull()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["log"]
    assert (folder / "log").read_bytes() == b"1"
