"""Training on the workers of a Ray cluster: the training of one machine, started and restarted by Ray Train.

Ray Train finds the machines, starts a process per worker and joins them in a process group; when one is lost, or when
the cluster has grown, it starts all of them again, as many as there is room for. The state of the training is in the
run's own checkpoints, and the order of the data does not depend on the number of processes: a restart is a `--resume`.

    driver   `train_on_ray`: checks the arguments, prints the workers' lines, passes stop requests on
    board    an actor beside the driver: holds the workers' lines, how the run ends, and the stop request
    workers  `_work`: the training itself
"""

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from autorecap.base.device import check_unnumbered
from autorecap.base.errors import FINISHED_WITH_FAILURES, INTERRUPTED, ForeseenError
from autorecap.base.files import is_remote, local_path
from autorecap.base.settings import absolute_paths
from autorecap.base.signals import stop_requests
from autorecap.base.text import printable
from autorecap.cluster.mirror import mirrored
from autorecap.cluster.start import connected, missing
from autorecap.cluster.workers import LaunchError, Workers
from autorecap.training.checkpoint import checkpoint
from autorecap.training.loop.processes import PATIENCE
from autorecap.training.loop.stop_requests import REQUESTS
from autorecap.training.run import last_checkpoint

POLL_S = 0.5  # from one look of the driver at the board to the next
REQUEST_S = 1.0  # from one look of a worker at the board to the next: a stop request takes as long
DRAIN_S = 5.0  # from one question of a worker whether a machine is about to be taken away to the next
END_S = 3.0  # for the last lines of the workers, once one of them has reported why the run cannot go on
MARK = ".launched-"  # begins the name of a file in the run's folder: a worker that sees it sees the same folder


ray_train: Any = ray.train  # typed as Any: mypy reads the signatures of Ray Train's first version


class WorkersFailedError(ForeseenError):
    """The workers have failed more often than `Workers.max_failures`."""

    exit_code = FINISHED_WITH_FAILURES


