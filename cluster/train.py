"""Training on the workers of a Ray cluster: the recipes of one machine, started and restarted by Ray Train.

Ray Train finds the machines, starts a process per worker and joins them in a process group; when one is lost, or when
the cluster has grown, it starts all of them again, with as many as there is room for. What has been learned is in the
run's own checkpoints, and the order of the data does not depend on the number of processes: a restart is a `--resume`.

    driver   `train_on_ray`: checks, says what the workers say, passes a signal on
    board    an actor beside the driver: what the workers say, and what they are asked
    workers  `_work`: the recipe itself
"""

import re
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.start import connected
from pipeline.errors import BAD_USAGE, FINISHED_WITH_FAILURES, INTERRUPTED, ForeseenError
from pipeline.training import checkpoint
from pipeline.training.asked import ASKED
from pipeline.training.ranks import PATIENCE
from stages.text import printable

POLL_S = 0.5  # how long what the workers say may wait
ASK_S = 1.0  # how long it takes a worker at most to hear of a signal
DRAIN_S = 5.0  # how often workers look whether a machine is about to go
END_S = 3.0  # how long workers may go on talking when one has said why the run cannot go on
MARK = ".launched-"  # a file in the run's folder, by which a worker knows that it sees the same folder


ray_train: Any = ray.train  # mypy reads the signatures of its first version, which is there as well


class LaunchError(ForeseenError):
    """The run cannot be started on this cluster as it was asked to."""

    exit_code = BAD_USAGE


