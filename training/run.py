"""A training run from beginning to end: data, model, loop, checkpoints, logs, samples, and the model's folder.

RUN/
    settings.json         what the run was told, and the data as it was
    log.csv, log.jsonl    a row per logged step; in the second, rows of validations too
    validation.csv        a row per validation
    checkpoints/          see `checkpoint`
    samples/STEP/         sounds, and prompts.json beside them: what was asked for
    report.html           curves and samples on one page
    tensorboard/          where TensorBoard is installed
    model/                for `from_pretrained`, once the run has ended

What is peculiar to a model is its recipe: how it is loaded, its task, its validation, its samples, its folder.
"""

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autorecap.base.device import choose_device
from autorecap.base.errors import BAD_USAGE, INTERRUPTED, ForeseenError
from autorecap.base.settings import FILE, Section, setting
from autorecap.base.signals import stop_requests
from autorecap.base.wav import write_wav
from autorecap.dataset.reading.manifest import DataConfig, Manifest, open_manifest
from autorecap.models import files
from autorecap.models.files import ModelFilesError
from autorecap.models.genau.audio import MEL
from autorecap.training.checkpoint import checkpoint
from autorecap.training.loop.processes import Ranks, ranks
from autorecap.training.loop.sharding import unshard
from autorecap.training.loop.trainer import LoopConfig, Task, Trainer
from autorecap.training.report import logs
from autorecap.training.report.report import write_report

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class RunConfig(Section, name="run"):
    """What is done beside the steps."""

    save_every: int = setting(1_000, "Steps from checkpoint to checkpoint; the last step is saved as well.", ge=1)
    keep: int = setting(
        2, "Checkpoints kept, the last ones; the one with the lowest validation loss stays as well.", ge=1
    )
    checkpoints: str = setting("", "Where they are, such as s3://bucket/prefix; empty: in the run's folder.", path=FILE)
    validate_every: int = setting(1_000, "Steps from validation to validation, where there is data for it.", ge=1)
    validation_clips: int = setting(256, "Clips looked at, the first of their list.", ge=1)
    validation_captions: int = setting(
        8, "Of these, how many captions are printed beside what people wrote: AutoCap.", ge=0
    )
    sample_every: int = setting(5_000, "Steps from samples to samples, of models that make sounds.", ge=1)
    num_samples: int = setting(4, "Sounds made then; of the prompts, the first ones.", ge=0)
    wandb: str = setting("", "The project in Weights & Biases that logs go to as well; empty: none.")

    def checkpoints_of(self, out: str | Path) -> str:
        """Where the checkpoints of a run in the folder `out` are."""
        return self.checkpoints or f"{out}/checkpoints"


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


