"""Ray, where this process runs: the cluster it was submitted to, or a small one of its own."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray._private.utils import read_ray_address
from ray.autoscaler.sdk import request_resources

from autorecap.pipeline.build.config import ConfigError, PoolConfig

LOCAL = "local"
"""As an address: start a Ray of its own here, even where one is running."""
_AUTO = "auto"
_MIN_CPUS = 2  # the default pools want two; on one core they share it
_SAY_EVERY_S = 30.0


def cluster_address(given: str | None = None) -> str | None:
    """The cluster to run on, None for one of its own.

    That is the given one, else what RAY_ADDRESS names (`ray job submit` sets it), else what `ray start` has put on this
    machine: `ray submit` runs a script on the head with nothing but that to go by.
    """
    address = given or os.environ.get("RAY_ADDRESS")
    if not address:
        started = read_ray_address()
        address = started if started and _answers(started) else LOCAL  # a Ray that crashed leaves its address behind
    return None if address == LOCAL else address


@contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Connect to the cluster that `cluster_address` finds, or start one here. Raises ConfigError."""
    cluster = cluster_address(address)
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    # Ray's core prints an "error" about every restartable actor pool of Ray Data, on the terminal of the driver.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    if cluster:
        if cluster != _AUTO and not _answers(cluster):  # Ray itself would try for minutes
            raise ConfigError(
                f"nothing answers at {cluster}: give the host:port of a Ray cluster (--address, or RAY_ADDRESS in the "
                f"environment), or --address {LOCAL} to start a Ray here"
            )
        ray.init(address=cluster, **quiet)
    else:
        cpus = max(os.cpu_count() or 1, _MIN_CPUS)
        ray.init(address=LOCAL, num_cpus=cpus, include_dashboard=False, **quiet)
    if callable(on_sigterm) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # `ray.init` has put its own in place of the caller's
    try:
        yield
    finally:
        ray.shutdown()


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, ValueError):
        return False
    return True


def wait_for_room(pools: Sequence[PoolConfig], limit_s: float, say: Callable[[str], None]) -> bool:
    """Wait until the cluster has room for the least that the pools want; False when it has not after `limit_s`.

    An autoscaler is asked for it, since it only adds what somebody asks for. A cluster without one gets the time that
    its machines need to join.
    """
    wanted = [_bundle(pool.cpus, pool.gpus) for pool in pools for _ in range(pool.min_workers)]
    total = {key: sum(bundle.get(key, 0.0) for bundle in wanted) for key in ("CPU", "GPU")}
    deadline = time.monotonic() + limit_s
    said = -_SAY_EVERY_S
    asked = False
    try:
        while missing := _missing(total):
            if time.monotonic() >= deadline:
                return False
            if not asked:
                request_resources(bundles=wanted)
                asked = True
            if time.monotonic() - said >= _SAY_EVERY_S:
                said = time.monotonic()
                say(f"waiting for nodes: {missing}; at most {deadline - said:.0f} s more")
            time.sleep(1)
        return True
    finally:
        if asked:
            request_resources(bundles=[])  # what is in use stays; the rest may go again


def _bundle(cpus: float, gpus: float) -> dict[str, float]:
    return {key: value for key, value in (("CPU", cpus), ("GPU", gpus)) if value}


def _missing(total: dict[str, float]) -> str:
    there = ray.cluster_resources()
    return ", ".join(f"{there.get(k, 0):g} of {v:g} {k}s" for k, v in total.items() if there.get(k, 0) < v)