class Board:
    """Holds what driver and workers tell one another. An actor, because it must outlive the workers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ending: tuple[str, int] | None = None
        self.stop_requested = False
        self.starts = 0

    def start(self, count: int) -> None:
        """Note that `count` workers have begun, for the first time or after a restart."""
        self.starts += 1
        if self.starts > 1:
            self.say(f"the workers were started again: {count} of them")

    def say(self, line: str) -> None:
        self.lines.append(line)

    def end(self, message: str, exit_code: int) -> None:
        """Note that the run cannot go on, and that a restart would not help. The first message counts."""
        self.ending = self.ending or (message, exit_code)

    def read(self) -> tuple[list[str], tuple[str, int] | None]:
        """Return the lines since the last call, and message and exit code of the end, if it has come."""
        lines, self.lines = self.lines, []
        return lines, self.ending

    def request_stop(self) -> None:
        self.stop_requested = True

    def state(self) -> tuple[bool, bool]:
        """Return whether a stop was requested, and whether the run has ended."""
        return self.stop_requested, self.ending is not None


def train_on_ray(
    train: Callable[..., Any],
    config: Any,
    data: Sequence[str],
    out: str | Path,
    *,
    workers: Workers,
    address: str | None = None,
    resume: bool = False,
    device: str = "auto",
    say: Callable[[str], None] = print,
    **options: Any,
) -> Any:
    """Run `train(config, data, out, ...)` in Ray Train's workers, and return its outcome.

    train: a function of `autorecap.training`, such as `train_autocap`; it also gets resume, device, say and options
    config: its settings, such as `AutoCapTraining`
    out, and local paths in data and options: every worker must see them under the same name
    device: cuda, a GPU for each worker; cpu; or auto, cuda if the cluster has a GPU now

    Raises the errors of `train`, LaunchError and WorkersFailedError, which are all ForeseenErrors.
    """
    check_unnumbered(device)
    out = str(out) if is_remote(str(out)) else str(local_path(str(out)).absolute())
    config = absolute_paths(config)
    arguments = absolute_arguments(data, options, config.init_names)
    checkpoints = config.run.checkpoints_of(out)
    if is_remote(out):  # workers write to a mirror of it, but checkpoints go there directly
        config = replace(config, run=replace(config.run, checkpoints=checkpoints))
    last_checkpoint(config.run, out, resume)
    with connected(address), _marked(out) as mark, TemporaryDirectory(prefix="autorecap-") as scratch:
        on_gpu = device == "cuda" or (device == "auto" and ray.cluster_resources().get("GPU", 0) > 0)
        resources = workers.resources(on_gpu)
        say(f"starting {workers} with {', '.join(f'{amount:g} {name}' for name, amount in resources.items())} each")
        least = {name: each * workers.least for name, each in resources.items()}
        if lacking := missing(least, ray.cluster_resources()):  # Ray waits for them, and says nothing
            say(f"waiting for nodes: the cluster has {lacking}")
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        board: Any = ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here).remote()
        job = {
            "train": train,
            "config": config,
            "arguments": arguments,
            "out": out,
            "checkpoints": checkpoints,
            "device": "cuda" if on_gpu else "cpu",
            "board": board,
            "mark": mark,
        }
        trainer = TorchTrainer(
            _work,
            train_loop_config=job,
            scaling_config=ray_train.ScalingConfig(
                num_workers=(workers.least, workers.most) if workers.least < workers.most else workers.least,
                use_gpu=on_gpu,
                resources_per_worker=resources,
                elastic_resize_monitor_interval_s=workers.resize_s,
            ),
            torch_config=TorchConfig(
                backend="cpu:gloo,cuda:nccl" if on_gpu else "gloo",  # checkpoints are exchanged on the CPU
                timeout_s=round(PATIENCE.total_seconds()),
            ),
            run_config=ray_train.RunConfig(
                storage_path=scratch,  # for Ray's own files, none of which is needed later
                failure_config=ray_train.FailureConfig(max_failures=workers.max_failures),
                logging_config=ray_train.LoggingConfig(log_level="ERROR"),
            ),
        )
        return _watch(trainer, board, workers, say)


# --- the driver


def _watch(trainer: TorchTrainer, board: Any, workers: Workers, say: Callable[[str], None]) -> Any:
    """Print the workers' lines until they are done, pass stop requests on to them, and return the outcome."""
    result: dict[str, Any] = {}

    def fit() -> None:
        try:
            outcome: Any = trainer.fit()
            result["outcome"] = outcome.return_value
        except (Exception, SystemExit) as error:  # SystemExit if Ray is shut down meanwhile
            result["error"] = error

    thread = threading.Thread(target=fit, daemon=True)
    ending: tuple[str, int] | None = None
    ends_by = float("inf")
    with stop_requests(lambda: board.request_stop.remote(), say, "the workers stop after a checkpoint"):
        thread.start()
        while thread.is_alive() and time.monotonic() < ends_by:
            thread.join(POLL_S)
            lines, ending = ray.get(board.read.remote())
            for line in lines:
                say(line)
            if ending is not None and ending[1] != INTERRUPTED:  # then a checkpoint may still be on its way
                ends_by = min(ends_by, time.monotonic() + END_S)
    if ending is not None:
        raise _Ended(*ending)
    if "error" in result:
        raise WorkersFailedError(
            f"the workers failed more than {workers.max_failures} times, the last time with: "
            f"{_last_line(result['error'])}. Everything up to the last checkpoint is kept: --resume goes on from it"
        ) from result["error"]
    return result["outcome"]


class _Ended(ForeseenError):
    """The ForeseenError that ended a worker, raised again in the driver."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message, exit_code)  # both, or it could not be unpickled in another process
        self.exit_code = exit_code

    def __str__(self) -> str:
        return str(self.args[0])


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return printable(lines[-1] if lines else type(error).__name__)


@contextmanager
def _marked(out: str) -> Iterator[str]:
    """Put a file into the run's folder, and yield its path: a worker that does not see it sees another folder."""
    if is_remote(out):
        yield ""
        return
    mark = Path(out, f"{MARK}{secrets.token_hex(4)}")
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    try:
        yield str(mark)
    finally:
        mark.unlink(missing_ok=True)