class Recipe(ABC):
    """What is peculiar to the training of one model. `config` has the parts `loop`, `run`, `data`, and its own."""

    config: Any
    model: nn.Module

    @abstractmethod
    def load(self, init: str) -> nn.Module:
        """The model to begin with. Raises RunError or ModelFilesError."""

    @abstractmethod
    def check(self, clips: Manifest) -> None:
        """Raises ForeseenError for clips, to learn from or to validate on, that the model cannot take."""

    @abstractmethod
    def task(self, clips: Manifest, loop: LoopConfig, device: torch.device, who: Ranks, resumed: bool) -> Task:
        """What is trained, on which clips. Called on all ranks; raises ForeseenError for settings that do not fit."""

    @abstractmethod
    def validate(self, trainer: Trainer, held_out: Manifest, say: Say) -> dict[str, float]:
        """Numbers of the clips that nothing is learned from, `validation_loss` first."""

    def sample(self, trainer: Trainer, held_out: Manifest) -> list[tuple[Any, Tensor]]:
        """Sounds to listen to, at 16 kHz, each with what it should be. By default none."""
        return []

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the model, for `from_pretrained`."""

    def weights(self) -> dict[str, nn.Module]:
        """All that the run begins with, under the names by which a difference is told when it is resumed."""
        return {"init": self.model}

    def notes(self, clips: Manifest) -> list[str]:
        """What people should know of how these clips are learned, a line each."""
        return []

    def about(self) -> str:
        """What people should know of how it is trained."""
        return ""


def train(
    recipe: Recipe,
    data: Sequence[str],
    out: str | Path,
    *,
    init: str = "",
    where: str = "",
    validation_data: Sequence[str] = (),
    resume: bool = False,
    device: str = "auto",
    say: Say = print,
) -> Outcome:
    """Train, or go on with, the run in the folder `out`. `data`: see `manifest`.

    Under torchrun every process calls this, and the first one talks and writes. Raises ForeseenError: bad data or
    settings, a run that is there already, a checkpoint of another run, training that diverges, an interruption.
    """
    if "://" in str(out):
        raise RunError(f"{out}: a run's logs and samples need a folder; checkpoints may go to run.checkpoints=s3://...")
    config = recipe.config
    device = _device(device)
    with ranks(device) as who:
        if who.count > config.loop.batch_size:
            raise RunError(
                f"{who.count} processes are more than loop.batch_size, which is {config.loop.batch_size}: each needs a "
                "clip of every batch. Start fewer, or raise it"
            )
        if device == "cuda" and who.count > 1:
            device = f"cuda:{who.local_rank}"
        out = Path(out)
        last = who.agree(_last_checkpoint(config.run.checkpoints_of(out), out, resume))
        before = checkpoint.read_told(last) if last else {}
        clips = _open(data, where, before.get("seqs"), who, config.data)
        held_out = open_manifest(validation_data, config=config.data) if validation_data else Manifest([])
        recipe.model = _load(recipe, init)
        recipe.check(clips)
        recipe.check(held_out)
        loop = config.loop.resolved(len(clips))
        told = {
            "data": clips.identity,
            "seqs": clips.seqs,
            **{name: files.digest(module) for name, module in recipe.weights().items()},
            "settings": checkpoint.results(dataclasses.replace(config, loop=loop)),
        }
        if len({json.dumps(each, sort_keys=True) for each in who.gather(told)}) > 1:
            raise RunError("the processes of this run see different data or models: give all of them the same files")
        try:
            task = recipe.task(clips, loop, torch.device(device), who, resumed=last is not None)
        except (ModelFilesError, ValueError) as error:
            raise RunError(str(error)) from error
        complain = say if who.first else lambda text: say(f"process {who.rank}: {text}")
        trainer = Trainer(task, loop, device=device, ranks=who, say=complain)
        if last:
            checkpoint.load(last, told, trainer)
        if who.first:
            _introduce(recipe, trainer, clips, held_out, out, last is not None, told, say)
        return _Run(recipe, trainer, held_out, out, told, say).go()


class _Run:
    """The steps, and what is done between them."""

    def __init__(
        self, recipe: Recipe, trainer: Trainer, held_out: Manifest, out: Path, told: dict[str, Any], say: Say
    ) -> None:
        self.recipe, self.trainer, self.held_out = recipe, trainer, held_out
        self.config: RunConfig = recipe.config.run
        self.out, self.told = out, told
        self.first = trainer.ranks.first
        self.say = say if self.first else lambda text: None
        self.numbers: dict[str, float] = {}
        self.score: float | None = None
        self.saver = checkpoint.Saver(self.config.checkpoints_of(out), trainer.ranks, self.config.keep)
        if self.first:
            self.csv = logs.CsvLog(out / "log.csv", trainer.step)
            self.validation_csv = logs.CsvLog(out / "validation.csv", trainer.step)
            self.jsonl = logs.JsonLog(out / "log.jsonl", trainer.step)
            self.boards = [logs.tensorboard(out / "tensorboard", trainer.step)]
            if self.config.wandb:
                self.boards.append(logs.wandb(self.config.wandb, out, told, trainer.step))

    def go(self) -> Outcome:
        trainer = self.trainer

        def stop() -> None:
            trainer.stop_asked = True

        try:
            with stop_requests(stop, self.say, "a checkpoint is saved after this step"):
                done = trainer.run(self._log, after_step=self._after_step)
        except Exception:
            with suppress(Exception):  # what ended the run is said, not this
                self.saver.wait()  # a checkpoint that was begun is worth having
            raise
        self._save()
        self.saver.wait()
        if self.first:
            write_report(self.out)
        if not done:
            raise Interrupted(
                f"stopped after step {trainer.step} of {trainer.config.steps}: --resume goes on from there"
            )
        folder = self.out / "model"
        with trainer.averaged():
            if trainer.sharded:
                unshard(trainer.module)
            if self.first:
                self.recipe.save(folder)
        return Outcome(
            step=trainer.step, steps=trainer.config.steps, model=str(folder), leads=self.first, numbers=self.numbers
        )

    def _log(self, line: dict[str, float]) -> None:
        self.numbers |= line
        self.csv(line)
        self.jsonl({"kind": "train", **line})
        for board in self.boards:
            board(line)
        self.say(logs.for_people(line))

    def _after_step(self) -> None:
        step, config = self.trainer.step, self.config
        last = step == self.trainer.config.steps
        if self.trainer.sharded or self.first:  # of a model in pieces every process has to ask for the others'
            with self.trainer.averaged():
                if len(self.held_out) and (step % config.validate_every == 0 or last):
                    self._validate()
                if config.num_samples and (step % config.sample_every == 0 or last):
                    self._sample()
        if step % config.save_every == 0 or self.trainer.save_due:
            self._save()
            if self.trainer.save_due:  # this machine is about to go
                self.saver.wait()
                self.trainer.save_due = False
            if self.first:
                write_report(self.out)

    def _save(self) -> None:
        self.saver.save(self.trainer, self.told, self.score)
        self.score = None

    def _validate(self) -> None:
        with self._apart():
            numbers = self.recipe.validate(self.trainer, self.held_out, self.say)
        if numbers and self.first:
            line = {"step": self.trainer.step, **numbers}
            self.score = numbers["validation_loss"]
            self.numbers |= numbers
            self.validation_csv(line)
            self.jsonl({"kind": "validation", **line})
            for board in self.boards:
                board(line)
            num_clips = min(len(self.held_out), self.config.validation_clips)
            self.say(
                f"step {self.trainer.step:>6}  validation over {num_clips} clips: loss {numbers['validation_loss']:.4g}"
            )

    def _sample(self) -> None:
        with self._apart():
            made = self.recipe.sample(self.trainer, self.held_out)
        if made and self.first:
            folder = self.out / "samples" / str(self.trainer.step)
            folder.mkdir(parents=True, exist_ok=True)
            for number, (_, waveform_S) in enumerate(made):
                write_wav(folder / f"{number}.wav", waveform_S.detach().cpu().float().numpy(), MEL.sample_rate_hz)
            prompts = json.dumps([prompt for prompt, _ in made], indent=1)
            (folder / "prompts.json").write_text(prompts + "\n", encoding="utf-8")

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Without gradients, in eval mode; random numbers of the training stay as they are."""
        module = self.trainer.module
        module.eval()
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                yield
        finally:
            module.train()


