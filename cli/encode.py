"""`autorecap encode`: encodes the clips of a dataset as latents."""

import dataclasses
import json
from typing import Annotated

import typer

from autorecap.base.device import choose_device
from autorecap.base.progress import say
from autorecap.cli.errors import answered, settings_from_options
from autorecap.cluster.place import check_lasts


def encode(
    data: Annotated[str, typer.Option(help="Dataset of clips: a directory or s3://bucket/prefix.")],
    model: Annotated[str, typer.Option(help="A GenAu, or a VAE alone (without texts): a folder or hub id.")],
    out: Annotated[str, typer.Option(help="Dataset of latents to write: a directory or s3://bucket/prefix.")],
    where: Annotated[
        str, typer.Option(help='Which clips, as an SQL condition on the index: "clap_score >= 0.4".')
    ] = "",
    max_seconds: Annotated[
        float,
        typer.Option(help="Longer clips are encoded in pieces of this length, the longest that the generator makes."),
    ] = 10.24,
    dtype: Annotated[
        str, typer.Option(help="Precision of the stored numbers: fp16, or fp32, which takes twice the space.")
    ] = "fp16",
    text: Annotated[bool, typer.Option(help="Store the captions as vectors of the model's text encoders, too.")] = True,
    t5: Annotated[str | None, typer.Option(help="FLAN-T5, if it is not in the model's folder.")] = None,
    clap: Annotated[str | None, typer.Option(help="CLAP's text branch, if it is not in the model's folder.")] = None,
    batch_size: Annotated[int, typer.Option(help="Pieces encoded at once.")] = 16,
    threads: Annotated[int, typer.Option(help="Threads that decode audio.")] = 2,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, cuda:1 for one of several GPUs, or auto: cuda if there is one.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, as the last line.")] = False,
) -> None:
    """Encode the clips of a dataset once as VAE latents and text vectors, so that training a generator need not.

    The result is a dataset of latents with the same keys, which `autorecap train genau --data` reads. The same command
    goes on with a run that was stopped, and with one whose dataset has grown.

    Exit code: 0 done; 1 more than one clip in twenty cannot be read, or no space is left; 2 no such data or model;
    3 --out was encoded by another model or with other settings; 130 interrupted.

    Examples:

      autorecap encode --data ambient/ --model genau-s/ --out latents/

      autorecap encode --data s3://bucket/dataset --model vae/ --out s3://bucket/latents --where "clap_score >= 0.4"
    """
    with answered():
        from autorecap.pipeline.latents.encode import encode as run
        from autorecap.pipeline.latents.encoder import EncodeConfig

        with settings_from_options():
            config = EncodeConfig(
                max_seconds=max_seconds, dtype=dtype, with_text=text, batch_size=batch_size, threads=threads
            )
        outcome = run(
            data,
            model,
            check_lasts(out),
            config,
            where=where,
            t5=t5,
            clap=clap,
            device=choose_device(device),
            say=say,
        )
        if as_json:
            print(json.dumps(dataclasses.asdict(outcome)))
        else:
            print(
                f"{outcome.clips:,} clips in {outcome.shards} shards encoded, {len(outcome.unreadable)} left out, "
                f"{outcome.already} shards were there already: {out}"
            )
    raise typer.Exit(outcome.exit_code)
