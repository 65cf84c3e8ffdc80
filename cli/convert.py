"""`autorecap convert`: turns official checkpoints into model folders."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from autorecap.base.errors import ForeseenError
from autorecap.cli.errors import answered

_NUM_NAMES = 3  # shown of a group of tensors, without --all-names

convert = typer.Typer(
    help="Turn an official checkpoint into a model folder. Nothing in the checkpoint is run.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Checkpoint = Annotated[
    Path, typer.Argument(metavar="CKPT", help="The checkpoint, as torch.save wrote it.", show_default=False)
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write: new, or empty.", show_default=False)]
AllNames = Annotated[bool, typer.Option("--all-names", help="Name every tensor that was not used.")]


@convert.command("autocap")
def autocap(
    checkpoint: Checkpoint,
    out: Out,
    tokenizer: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="BART's tokenizer, which the checkpoint lacks: a tokenizer.json, a folder with one or with "
            "vocab.json and merges.txt, or a hub id.",
        ),
    ] = "facebook/bart-base",
    all_names: AllNames = False,
) -> None:
    """Convert the captioner AutoCap: a Lightning checkpoint (.ckpt), or a state dict alone.

    OUT becomes a folder for `autorecap caption --model` and captions.model. CLAP's text branch, where the checkpoint
    has it, goes to OUT/clap_text. Tensors that are not used are named with the reason.

    Exit code: 0 done; 2 no such checkpoint, or one that does not convert.

    Examples:

      autorecap convert autocap autocap.ckpt weights/autocap

      autorecap convert autocap autocap.ckpt weights/autocap --tokenizer downloads/bart-base
    """
    with answered():
        from autorecap.models.autocap import convert as conversion
        from autorecap.models.clap import TEXT_FOLDER

        _check_new(out)
        with _foreseen("--tokenizer"):
            done = conversion.convert(checkpoint, out, tokenizer)
        _report_unused(done.num_tensors, done.unused, done.beside, all_names)
        bart = done.config.bart
        print(f"{out}: AutoCap of size {done.config.size}, BART {bart.width} wide with 2 x {bart.num_layers} layers")
        if done.has_clap_text:
            print(f"{out / TEXT_FOLDER}: the text branch of its CLAP")
        else:
            print("the checkpoint has no text branch of CLAP: captions need none, scores of captions do")
        print(f"try it: autorecap caption FILE --model {out}")


@convert.command("autocap-parts")
def autocap_parts(
    out: Out,
    htsat: Annotated[
        Path, typer.Option(metavar="CKPT", help="HTSAT as WavCaps published it: HTSAT.ckpt.", show_default=False)
    ],
    clap: Annotated[
        Path,
        typer.Option(
            metavar="CKPT",
            help="LAION's CLAP with HTSAT-base: music_speech_audioset_epoch_15_esc_89.98.pt.",
            show_default=False,
        ),
    ],
    bart: Annotated[str, typer.Option(metavar="PATH", help="BART: a folder or hub id.")] = "facebook/bart-base",
    size: Annotated[str, typer.Option(help="base, or large for facebook/bart-large.")] = "base",
) -> None:
    """Assemble the captioner from which training starts: published encoders and BART, all else untrained.

    OUT becomes a folder for `autorecap train autocap --init`. CLAP's text branch, where the checkpoint has it, goes to
    OUT/clap_text.

    Exit code: 0 done; 2 no such file, or one that does not fit.

    Example:

      autorecap convert autocap-parts weights/start --htsat HTSAT.ckpt
      --clap music_speech_audioset_epoch_15_esc_89.98.pt
    """
    with answered():
        from autorecap.models.autocap import SIZES, parts

        _check_new(out)
        if size not in SIZES:
            raise ForeseenError(f"--size: expected one of {', '.join(SIZES)}, found {size!r}")
        with _foreseen("--bart"):
            has_clap_text = parts.assemble(out, htsat=htsat, clap=clap, bart=bart, size=size)
        print(f"{out}: AutoCap of size {size}, untrained between its encoders and BART")
        print("CLAP's text branch is in clap_text" if has_clap_text else "the CLAP checkpoint has no text branch")
        print(f"train it: autorecap train autocap --config autocap-stage1 --init {out} ...")


@convert.command("genau")
def genau(
    checkpoint: Checkpoint,
    out: Out,
    t5: Annotated[
        str | None, typer.Option(metavar="PATH", help="A folder or hub id of google/flan-t5-large, to copy into OUT.")
    ] = None,
    clap: Annotated[
        str | None, typer.Option(metavar="PATH", help="A folder or hub id of a CLAP text branch, to copy into OUT.")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="BART's tokenizer, as for autocap: adds the CLAP of the checkpoint."),
    ] = None,
    all_names: AllNames = False,
) -> None:
    """Convert the generator GenAu: backbone, VAE and vocoder of a Lightning checkpoint (.ckpt).

    The frozen FLAN-T5 in the checkpoint is left out; --t5 names the published one. CLAP's text branch is taken from the
    checkpoint where --tokenizer is given. What OUT then still lacks to read prompts is printed, and listed in
    OUT/MISSING.txt.

    Exit code: 0 done; 2 no such checkpoint, or one that does not convert.

    Examples:

      autorecap convert genau genau-full-l.ckpt weights/genau-l --t5 google/flan-t5-large --tokenizer facebook/bart-base

      autorecap convert genau genau-full-s.ckpt weights/genau-s
    """
    with answered():
        from autorecap.models.genau import convert as conversion

        _check_new(out)
        with _foreseen("--tokenizer"):
            done = conversion.convert(checkpoint, out, t5=t5, clap=clap, tokenizer=tokenizer)
        _report_unused(done.num_tensors, done.unused, done.beside, all_names)
        print(f"{out}: GenAu of size {done.config.size}, scale factor {done.scale_factor:.4f}")
        for what in done.missing:
            print(f"{out} lacks {what}")


@contextmanager
def _foreseen(tokenizer: str) -> Iterator[None]:
    """Turn errors of files into foreseen ones. `tokenizer`: the option that names BART's."""
    from autorecap.models.autocap.convert import TokenizerError
    from autorecap.models.files import ModelFilesError

    try:
        yield
    except TokenizerError as error:
        raise ForeseenError(f"{tokenizer}: {error}") from error
    except ModelFilesError as error:
        raise ForeseenError(error) from error


def _check_new(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ForeseenError(f"{out} exists and is not an empty folder: name a new one")


def _report_unused(num_tensors: int, unused: dict[str, list[str]], beside: tuple[str, ...], all_names: bool) -> None:
    """Print which tensors were not used, grouped by reason; those without a reason come last, as a warning."""
    from autorecap.base.text import printable

    num_unused = sum(map(len, unused.values()))
    print(f"{num_tensors} tensors, {num_tensors - num_unused} of them used")
    for reason in sorted(unused, key=lambda reason: (not reason, reason)):
        names = unused[reason]
        shown = names if all_names else names[:_NUM_NAMES]
        more = f", and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
        what = f"not used: {len(names)}, {reason}" if reason else f"WARNING: {len(names)} have no place in the model"
        print(f"  {what}: {', '.join(printable(name, 120) for name in shown)}{more}")
    if beside:
        print(f"  beside the weights, not read: {', '.join(printable(name, 40) for name in beside[:20])}")