class WorkersFailedError(ForeseenError):
    """Workers have failed again and again."""

    exit_code = FINISHED_WITH_FAILURES


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How many processes, and what Ray sets aside for each."""

    least: int = 1
    most: int = 1
    gpu: bool = False  # one for each
    cpus: float = 1
    max_failures: int = 10  # restarts after failures; those after a machine was taken away do not count
    resize_s: float = 60.0  # how often Ray looks whether the cluster has room for more workers

    @classmethod
    def parse(cls, text: str, **others: Any) -> "Workers":
        """`4`, or `2:8` for at least 2 and up to 8. Raises LaunchError."""
        found = re.fullmatch(r"(\d{1,6})(?::(\d{1,6}))?", text)
        least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= least <= most:
            raise LaunchError(f"--workers {text}: write a number, or MIN:MAX as in 2:8")
        return cls(least=least, most=most, **others)

    def __str__(self) -> str:
        count = f"{self.least} to {self.most}" if self.least < self.most else f"{self.least}"
        return f"{count} workers with {'a GPU' if self.gpu else f'{self.cpus:g} CPUs'} each"


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
    say: Callable[[str], None] = print,
    **options: Any,
) -> Any:
    """`recipe(config, data, out, resume=..., device=..., say=..., **options)` in Ray Train's workers; its outcome.

    `recipe`: of `pipeline.training`, `train_autocap` and its like. `out`, and local paths in `data` and `options`, must
    be seen by every worker under the same name. Raises ForeseenError: what the recipe raises, and LaunchError and
    WorkersFailedError.
    """
    out = absolute(str(out), made=True)
    given = [absolute(each) for each in data], {name: _absolute_too(value) for name, value in options.items()}
    has_begun = bool(_checkpoints(out))
    if has_begun and not resume:
        raise LaunchError(f"{out} holds a run that has begun: add --resume to go on, or name another --out")
    if resume and not has_begun:
        raise LaunchError(f"{out} holds no checkpoint to resume: leave --resume out to begin")
    with connected(address), _marked(out) as mark, TemporaryDirectory(prefix="autorecap-") as scratch:
        _check_room(workers, say)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        board: Any = ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here).remote()
        resources = {"CPU": workers.cpus, **({"GPU": 1} if workers.gpu else {})}
        job = {"recipe": recipe, "config": config, "given": given, "out": out, "board": board, "mark": mark}
        job["device"] = "cuda" if workers.gpu else "cpu"
        trainer = TorchTrainer(
            _work,
            train_loop_config=job,
            scaling_config=ray_train.ScalingConfig(
                num_workers=(workers.least, workers.most) if workers.least < workers.most else workers.least,
                use_gpu=workers.gpu,
                resources_per_worker={name: amount for name, amount in resources.items() if amount},
                elastic_resize_monitor_interval_s=workers.resize_s,
            ),
            torch_config=TorchConfig(timeout_s=round(PATIENCE.total_seconds())),
            run_config=ray_train.RunConfig(
                storage_path=scratch,  # for Ray's own notes, of which nothing must last
                failure_config=ray_train.FailureConfig(max_failures=workers.max_failures),
                logging_config=ray_train.LoggingConfig(log_level="ERROR"),
            ),
        )
        say(f"starting {workers}")
        return _watch(trainer, board, workers, say)


# --- the driver


def _watch(trainer: TorchTrainer, board: Any, workers: Workers, say: Callable[[str], None]) -> Any:
    """Say what the workers say until they are done, and pass signals on to them."""
    found: dict[str, Any] = {}

    def fit() -> None:
        try:
            result: Any = trainer.fit()
            found["outcome"] = result.return_value
        except Exception as error:
            found["failed"] = error

    thread = threading.Thread(target=fit, daemon=True)
    ending: tuple[str, int] | None = None
    ends_by = float("inf")
    with _signals(lambda: board.ask_to_stop.remote(), say):
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


@contextmanager
def _signals(ask: Callable[[], object], say: Callable[[str], None]) -> Iterator[None]:
    """SIGTERM and ctrl-C ask the workers to stop with a checkpoint; a second one ends this process at once."""

    def stop(number: int, frame: object) -> None:
        ask()
        for each, handler in before.items():
            signal.signal(each, handler)
        say(f"{signal.Signals(number).name}: the workers stop after a checkpoint; once more to stop at once")

    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    if threading.current_thread() is not threading.main_thread():  # whoever called us minds the signals
        yield
        return
    for each in before:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _check_room(workers: Workers, say: Callable[[str], None]) -> None:
    """Say what a run waits for, since Ray says nothing: nodes may be on their way, or not."""
    there = ray.cluster_resources()
    for name, each in (("CPU", workers.cpus), ("GPU", float(workers.gpu))):
        if each * workers.least > there.get(name, 0):
            say(
                f"waiting for nodes: {workers.least} workers need {each * workers.least:g} {name}s, "
                f"{there.get(name, 0):g} are there now"
            )


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
    parts = [text] if made else text.split("@")
    return "@".join(str(Path(part).absolute()) if made or Path(part).exists() else part for part in parts)


def _absolute_too(value: Any) -> Any:
    if isinstance(value, str):
        return absolute(value)
    return [absolute(each) for each in value] if isinstance(value, list) else value


def _remote(path: str) -> bool:
    return "://" in path


# --- the workers


def _work(job: dict[str, Any]) -> Any:
    """The recipe, in a process that Ray Train has joined with the others."""
    board, out = job["board"], job["out"]
    _, has_ended = ray.get(board.asked.remote())
    if has_ended:  # this is a restart, and there is nothing to restart
        return None
    context = ray.train.get_context()
    if context.get_world_rank() == 0:
        ray.get(board.start.remote(context.get_world_size()))
    try:
        if job["mark"] and not Path(job["mark"]).exists():
            raise LaunchError(
                f"{ray.util.get_node_ip_address()} does not see the run's folder {out}: --out must be s3://... or a "
                "path that is the same folder on the head and on every node"
            )
        data, options = job["given"]
        with _listening(board):
            return job["recipe"](
                job["config"],
                data,
                out,
                resume=bool(_checkpoints(out)),
                device=job["device"],
                say=lambda line: board.say.remote(line),
                **options,
            )
    except ForeseenError as error:
        ray.get(board.end.remote(str(error), error.exit_code))
        if error.exit_code == INTERRUPTED:  # all workers end with this one, and the first may still be writing
            return None
        raise  # the others may wait for this one for hours


@contextmanager
def _listening(board: Any) -> Iterator[None]:
    """Pass on to the loop what the driver asks, and that a machine is about to be taken away: then it saves, since
    Ray starts the workers again without that machine, from the last checkpoint."""
    done = threading.Event()

    def hear() -> None:
        while not done.wait(ASK_S):
            asked_to_stop, _ = ray.get(board.asked.remote())
            ASKED.stop = ASKED.stop or asked_to_stop

    def look() -> None:
        while not done.wait(DRAIN_S):
            if ray_train.get_preemption_info() is not None:  # the same on all workers, which meet there
                ASKED.save = True
                return

    for task in (hear, look):
        threading.Thread(target=task, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _checkpoints(out: str) -> list[Path]:
    return checkpoint.all_in(Path(out) / "checkpoints")
