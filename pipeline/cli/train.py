"""`autorecap train`: the models, each by a command of its own."""

import json
from typing import Annotated

import typer

from pipeline.cli.errors import answered

HELP = "Train a model. Several GPUs: torchrun --nproc-per-node 8 -m pipeline train ..."
train = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@train.callback(help=HELP)
def _group() -> None:
    """Without this, typer would make one command alone the whole of `train`."""


@train.command("autocap")
def autocap(
    out: Annotated[str, typer.Option(help="Folder of the run: checkpoints, logs, and in the end model/.")],
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="A dataset directory, or LIST@FOLDER: a CSV or JSON list of clips (AudioCaps, Clotho, WavCaps, or "
            "file_name,caption[,title]) and the folder with their audio. May be given again, or several at once."
        ),
    ] = None,
    more_data: Annotated[list[str] | None, typer.Argument(metavar="DATA", help="More of --data.")] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", help="A YAML file of settings: configs/autocap-stage1.yaml, autocap-stage2.yaml."),
    ] = None,
    init: Annotated[
        str, typer.Option(help="The model to start from: a folder, a hub id, or demo for the bundled small one.")
    ] = "",
    where: Annotated[
        str, typer.Option(help='Which clips of datasets, in SQL over the index: "clap_score >= 0.4".')
    ] = "",
    validate: Annotated[
        list[str] | None, typer.Option(help="Data to validate on, written as --data. May be given again.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="section.field=value on top of the file. May be given again.")
    ] = None,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print all settings with their meanings, and do nothing else.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print how the run ended as JSON, as the last line.")] = False,
) -> None:
    """Train the captioner AutoCap: stage 1 aligns the Q-Former with a frozen BART, stage 2 trains BART as well.

    Exit code: 0 done; 1 losses not finite or too many unreadable clips; 2 bad data or settings; 3 --resume with other
    data or settings than the run began with; 130 interrupted, with a checkpoint to go on from.

    Examples:

      autorecap train autocap --config configs/autocap-stage1.yaml --init autocap/ --out runs/stage1
      --data dataset/ --data json_files/SoundBible/sb_final.json@SoundBible_flac --data train.csv@audiocaps/wav

      autorecap train autocap --config configs/autocap-stage2.yaml --init runs/stage1/model --out runs/stage2
      --data train.csv@audiocaps/wav --validate val.csv@audiocaps/wav

      autorecap train autocap --config configs/autocap-stage1.yaml --init demo --data mine.csv@sounds --out runs/mine
      --set loop.epochs=5 --set loop.batch_size=16

      autorecap train autocap ... --resume
    """
    with answered():
        from pipeline import settings
        from pipeline.training.autocap_recipe import AutoCapTraining, train_autocap

        told = settings.load(AutoCapTraining, config, set_ or [])
        if show_config:
            print(settings.to_yaml(told), end="")
            return
        outcome = train_autocap(
            told,
            [*(data or []), *(more_data or [])],
            out,
            init=init,
            where=where,
            validation_data=validate or [],
            resume=resume,
            device=device,
            say=lambda text: print(text, flush=True),
        )
        if not outcome.leads:
            return
        if as_json:
            print(json.dumps({"step": outcome.step, "model": outcome.model, **outcome.numbers}))
        else:
            print(
                f"{outcome.step} steps done; the model is in {outcome.model}: autorecap caption --model {outcome.model}"
            )
