"""Start of Ray: connects this process to the cluster it was submitted to, or starts a small one of its own."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray._private.utils import read_ray_address
from ray.autoscaler.sdk import request_resources

from autorecap.base.errors import ForeseenError
from autorecap.pipeline.build.config import PoolConfig

LOCAL = "local"
"""An address that starts a new Ray on this machine, even if one is running."""
_AUTO = "auto"
_MIN_CPUS = 2  # the default pools need two; a machine with one core shares it
_SAY_EVERY_S = 30.0


class ClusterError(ForeseenError):
    """No cluster answers, or it has no room for the work."""


def cluster_address(address: str | None = None) -> str | None:
    """Return the address of the cluster to run on; None to start a new one.

    It is the argument, else RAY_ADDRESS (`ray job submit` sets it), else the cluster that `ray start` started on this
    machine, which is all that a script run by `ray submit` can know.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if not address:
        started = read_ray_address()
        address = started if started and _answers(started) else LOCAL  # a Ray that crashed leaves its address
    return None if address == LOCAL else address


@contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Within, this process is connected to the cluster of `cluster_address`, or to a new one. Raises ClusterError."""
    cluster = cluster_address(address)
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    # Ray's core prints an "error" about every restartable actor pool of Ray Data, on the terminal of the driver.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    if cluster:
        if cluster != _AUTO and not _answers(cluster):  # Ray itself would try for minutes
            raise ClusterError(
                f"nothing answers at {cluster}: give the host:port of a Ray cluster (--address, or RAY_ADDRESS in the "
                f"environment), or --address {LOCAL} to start a Ray here"
            )
        ray.init(address=cluster, **quiet)
    else:
        cpus = max(os.cpu_count() or 1, _MIN_CPUS)
        ray.init(address=LOCAL, num_cpus=cpus, include_dashboard=False, **quiet)
    if callable(on_sigterm) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # `ray.init` has replaced the caller's handler
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


def check_room(pools: Sequence[PoolConfig], resources: Mapping[str, float]) -> None:
    """Refuse pools that do not fit into the cluster: they would wait for ever. Raises ClusterError."""
    if lacking := missing(_least(pools), resources):
        raise ClusterError(
            f"the cluster has {lacking} that the pools want at least (pools.*.cpus and gpus x min_workers): lower them "
            "with --set, or give the cluster time to grow with --set pools.wait_for_nodes_s=1200"
        )


def wait_for_room(pools: Sequence[PoolConfig], limit_s: float, say: Callable[[str], None]) -> bool:
    """Wait until the cluster has room for the smallest size of the pools. Return False if it has none after `limit_s`.

    It requests the room from the autoscaler, which adds no machine by itself. A cluster without an autoscaler gets the
    time that its machines need to join.
    """
    wanted = [_bundle(pool.cpus, pool.gpus) for pool in pools for _ in range(pool.min_workers)]
    least = _least(pools)
    deadline = time.monotonic() + limit_s
    said = -_SAY_EVERY_S
    requested = False
    try:
        while lacking := missing(least, ray.cluster_resources()):
            if time.monotonic() >= deadline:
                return False
            if not requested:
                request_resources(bundles=wanted)
                requested = True
            if time.monotonic() - said >= _SAY_EVERY_S:
                said = time.monotonic()
                say(f"waiting for nodes: the cluster has {lacking}; at most {deadline - said:.0f} s more")
            time.sleep(1)
        return True
    finally:
        if requested:
            request_resources(bundles=[])  # nodes in use stay; the others may go


def _bundle(cpus: float, gpus: float) -> dict[str, float]:
    return {key: value for key, value in (("CPU", cpus), ("GPU", gpus)) if value}


def _least(pools: Sequence[PoolConfig]) -> dict[str, float]:
    """Return the resources of the pools at their smallest size."""
    return {
        "CPU": sum(pool.cpus * pool.min_workers for pool in pools),
        "GPU": sum(pool.gpus * pool.min_workers for pool in pools),
    }


def missing(wanted: Mapping[str, float], there: Mapping[str, float]) -> str:
    """Return what of the wanted resources is not there, as in "2 of 4 CPUs, 0 of 1 GPUs"; "" if all are."""
    return ", ".join(
        f"{there.get(name, 0):g} of {amount:g} {name}s"
        for name, amount in wanted.items()
        if amount > there.get(name, 0)
    )
