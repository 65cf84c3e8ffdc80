"""Refuses an --out where results would be lost."""

from autorecap.base.errors import BAD_USAGE, ForeseenError
from autorecap.base.files import is_remote, local_path

_RAYS_COPIES = "working_dir_files"  # the folder in which Ray keeps what `ray job submit --working-dir` has sent


class PassingPlace(ForeseenError):
    """Results in this place would be removed."""

    exit_code = BAD_USAGE


def check_lasts(out: str) -> str:
    """Return `out`. Raises PassingPlace where it lies in Ray's copy of a working directory."""
    if out and not is_remote(out) and _RAYS_COPIES in local_path(out).expanduser().absolute().parts:
        raise PassingPlace(
            f"--out {out} lies in Ray's copy of your working directory, which Ray removes: give an absolute path that "
            "lasts, or s3://..."
        )
    return out