def _load(recipe: Recipe, init: str) -> nn.Module:
    try:
        return recipe.load(init)
    except (ModelFilesError, ValueError) as error:
        raise RunError(str(error)) from error


def _device(asked: str) -> str:
    if asked not in ("auto", "cpu", "cuda"):
        raise RunError(f"--device is {asked!r}: auto, cpu or cuda")
    return choose_device(asked)


def _last_checkpoint(folder: str, out: Path, resume: bool) -> checkpoint.Checkpoint | None:
    found = checkpoint.all_in(folder)
    if found and not resume:
        raise RunError(f"{out} holds a run that reached {found[-1].name}: add --resume to go on, or name another --out")
    if resume and not found:
        raise RunError(f"{out} holds no checkpoint to resume: leave --resume out to begin")
    return found[-1] if found else None


def _open(data: Sequence[str], where: str, seqs: list[int | None] | None, who: Ranks, config: DataConfig) -> Manifest:
    """The clips, on every rank those that the first one sees, and on resume those of the beginning."""
    if seqs is not None:
        return open_manifest(data, where, seqs, config)
    found = open_manifest(data, where, None, config) if who.first else None
    seqs = who.agree(found.seqs if found else None)
    return found or open_manifest(data, where, seqs, config)


def _introduce(
    recipe: Recipe,
    trainer: Trainer,
    clips: Manifest,
    held_out: Manifest,
    out: Path,
    resumed: bool,
    told: dict[str, Any],
    say: Say,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    settings = {"config": dataclasses.asdict(recipe.config), **told}
    (out / "settings.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    for note in (*clips.notes, *held_out.notes, *recipe.notes(clips)):
        say(note)
    if trainer.config.batch_size > len(clips):
        say(
            f"a batch of {trainer.config.batch_size:,} is more than the {len(clips):,} clips: each has several turns "
            "in a step. Lower loop.batch_size, if that is not meant"
        )
    num_trained = sum(p.numel() for p in trainer.trained)
    num_all = sum(p.numel() for p in recipe.model.parameters())
    loop = trainer.config
    say(
        f"{len(clips):,} clips to learn from, {len(held_out):,} to validate on; {num_trained:,} of {num_all:,} "
        f"parameters learn{recipe.about()}; {loop.steps:,} steps of {loop.batch_size} clips on "
        f"{trainer.ranks.count} x {trainer.device.type}"
        + (f"; going on after step {trainer.step:,}" if resumed else "")
    )
