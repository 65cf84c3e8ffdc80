"""What several tests need."""

import itertools
import os
import secrets
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from tests.fakes.s3 import make_bucket, s3_server
from tests.support.examples import PROFILE
from tests.support.places import PROJECT, SHARED

# Ray starts its workers at a low priority, at which other tests on a busy machine leave them a thirtieth of its time.
os.environ.setdefault("RAY_worker_niceness", "0")
# Ray asks for a token wherever one is known, which is what people meet once they have started a Ray of their own.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

# Processes that tests start run the code of this checkout, in whichever folder they work.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")]))

settings.load_profile(PROFILE)

_numbers = itertools.count()


class _OneRay(LoadFileScheduling):
    """Whole files to each process, and all that start a Ray to one: they share it, and would slow another one down."""

    def _split_scope(self, nodeid: str) -> str:
        folder = nodeid.split("/")[1]
        return folder if folder in ("integration", "chaos") else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config, log):
    return _OneRay(config, log)


@pytest.fixture(scope="session")
def _s3():
    with s3_server() as url:
        yield url


@pytest.fixture
def s3_bucket(_s3) -> str:
    """The URL of a new, empty bucket on a server on loopback."""
    name = f"bucket-{next(_numbers)}"
    make_bucket(name)
    return f"s3://{name}"


@pytest.fixture
def shared() -> Path:
    """The folder of real recordings and published lists."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED}, which holds recordings and published lists, is not there")
    return SHARED
