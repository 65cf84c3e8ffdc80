"""A Ray cluster of one node on loopback, which many drivers can use one after the other."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def ray_head(*options: str, num_cpus: int = 2, environment: dict[str, str] | None = None) -> Iterator[str]:
    """`ray start --head` in the foreground, ended by its pid. Yields the address of the cluster.

    `environment`: of the head and so of its workers; None: this process's own.
    """
    address = f"127.0.0.1:{free_port()}"
    # A short path: sockets lie in it, and their names have limits.
    folder = tempfile.mkdtemp(prefix="ray", dir=tempfile.gettempdir())
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--num-cpus={num_cpus}"]
    command += ["--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}", f"--temp-dir={folder}"]
    command += ["--disable-usage-stats", *(options or ("--include-dashboard=false",))]
    with open(f"{folder}.log", "w") as log:  # noqa: PTH123
        head = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        _wait_for(address, head, Path(f"{folder}.log"))
        yield address
    finally:
        head.send_signal(signal.SIGTERM)
        try:
            head.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)  # its own session: nothing else is in it
            head.wait()
        shutil.rmtree(folder, ignore_errors=True)
        Path(f"{folder}.log").unlink(missing_ok=True)


def _wait_for(address: str, head: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 60
    while "Ray runtime started" not in log.read_text():
        if head.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"no Ray at {address}:\n{log.read_text()}")
        time.sleep(0.2)
