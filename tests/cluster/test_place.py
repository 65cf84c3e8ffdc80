"""Places where results would be lost are refused before the work."""

from pathlib import Path

import pytest

from autorecap.cluster.place import PassingPlace, check_lasts


def test_a_place_in_rays_copy_of_a_working_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    for out in ("out", str(copy / "deep" / "out"), f"file://{copy}/out"):
        with pytest.raises(PassingPlace, match=f"--out {out} lies in Ray's copy"):
            check_lasts(out)
    for out in ("", "s3://bucket/working_dir_files/out", str(tmp_path / "out")):
        assert check_lasts(out) == out
