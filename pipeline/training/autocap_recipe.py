"""A training run of AutoCap from beginning to end: data, model, loop, checkpoints, logs, and the model's folder.

RUN/
    settings.json       what the run was told, and the data as it was
    log.csv             a row per logged step
    validation.csv      a row per validation
    checkpoints/        see `checkpoint`
    tensorboard/        where TensorBoard is installed
    model/              for AutoCap.from_pretrained, once the run has ended
"""

import dataclasses
import hashlib
import json
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.autocap import AutoCap, ModelFilesError
from pipeline.errors import BAD_USAGE, INTERRUPTED, ForeseenError
from pipeline.training import checkpoint, logs
from pipeline.training.autocap_task import AutoCapTask, AutoCapTaskConfig, validate
from pipeline.training.clips import DataError
from pipeline.training.examples import ClipExamples, ExamplesConfig, PlainExamples
from pipeline.training.loop import LoopConfig, Trainer
from pipeline.training.manifest import DataConfig, Manifest, latent_sets, open_manifest
from pipeline.training.ranks import Ranks, ranks
from stages.settings import check, setting

DEMO = "demo"
"""As `--init`: the bundled small model."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is done beside the steps."""

    save_every: int = setting(1_000, "Steps from checkpoint to checkpoint; the last step is saved as well.")
    keep: int = setting(2, "Checkpoints kept. Of the base size each takes 3 GB.")
    validate_every: int = setting(1_000, "Steps from validation to validation, where there is data for it.")
    validation_clips: int = setting(256, "Clips looked at, the first of their list.")
    validation_captions: int = setting(8, "Of these, how many captions are printed beside what people wrote.")

    def __post_init__(self) -> None:
        for name in ("save_every", "keep", "validate_every", "validation_clips"):
            check(getattr(self, name) >= 1, f"run.{name} is {getattr(self, name)}: write 1 or more")


@dataclass(frozen=True, kw_only=True)
class AutoCapTraining:
    """Everything that a training of AutoCap can be told."""

    task: AutoCapTaskConfig = setting(AutoCapTaskConfig, "what learns, and from which loss")
    data: DataConfig = setting(DataConfig, "how the data is read")
    examples: ExamplesConfig = setting(ExamplesConfig, "how examples are drawn from clips")
    loop: LoopConfig = setting(LoopConfig, "steps, optimiser, schedule")
    run: RunConfig = setting(RunConfig, "checkpoints and validation")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    step: int
    steps: int
    model: str  # its folder
    leads: bool  # whether this is the process that talks, of those that torchrun started
    numbers: dict[str, float]  # of the last logged step and the last validation


class RunError(ForeseenError):
    """The run cannot begin as it was asked to."""

    exit_code = BAD_USAGE


class Interrupted(ForeseenError):
    """A signal ended the run; its checkpoint is written."""

    exit_code = INTERRUPTED


