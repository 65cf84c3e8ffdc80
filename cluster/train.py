"""Training on the workers of a Ray cluster: the recipes of one machine, started and restarted by Ray Train.

Ray Train finds the machines, starts a process per worker and joins them in a process group; when one is lost, or when
the cluster has grown, it starts all of them again, with as many as there is room for. What has been learned is in the
run's own checkpoints, and the order of the data does not depend on the number of processes: a restart is a `--resume`.

    driver   `train_on_ray`: checks, says what the workers say, passes a signal on
    board    an actor beside the driver: what the workers say, and what they are asked
    workers  `_work`: the recipe itself
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from autorecap.base.errors import FINISHED_WITH_FAILURES, INTERRUPTED, ForeseenError
from autorecap.base.settings import absolute_paths
from autorecap.base.signals import stop_requests
from autorecap.base.text import printable
from autorecap.cluster.mirror import mirrored
from autorecap.cluster.start import connected
from autorecap.cluster.workers import LaunchError, Workers
from autorecap.training.checkpoint import checkpoint
from autorecap.training.loop.processes import PATIENCE
from autorecap.training.loop.stop_requests import REQUESTS

POLL_S = 0.5  # how long what the workers say may wait
ASK_S = 1.0  # how long it takes a worker at most to hear of a signal
DRAIN_S = 5.0  # how often workers look whether a machine is about to go
END_S = 3.0  # how long workers may go on talking when one has said why the run cannot go on
MARK = ".launched-"  # a file in the run's folder, by which a worker knows that it sees the same folder


ray_train: Any = ray.train  # mypy reads the signatures of its first version, which is there as well


class WorkersFailedError(ForeseenError):
    """Workers have failed again and again."""

    exit_code = FINISHED_WITH_FAILURES


class Board:
    """What the workers say, and what they are asked. An actor: it outlives them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ending: tuple[str, int] | None = None
        self.asked_to_stop = False
        self.starts = 0

    def start(self, count: int) -> None:
        """The workers have begun: for the first time, or once more."""
        self.starts += 1
        if self.starts > 1:
            self.say(f"the workers were started again: {count} of them")

    def say(self, line: str) -> None:
        self.lines.append(line)

    def end(self, message: str, exit_code: int) -> None:
        """The run cannot go on, and a restart would not help. The first word counts."""
        self.ending = self.ending or (message, exit_code)

    def read(self) -> tuple[list[str], tuple[str, int] | None]:
        """What was said since the last time, and how the run ends, where that is known."""
        lines, self.lines = self.lines, []
        return lines, self.ending

    def ask_to_stop(self) -> None:
        self.asked_to_stop = True

    def asked(self) -> tuple[bool, bool]:
        """Whether to stop, and whether the run has ended already."""
        return self.asked_to_stop, self.ending is not None


def train_on_ray(
    recipe: Callable[..., Any],
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
    """`recipe(config, data, out, resume=..., device=..., say=..., **options)` in Ray Train's workers; its outcome.

    `recipe`: one of `autorecap.training`, such as `train_autocap`. `out`, and local paths in `data` and `options`, must
    be seen by every worker under the same name. `device`: cuda, a GPU for each worker; cpu; or auto, cuda where the
    cluster has a GPU now. Raises ForeseenError: what the recipe raises, LaunchError, WorkersFailedError.
    """
    out = absolute(str(out), made=True)
    config = absolute_paths(config)
    given = absolute_given(data, options)
    checkpoints = config.run.checkpoints_of(out)
    if _remote(out):  # all but the checkpoints is written to a mirror of it
        config = replace(config, run=replace(config.run, checkpoints=checkpoints))
    has_begun = bool(checkpoint.all_in(checkpoints))
    if has_begun and not resume:
        raise LaunchError(f"{out} holds a run that has begun: add --resume to go on, or name another --out")
    if resume and not has_begun:
        raise LaunchError(f"{out} holds no checkpoint to resume: leave --resume out to begin")
    with connected(address), _marked(out) as mark, TemporaryDirectory(prefix="autorecap-") as scratch:
        on_gpu = device == "cuda" or (device == "auto" and ray.cluster_resources().get("GPU", 0) > 0)
        resources = workers.resources(on_gpu)
        say(f"starting {workers} with {', '.join(f'{amount:g} {name}' for name, amount in resources.items())} each")
        _say_what_is_missing(workers, resources, say)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        board: Any = ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here).remote()
        job = {
            "recipe": recipe,
            "config": config,
            "given": given,
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
                backend="cpu:gloo,cuda:nccl" if on_gpu else "gloo",  # checkpoints are written over the CPU's
                timeout_s=round(PATIENCE.total_seconds()),
            ),
            run_config=ray_train.RunConfig(
                storage_path=scratch,  # for Ray's own notes, of which nothing must last
                failure_config=ray_train.FailureConfig(max_failures=workers.max_failures),
                logging_config=ray_train.LoggingConfig(log_level="ERROR"),
            ),
        )
        return _watch(trainer, board, workers, say)


