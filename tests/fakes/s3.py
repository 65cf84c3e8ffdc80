"""An S3 server on loopback."""

import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def s3_server() -> Iterator[str]:
    """Run moto's server for a while, with the AWS environment pointing at it. Yields its URL."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    before = dict(os.environ)
    try:
        url = next(line.rpartition(" ")[2].strip() for line in server.stderr if "Running on http" in line)
        threading.Thread(target=server.stderr.read, daemon=True).start()  # or a full pipe would stop the server
        os.environ.update(_ENVIRONMENT, AWS_ENDPOINT_URL=url)
        _wait_for(url)
        _forget_other_servers()
        yield url
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.terminate()
        server.wait()


def _wait_for(url: str) -> None:
    for _ in range(100):
        try:
            urllib.request.urlopen(url, timeout=1)
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(url)


def _forget_other_servers() -> None:
    """fsspec keeps file systems by their arguments, and the server of an earlier test has the same ones."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def make_bucket(name: str) -> None:
    import s3fs

    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(name)