def train_autocap(
    config: AutoCapTraining,
    data: Sequence[str],
    out: str | Path,
    *,
    init: str = "",
    where: str = "",
    validation_data: Sequence[str] = (),
    resume: bool = False,
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> Outcome:
    """Train, or go on with, the run in the folder `out`. `data`: see `clips`. `init`: folder, hub id, or "demo".

    Under torchrun every process calls this, and the first one talks and writes. Raises ForeseenError: bad data or
    settings, a run that is there already, a checkpoint of another run, training that diverges, an interruption.
    """
    device = _device(device)
    with ranks(device) as who:
        if device == "cuda" and who.count > 1:
            device = f"cuda:{who.local_rank}"
        out = Path(out)
        last = who.agree(_last_checkpoint(out, resume))
        before = checkpoint.read_told(last) if last else {}
        clips = _open(data, where, before.get("seqs"), config.data, who)
        model = _model(init)
        loop = config.loop.resolved(len(clips))
        told = {
            "data": clips.identity,
            "seqs": clips.seqs,
            "init": _digest(model),
            "settings": checkpoint.results(dataclasses.replace(config, loop=loop)),
        }
        if len({json.dumps(each, sort_keys=True) for each in who.gather(told)}) > 1:
            raise RunError("the processes of this run see different data or models: give all of them the same files")
        examples = ClipExamples(clips, config.examples, model.config.window_s, loop.seed, config.data.window)
        task = AutoCapTask(model, examples, config.task, loop.seed)
        complain = say if who.first else lambda text: say(f"process {who.rank}: {text}")
        trainer = Trainer(task, loop, device=device, ranks=who, say=complain)
        if last:
            trainer.load_state_dict(checkpoint.load(last, told, trainer.optimizer.state_dict()))
        held_out = open_manifest(validation_data) if who.first and validation_data else Manifest([])
        if who.first:
            _introduce(trainer, model, clips, held_out, out, last, config, told, say)
        return _Run(config, trainer, task, held_out, out, told, say).go()


class _Run:
    """The steps, and what is done between them."""

    def __init__(
        self,
        config: AutoCapTraining,
        trainer: Trainer,
        task: AutoCapTask,
        held_out: Manifest,
        out: Path,
        told: dict[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self.config, self.trainer, self.task, self.held_out = config, trainer, task, held_out
        self.out, self.told, self.say = out, told, say
        self.numbers: dict[str, float] = {}
        if trainer.ranks.first:
            self.csv = logs.CsvLog(out / "log.csv", trainer.step)
            self.validation_csv = logs.CsvLog(out / "validation.csv", trainer.step)
            self.tensorboard = logs.tensorboard(out / "tensorboard", trainer.step)

    def go(self) -> Outcome:
        trainer = self.trainer
        with _signals(trainer, self.say):
            done = trainer.run(self._log, after_step=self._after_step)
        self._save()
        if not done:
            raise Interrupted(
                f"stopped after step {trainer.step} of {trainer.config.steps}: --resume goes on from there"
            )
        folder = self.out / "model"
        if trainer.ranks.first:
            self.task.model.save_pretrained(folder)
        return Outcome(
            step=trainer.step,
            steps=trainer.config.steps,
            model=str(folder),
            leads=trainer.ranks.first,
            numbers=self.numbers,
        )

    def _log(self, line: dict[str, float]) -> None:
        self.numbers |= line
        self.csv(line)
        self.tensorboard(line)
        self.say(logs.for_people(line))

    def _after_step(self) -> None:
        step, last = self.trainer.step, self.trainer.step == self.trainer.config.steps
        if step % self.config.run.validate_every == 0 or last:
            self._validate()
        if step % self.config.run.save_every == 0:
            self._save()

    def _save(self) -> None:
        if self.trainer.ranks.first:
            checkpoint.save(self.out / "checkpoints", self.trainer.state_dict(), self.told, self.config.run.keep)

    def _validate(self) -> None:
        if not len(self.held_out):
            return
        run, trainer = self.config.run, self.trainer
        examples = PlainExamples(self.held_out, self.task.model.config.window_s)
        num_clips = min(len(self.held_out), run.validation_clips)
        batch_size = min(num_clips, trainer.config.micro_batch_size or 32)
        numbers = validate(
            self.task, examples, num_clips, batch_size, run.validation_captions, trainer.device, self.say
        )
        if numbers:
            line = {"step": trainer.step, **numbers}
            self.numbers |= numbers
            self.validation_csv(line)
            self.tensorboard(line)
            self.say(
                f"step {trainer.step:>6}  validation over {num_clips} clips: loss {numbers['validation_loss']:.4g}"
            )


def _device(asked: str) -> str:
    has_gpu = torch.cuda.is_available()
    if asked not in ("auto", "cpu", "cuda"):
        raise RunError(f"--device is {asked!r}: auto, cpu or cuda")
    if asked == "cuda" and not has_gpu:
        raise RunError("--device cuda: there is no GPU here that torch can use. Leave it out, or give cpu")
    return ("cuda" if has_gpu else "cpu") if asked == "auto" else asked


def _last_checkpoint(out: Path, resume: bool) -> Path | None:
    found = checkpoint.all_in(out / "checkpoints")
    if found and not resume:
        raise RunError(f"{out} holds a run that reached {found[-1].name}: add --resume to go on, or name another --out")
    if resume and not found:
        raise RunError(f"{out} holds no checkpoint to resume: leave --resume out to begin")
    return found[-1] if found else None


def _open(data: Sequence[str], where: str, seqs: list[int | None] | None, config: DataConfig, who: Ranks) -> Manifest:
    """The clips, on every rank those that the first one sees, and on resume those of the beginning."""
    found = open_manifest(data, where, seqs, config) if who.first else None
    seqs = who.agree(found.seqs if found else None)
    clips = found or open_manifest(data, where, seqs, config)
    if latent_sets(clips):
        raise DataError(f"{data[0]} holds latents of GenAu's VAE, which a captioner cannot hear: name the audio")
    return clips


def _model(init: str) -> AutoCap:
    if not init:
        raise RunError(
            "say where to start from: --init FOLDER or a hub id of an AutoCap whose encoders and BART are trained "
            "(stage 2: the model folder of stage 1), or --init demo for the small bundled one"
        )
    try:
        return AutoCap.from_pretrained(AutoCap.DEMO if init == DEMO else init)
    except ModelFilesError as error:
        raise RunError(str(error)) from error


def _digest(model: AutoCap) -> str:
    """What the run began with. Of the frozen parts, nothing else says on resume that they are the same."""
    digest = hashlib.sha256(json.dumps(model.config.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _introduce(
    trainer: Trainer,
    model: AutoCap,
    clips: Manifest,
    held_out: Manifest,
    out: Path,
    last: Path | None,
    config: AutoCapTraining,
    told: dict[str, Any],
    say: Callable[[str], None],
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    settings = {"config": dataclasses.asdict(config), **told}
    (out / "settings.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    for note in (*clips.notes, *held_out.notes):
        say(note)
    num_trained = sum(p.numel() for p in trainer.trained)
    num_all = sum(p.numel() for p in model.parameters())
    loop = trainer.config
    say(
        f"{len(clips):,} clips to learn from, {len(held_out):,} to validate on; {num_trained:,} of {num_all:,} "
        f"parameters learn, frozen: {', '.join(config.task.frozen) or 'nothing'}; {loop.steps:,} steps of "
        f"{loop.batch_size} clips on {trainer.ranks.count} x {trainer.device.type}"
        + (f"; going on after step {trainer.step:,}" if last else "")
    )


@contextmanager
def _signals(trainer: Trainer, say: Callable[[str], None]) -> Iterator[None]:
    """SIGTERM and ctrl-C end the run after the step that is at work; a second one ends it at once."""

    def stop(number: int, frame: object) -> None:
        trainer.stop_asked = True
        for each, handler in before.items():
            signal.signal(each, handler)
        say(f"{signal.Signals(number).name}: saving a checkpoint after this step; once more to stop at once")

    try:
        before = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: whoever called us minds the signals
        yield
        return
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
