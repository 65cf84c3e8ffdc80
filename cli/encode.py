"""`autorecap encode`: a dataset as latents."""

import dataclasses
import json
import sys
from typing import Annotated

import typer

from autorecap.base.device import choose_device
from autorecap.cli.errors import answered, settings_from_options
from autorecap.cli.place import check_lasts


def encode(
    data: Annotated[str, typer.Option(help="The dataset of clips: a directory or s3://bucket/prefix.")],
    model: Annotated[str, typer.Option(help="A GenAu, or a VAE alone (then without texts): a folder or hub id.")],
    out: Annotated[str, typer.Option(help="Where the latents go: a directory or s3://bucket/prefix.")],
    where: Annotated[str, typer.Option(help='Which clips, in SQL over the index: "clap_score >= 0.4".')] = "",
    max_seconds: Annotated[
        float, typer.Option(help="Longer clips are encoded in pieces of this length: what the generator can make.")
    ] = 10.24,
    dtype: Annotated[str, typer.Option(help="Of the stored numbers: fp16, or fp32 in twice the room.")] = "fp16",
    text: Annotated[bool, typer.Option(help="Captions as the model's text encoders read them, as well.")] = True,
    t5: Annotated[str | None, typer.Option(help="FLAN-T5, where it is not in the model's folder.")] = None,
    clap: Annotated[str | None, typer.Option(help="CLAP's text branch, where it is not in the model's folder.")] = None,
    batch_size: Annotated[int, typer.Option(help="Pieces at a time.")] = 16,
    threads: Annotated[int, typer.Option(help="Threads that decode.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print how it ended as JSON, as the last line.")] = False,
) -> None:
    """Encode the clips of a dataset once, so that training a generator need not: VAE latents and text vectors.

    What comes out is a dataset of kind latents with the same keys, which `autorecap train genau --data` takes. A run
    that was stopped goes on when the same command is given again; so does one whose dataset has grown.

    Exit code: 0 done; 1 more than one clip in twenty cannot be read, or the place is full; 2 no such data or model;
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
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
        if as_json:
            print(json.dumps(dataclasses.asdict(outcome)))
        else:
            print(
                f"{outcome.clips:,} clips in {outcome.shards} shards encoded, {len(outcome.unreadable)} left out, "
                f"{outcome.already} shards were there already: {out}"
            )
    raise typer.Exit(outcome.exit_code)
