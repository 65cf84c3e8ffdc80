"""A training run from beginning to end: data, model, loop, checkpoints, logs, samples, and the model's folder.

RUN/
    settings.json         all settings, and the identity of data and model
    log.csv, log.jsonl    a row per logged step; the second also has a row per validation
    validation.csv        a row per validation
    checkpoints/          see `checkpoint`
    samples/STEP/         sounds, and their prompts in prompts.json
    report.html           curves and samples on one page
    tensorboard/          if TensorBoard is installed
    model/                for `from_pretrained`, written when the run has ended

What differs between models is their recipe (`training/recipe.py`).
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autorecap.base.device import choose_device
from autorecap.base.errors import INTERRUPTED, ForeseenError
from autorecap.base.files import is_remote, local_path
from autorecap.base.settings import result_settings
from autorecap.base.signals import stop_requests
from autorecap.base.wav import write_wav
from autorecap.dataset.reading.manifest import DataConfig, Manifest, open_manifest
from autorecap.models import files
from autorecap.models.files import ModelFilesError
from autorecap.models.genau.audio import MEL
from autorecap.training.checkpoint import checkpoint
from autorecap.training.loop.processes import Ranks, join_processes
from autorecap.training.loop.sharding import unshard
from autorecap.training.loop.trainer import Trainer
from autorecap.training.recipe import Recipe, RunConfig, RunError, Say
from autorecap.training.report import logs
from autorecap.training.report.report import write_report


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of a run, as its caller learns it."""

    step: int
    steps: int
    model: str  # its folder
    is_main_process: bool  # of the processes that torchrun started, the one that prints
    numbers: dict[str, float]  # of the last logged step and the last validation


class Interrupted(ForeseenError):
    """A signal ended the run; its checkpoint is written."""

    exit_code = INTERRUPTED


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
    """Run a training in the folder `out`, or resume it there, and return how it ended.

    data, validation_data: descriptions of data as `autorecap.dataset.reading.manifest` reads them
    where: an SQL condition on the index of datasets
    init: the model to start from, as the recipe understands it

    Under torchrun every process calls this; the first one prints and writes. Raises ForeseenError for data or settings
    that cannot be used, a run that exists already, a checkpoint of another run, training that diverges, and a signal.
    """
    if is_remote(str(out)):
        raise RunError(f"{out}: a run's logs and samples need a folder; checkpoints may go to run.checkpoints=s3://...")
    config = recipe.config
    device = choose_device(device, numbered=False)  # processes choose among several GPUs by themselves
    with join_processes(device) as ranks:
        config.loop.check_processes(ranks.count)
        if device == "cuda" and ranks.count > 1:
            device = f"cuda:{ranks.local_rank}"
        out = local_path(str(out))
        last = ranks.agree(last_checkpoint(config.run, out, resume))
        seqs = checkpoint.read_identity(last).get("seqs") if last else None
        clips = _open(data, where, seqs, ranks, config.data)
        held_out = open_manifest(validation_data, config=config.data) if validation_data else Manifest([])
        recipe.model = _load(recipe, init)
        recipe.check(clips)
        recipe.check(held_out)
        loop = config.loop.resolved(len(clips))
        identity = {
            "data": clips.identity,
            "seqs": clips.seqs,
            **{name: files.digest(module) for name, module in recipe.weights().items()},
            "settings": result_settings(dataclasses.replace(config, loop=loop)),
        }
        if len({json.dumps(each, sort_keys=True) for each in ranks.gather(identity)}) > 1:
            raise RunError("the processes of this run see different data or models: give all of them the same files")
        say_as_process = say if ranks.first else lambda text: say(f"process {ranks.rank}: {text}")
        try:
            task = recipe.task(clips, loop, torch.device(device), ranks, resumed=last is not None)
        except (ModelFilesError, ValueError) as error:
            raise RunError(str(error)) from error
        trainer = Trainer(task, loop, device=device, ranks=ranks, say=say_as_process)
        if last:
            checkpoint.load(last, identity, trainer)
        if ranks.first:
            _write_settings(recipe, out, identity)
            _introduce(recipe, trainer, clips, held_out, last is not None, say)
        return _Run(recipe, trainer, held_out, out, identity, say).go()


