"""`autorecap train`: a command for each model."""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer

from autorecap.base.errors import ForeseenError
from autorecap.base.progress import say
from autorecap.cli.errors import answered
from autorecap.cli.options import Overrides
from autorecap.cluster.place import check_lasts

HELP = "Train a model. Several GPUs: torchrun --nproc-per-node 8 -m autorecap train ..."
train = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

EXIT_CODES = """
    Exit code: 0 done; 1 losses not finite or too many unreadable clips; 2 bad data or settings; 3 --resume with other
    data or settings than the run began with; 130 interrupted, with a checkpoint to go on from.
"""


@train.callback(help=HELP)
def _group() -> None:
    """Hold the commands. Without a callback typer would make a single command the whole of `train`."""


@dataclass(frozen=True)
class ModelCommand:
    """The command of one model: its name and help, and what it runs."""

    name: str
    load: Callable[[], tuple[type[Any], Callable[..., Any]]]
    """Imports the class of the model's settings, and the function that trains it: torch takes seconds."""
    help: str
    next_step: str  # printed at the end, with the model's folder


def _load_autocap() -> tuple[type[Any], Callable[..., Any]]:
    from autorecap.training.autocap.recipe import AutoCapTraining, train_autocap

    return AutoCapTraining, train_autocap


def _load_vae() -> tuple[type[Any], Callable[..., Any]]:
    from autorecap.training.vae.recipe import VAETraining, train_vae

    return VAETraining, train_vae


def _load_vocoder() -> tuple[type[Any], Callable[..., Any]]:
    from autorecap.training.vocoder.recipe import VocoderTraining, train_vocoder

    return VocoderTraining, train_vocoder


def _load_genau() -> tuple[type[Any], Callable[..., Any]]:
    from autorecap.training.genau.recipe import GenAuTraining, train_genau

    return GenAuTraining, train_genau


MODELS = (
    ModelCommand(
        "autocap",
        _load_autocap,
        f"""Train the captioner AutoCap: stage 1 aligns the Q-Former with a frozen BART, stage 2 trains BART as well.
{EXIT_CODES}
    Examples:

      autorecap train autocap --config autocap-stage1 --init autocap/ --out runs/stage1
      --data ambient/ --data json_files/SoundBible/sb_final.json@SoundBible_flac --data train.csv@audiocaps/wav

      autorecap train autocap --config autocap-stage2 --init runs/stage1/model --out runs/stage2
      --data train.csv@audiocaps/wav --validate val.csv@audiocaps/wav

      autorecap train autocap --config autocap-stage1 --init demo --data mine.csv@sounds --out runs/mine
      --set loop.epochs=5 --set loop.batch_size=16

      autorecap train autocap ... --resume
    """,
        "autorecap caption --model {model}",
    ),
    ModelCommand(
        "vae",
        _load_vae,
        f"""Train the 1D-VAE of a GenAu: the first of three; the vocoder and GenAu itself go on from its folder.
{EXIT_CODES}
    Examples:

      autorecap train vae --config vae --init s --data ambient/ --out runs/vae

      autorecap train vae --config vae-demo --init demo --data mine.csv@sounds --out runs/vae
    """,
        "go on with: autorecap train vocoder --init {model} --config ... --data ... --out ...",
    ),
    ModelCommand(
        "vocoder",
        _load_vocoder,
        f"""Train the vocoder of a GenAu, as HiFi-GAN is trained.
{EXIT_CODES}
    Examples:

      autorecap train vocoder --config vocoder --init runs/vae/model --data ambient/ --out runs/vocoder
    """,
        "go on with: autorecap train genau --init {model} --config ... --data ... --out ...",
    ),
    ModelCommand(
        "genau",
        _load_genau,
        f"""Train the generator GenAu, on captioned sounds or on latents that `autorecap encode` made of them.
{EXIT_CODES}
    Examples:

      autorecap train genau --config genau-s --init runs/vocoder/model --data latents/ --out runs/genau

      torchrun --nproc-per-node 8 -m autorecap train genau --config genau-l --init runs/vocoder/model
      --data autocap:3=ambient/ --data audiocaps:1=train.csv@audiocaps/wav --out runs/genau-l

      autorecap train genau --config genau-demo --init runs/vae/model --data mine.csv@sounds
      --out runs/mine
    """,
        "autorecap generate --model {model} 'a dog barks'",
    ),
)