# --- the driver


def _watch(trainer: TorchTrainer, board: Any, workers: Workers, say: Callable[[str], None]) -> Any:
    """Say what the workers say until they are done, and pass signals on to them."""
    found: dict[str, Any] = {}

    def fit() -> None:
        try:
            result: Any = trainer.fit()
            found["outcome"] = result.return_value
        except (Exception, SystemExit) as error:  # the second where Ray is shut down under it
            found["failed"] = error

    thread = threading.Thread(target=fit, daemon=True)
    ending: tuple[str, int] | None = None
    ends_by = float("inf")
    with stop_requests(lambda: board.ask_to_stop.remote(), say, "the workers stop after a checkpoint"):
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
    if "failed" in found:
        raise WorkersFailedError(
            f"the workers failed more than {workers.max_failures} times, at last with: {_last_line(found['failed'])}. "
            "Everything up to the last checkpoint is there: --resume goes on from it"
        ) from found["failed"]
    return found["outcome"]


class _Ended(ForeseenError):
    """What a worker foresaw, in the driver."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return printable(lines[-1] if lines else type(error).__name__)


def _say_what_is_missing(workers: Workers, resources: dict[str, float], say: Callable[[str], None]) -> None:
    """Ray waits without a word; nodes may be on their way, or not."""
    there = ray.cluster_resources()
    for name, each in resources.items():
        if each * workers.least > there.get(name, 0):
            say(f"waiting for nodes: {each * workers.least:g} {name}s are needed, {there.get(name, 0):g} are there now")


@contextmanager
def _marked(out: str) -> Iterator[str]:
    """A file in the run's folder while it is at work: a worker that does not see it sees another folder."""
    if _remote(out):
        yield ""
        return
    mark = Path(out, f"{MARK}{secrets.token_hex(4)}")
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    try:
        yield str(mark)
    finally:
        mark.unlink(missing_ok=True)


def absolute(text: str, *, made: bool = False) -> str:
    """A description of data or a model, local paths in it absolute: workers have working directories of their own.

    What does not exist here stays as it is (hub ids, `demo`), unless it is to be `made`.
    """
    if _remote(text):
        return text
    if made or Path(text).exists():
        return str(Path(text).absolute())
    name, named, place = text.rpartition("=")  # NAME:SHARE=LIST@FOLDER
    return name + named + "@".join(str(Path(p).absolute()) if Path(p).exists() else p for p in place.split("@"))


def absolute_given(data: Sequence[str], options: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Data and options of a training, what names a file among them absolute. A condition, `where`, names none."""
    options = dict(options)
    if "init" in options:
        options["init"] = absolute(options["init"])
    if "validation_data" in options:
        options["validation_data"] = [absolute(each) for each in options["validation_data"]]
    return [absolute(each) for each in data], options


def _remote(path: str) -> bool:
    return "://" in path


# --- the workers


def _work(job: dict[str, Any]) -> Any:
    """The recipe, in a process that Ray Train has joined with the others."""
    board = job["board"]
    _, has_ended = ray.get(board.asked.remote())
    if has_ended:  # this is a restart, and there is nothing to restart
        return None
    context = ray.train.get_context()
    first = context.get_world_rank() == 0
    if first:
        ray.get(board.start.remote(context.get_world_size()))

    def say(line: str) -> None:
        board.say.remote(line)

    try:
        data, options = job["given"]
        with _folder(job["out"], job["mark"], first, say) as folder, _listening(board):
            outcome = job["recipe"](
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
        if error.exit_code == INTERRUPTED:  # all workers end with this one, and the first may still be writing
            return None
        raise  # the others may wait for this one for hours


@contextmanager
def _folder(out: str, mark: str, first: bool, say: Callable[[str], None]) -> Iterator[str]:
    """The run's folder, as this machine sees it."""
    if not _remote(out):
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
def _listening(board: Any) -> Iterator[None]:
    """Pass on to the loop what the driver asks, and that a machine is about to be taken away: then it saves, since
    Ray starts the workers again without that machine, from the last checkpoint."""
    done = threading.Event()

    def hear() -> None:
        while not done.wait(ASK_S):
            asked_to_stop, _ = ray.get(board.asked.remote())
            REQUESTS.stop = REQUESTS.stop or asked_to_stop

    def look() -> None:
        while not done.wait(DRAIN_S):
            if ray_train.get_preemption_info() is not None:  # the same on all workers, which meet there
                REQUESTS.save = True
                return

    for task in (hear, look):
        threading.Thread(target=task, daemon=True).start()
    try:
        yield
    finally:
        done.set()