class _Run:
    """A run whose trainer is ready: its steps, and the logs, validations, samples and checkpoints between them."""

    def __init__(
        self, recipe: Recipe, trainer: Trainer, held_out: Manifest, out: Path, identity: dict[str, Any], say: Say
    ) -> None:
        self.recipe, self.trainer, self.held_out = recipe, trainer, held_out
        self.config: RunConfig = recipe.config.run
        self.out, self.identity = out, identity
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
                self.boards.append(logs.wandb(self.config.wandb, out, identity, trainer.step))

    def go(self) -> Outcome:
        trainer = self.trainer
        try:
            with stop_requests(trainer.request_stop, self.say, "a checkpoint is saved after this step"):
                done = trainer.run(self._log, after_step=self._after_step)
        except Exception:
            with suppress(Exception):  # the error that ended the run is the one to report
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
            step=trainer.step,
            steps=trainer.config.steps,
            model=str(folder),
            is_main_process=self.first,
            numbers=self.numbers,
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
        if self.trainer.sharded or self.first:  # every process holds a part of a sharded model
            with self.trainer.averaged():
                if len(self.held_out) and (step % config.validate_every == 0 or last):
                    self._validate()
                if config.num_samples and (step % config.sample_every == 0 or last):
                    self._sample()
        if step % config.save_every == 0 or self.trainer.save_due:
            self._save()
            if self.trainer.save_due:  # this machine is about to be taken away
                self.saver.wait()
                self.trainer.save_due = False
            if self.first:
                write_report(self.out)

    def _save(self) -> None:
        self.saver.save(self.trainer, self.identity, self.score)
        self.score = None

    def _validate(self) -> None:
        with self._outside_training():
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
        with self._outside_training():
            made = self.recipe.sample(self.trainer, self.held_out)
        if made and self.first:
            folder = self.out / "samples" / str(self.trainer.step)
            folder.mkdir(parents=True, exist_ok=True)
            for number, (_, waveform_S) in enumerate(made):
                write_wav(folder / f"{number}.wav", waveform_S.detach().cpu().float().numpy(), MEL.sample_rate_hz)
            prompts = json.dumps([prompt for prompt, _ in made], indent=1)
            (folder / "prompts.json").write_text(prompts + "\n", encoding="utf-8")

    @contextmanager
    def _outside_training(self) -> Iterator[None]:
        """Within, the model is in eval mode, without gradients, and draws do not move the training's random state."""
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


def last_checkpoint(config: RunConfig, out: str | Path, resume: bool) -> checkpoint.Checkpoint | None:
    """Return the checkpoint from which a run in `out` goes on; None to begin.

    Raises RunError where there is one and `resume` is false, and the other way round.
    """
    checkpoints = checkpoint.all_in(config.checkpoints_of(out))
    if checkpoints and not resume:
        raise RunError(
            f"{out} holds a run that reached {checkpoints[-1].name}: add --resume to go on, or name another --out"
        )
    if resume and not checkpoints:
        raise RunError(f"{out} holds no checkpoint to resume: leave --resume out to begin")
    return checkpoints[-1] if checkpoints else None


def _open(data: Sequence[str], where: str, seqs: list[int | None] | None, ranks: Ranks, config: DataConfig) -> Manifest:
    """Return the clips that the first process sees; of a resumed run, those that it began with (`seqs`)."""
    if seqs is not None:
        return open_manifest(data, where, seqs, config)
    clips = open_manifest(data, where, None, config) if ranks.first else None
    seqs = ranks.agree(clips.seqs if clips else None)
    return clips or open_manifest(data, where, seqs, config)


def _write_settings(recipe: Recipe, out: Path, identity: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    settings = {"config": dataclasses.asdict(recipe.config), **identity}
    (out / "settings.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _introduce(recipe: Recipe, trainer: Trainer, clips: Manifest, held_out: Manifest, resumed: bool, say: Say) -> None:
    """Print what the person who starts the run should know about its data, its size and its model."""
    loop = trainer.config
    for note in (*clips.notes, *held_out.notes, *recipe.notes(clips)):
        say(note)
    if loop.batch_size > len(clips):
        say(
            f"a batch of {loop.batch_size:,} is more than the {len(clips):,} clips: each comes several times in a "
            "step. Lower loop.batch_size if this is not intended"
        )
    num_trained = sum(p.numel() for p in trainer.trained)
    num_all = sum(p.numel() for p in recipe.model.parameters())
    say(
        f"{len(clips):,} clips to learn from, {len(held_out):,} to validate on; {num_trained:,} of {num_all:,} "
        f"parameters learn{recipe.about()}; {loop.steps:,} steps of {loop.batch_size} clips on "
        f"{trainer.ranks.count} x {trainer.device.type}"
        + (f"; going on after step {trainer.step:,}" if resumed else "")
    )