def _add(model: ModelCommand) -> None:
    def command(
        out: Annotated[str, typer.Option(help="Folder of the run: checkpoints, logs, and in the end model/.")] = "",
        data: Annotated[
            list[str] | None,
            typer.Option(
                help="A dataset directory, or LIST@FOLDER: a CSV or JSON list of clips (AudioCaps, Clotho, WavCaps, or "
                "file_name,caption[,title]) and the folder with their audio; NAME:SHARE=... says how often each of "
                "several has its turn. May be given again, or several at once."
            ),
        ] = None,
        more_data: Annotated[list[str] | None, typer.Argument(metavar="DATA", help="More of --data.")] = None,
        config: Annotated[
            str | None,
            typer.Option("--config", help="A YAML file of settings, or a bundled one by its name."),
        ] = None,
        init: Annotated[
            str,
            typer.Option(
                help="The model to start from: a folder, a hub id, or demo; but for autocap also the size of a new one."
            ),
        ] = "",
        where: Annotated[
            str, typer.Option(help='Which clips of datasets, as an SQL condition on the index: "clap_score >= 0.4".')
        ] = "",
        validate: Annotated[
            list[str] | None, typer.Option(help="Data to validate on, written as --data. May be given again.")
        ] = None,
        resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
        workers: Annotated[
            str | None,
            typer.Option(
                help="Train in this many processes on a Ray cluster: 4, or 2:8 for as many as there is room for."
            ),
        ] = None,
        address: Annotated[
            str | None,
            typer.Option(
                help="Address of the Ray cluster; by default the one that runs on this machine. local: a new one."
            ),
        ] = None,
        forecast: Annotated[
            bool,
            typer.Option(
                "--forecast", help="Print the memory, time and data that the run will need, and start nothing."
            ),
        ] = False,
        plan: Annotated[bool, typer.Option("--plan", hidden=True)] = False,  # --forecast, for old scripts
        hardware: Annotated[
            str, typer.Option(help="With --forecast: h100, h200, a100, ..., as many as --workers; or cpu.")
        ] = "h100",
        mfu: Annotated[float, typer.Option(help="With --forecast: the share of the peak speed that is reached.")] = 0.4,
        usd_per_hour: Annotated[float, typer.Option(help="With --forecast: the price of one GPU for an hour.")] = 0.0,
        device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda if there is a GPU.")] = "auto",
        set_: Overrides = None,
        show_config: Annotated[
            bool, typer.Option("--show-config", help="Print all settings with their meanings, and do nothing else.")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, as the last line.")] = False,
    ) -> None:
        with answered(f"interrupted: if {out or '--out'} holds a checkpoint, --resume goes on from it"):
            from autorecap.base import settings_files as settings
            from autorecap.cluster.workers import Workers

            kind, train_model = model.load()
            chosen = settings.load(kind, config, set_ or [])
            if show_config:
                print(settings.to_yaml(chosen), end="")
                return
            all_data = [*(data or []), *(more_data or [])]
            if forecast or plan:
                from autorecap.training.forecast.forecast import cluster_of
                from autorecap.training.forecast.run_forecast import forecast_run

                cluster = cluster_of(hardware, Workers.parse(workers or "1").most, mfu, usd_per_hour)
                print(forecast_run(chosen, all_data, init=init, where=where, cluster=cluster))
                return
            if not out:
                raise ForeseenError("--out is missing: name the folder of the run")
            check_lasts(out)
            start = train_model
            if workers:
                from autorecap.cluster.train import train_on_ray

                start = partial(train_on_ray, train_model, workers=Workers.parse(workers), address=address)
            outcome = start(
                chosen,
                all_data,
                out,
                init=init,
                where=where,
                validation_data=validate or [],
                resume=resume,
                device=device,
                say=say,
            )
            if not outcome.is_main_process:
                return
            if as_json:
                print(json.dumps({"step": outcome.step, "model": outcome.model, **outcome.numbers}))
            else:
                next_step = model.next_step.format(model=shlex.quote(outcome.model))
                print(f"{outcome.step} steps done; the model is in {outcome.model}: {next_step}")

    command.__doc__ = model.help
    train.command(model.name)(command)


for _model in MODELS:
    _add(_model)