def absolute(text: str) -> str:
    """Return a description of data or a model with absolute paths: workers have working directories of their own.

    What does not exist here is no path (URLs, hub ids) and stays.
    """
    if is_remote(text):
        return text
    if Path(text).exists():
        return str(Path(text).absolute())
    name, named, place = text.rpartition("=")  # NAME:SHARE=LIST@FOLDER
    return name + named + "@".join(str(Path(p).absolute()) if Path(p).exists() else p for p in place.split("@"))


def absolute_arguments(
    data: Sequence[str], options: dict[str, Any], init_names: Collection[str]
) -> tuple[list[str], dict[str, Any]]:
    """Return data and options of a training with absolute paths. `where` is a condition and holds none.

    init_names: words that name a model even if a folder of that name exists, as `--init` takes them on one machine
    """
    options = dict(options)
    if options.get("init") and options["init"] not in init_names:
        options["init"] = absolute(options["init"])
    if "validation_data" in options:
        options["validation_data"] = [absolute(each) for each in options["validation_data"]]
    return [absolute(each) for each in data], options


# --- the workers


def _work(job: dict[str, Any]) -> Any:
    """Run the training in this process, which Ray Train has joined with the others, and return its outcome."""
    board = job["board"]
    _, has_ended = ray.get(board.state.remote())
    if has_ended:  # Ray restarts the workers of a run that is over
        return None
    context = ray.train.get_context()
    first = context.get_world_rank() == 0
    if first:
        ray.get(board.start.remote(context.get_world_size()))

    def say(line: str) -> None:
        board.say.remote(line)

    try:
        data, options = job["arguments"]
        with _folder(job["out"], job["mark"], first, say) as folder, _watching(board):
            outcome = job["train"](
                job["config"],
                data,
                folder,
                resume=bool(checkpoint.all_in(job["checkpoints"])),
                device=job["device"],
                say=say,
                **options,
            )
        return replace(outcome, model=outcome.model.replace(folder, job["out"], 1))
    except ForeseenError as error:
        ray.get(board.end.remote(str(error), error.exit_code))
        if error.exit_code == INTERRUPTED:  # all workers end, and the first may still be writing
            return None
        raise  # so that the others do not wait for this one for hours


@contextmanager
def _folder(out: str, mark: str, first: bool, say: Callable[[str], None]) -> Iterator[str]:
    """Yield the run's folder on this machine: the shared one, or a mirror of a remote one."""
    if not is_remote(out):
        if not Path(mark).exists():
            raise LaunchError(
                f"{ray.util.get_node_ip_address()} does not see the run's folder {out}: --out must be s3://... or a "
                "path that is the same folder on the head and on every node"
            )
        yield out
        return
    with TemporaryDirectory(prefix="autorecap-") as scratch:
        folder = Path(scratch, out.rstrip("/").rpartition("/")[2] or "run")
        folder.mkdir()
        with mirrored(out, folder, say) if first else nullcontext():
            yield str(folder)


@contextmanager
def _watching(board: Any) -> Iterator[None]:
    """Pass the driver's stop request on to the loop, and request a checkpoint when a machine is about to be taken away:
    Ray then starts the workers again without that machine, from the last checkpoint."""
    done = threading.Event()

    def watch_for_stop() -> None:
        while not done.wait(REQUEST_S):
            stop_requested, _ = ray.get(board.state.remote())
            REQUESTS.stop = REQUESTS.stop or stop_requested

    def watch_for_preemption() -> None:
        while not done.wait(DRAIN_S):
            if ray_train.get_preemption_info() is not None:  # all workers get the same answer: the call synchronises
                REQUESTS.save = True
                return

    for task in (watch_for_stop, watch_for_preemption):
        threading.Thread(target=task, daemon=True).start()
    try:
        yield
    finally:
        done.set()
