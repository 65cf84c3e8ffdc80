"""A run's folder in an object store: what is sent, what is fetched, what stays where it is."""

from pathlib import Path

import pytest

from cluster.mirror import Mirror, mirrored


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
