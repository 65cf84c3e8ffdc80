"""`autorecap generate`: makes sounds for prompts, as wav files with a manifest."""

import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autorecap.base.device import choose_device
from autorecap.base.errors import FINISHED_WITH_FAILURES, INTERRUPTED, ForeseenError
from autorecap.base.files import write_whole
from autorecap.base.progress import Progress, say
from autorecap.base.wav import write_wav
from autorecap.cli.errors import answered

if TYPE_CHECKING:
    from torch import Tensor

    from autorecap.models.genau.model import GenAu
    from autorecap.models.genau.sampling.generation import Plan, Scorer

MANIFEST = "manifest.jsonl"
_SLUG_CHARS = 60


def generate(
    model: Annotated[str, typer.Option(help="GenAu: a folder or hub id.", show_default=False)],
    prompts: Annotated[list[str] | None, typer.Argument(help="Descriptions of sounds.", show_default=False)] = None,
    out: Annotated[Path, typer.Option(help="The folder for the wav files and manifest.jsonl.")] = Path("wavs"),
    file: Annotated[
        str | None, typer.Option(help="A text file with a prompt a line, after those given; - reads standard input.")
    ] = None,
    num: Annotated[int, typer.Option(help="Sounds for each prompt.", min=1)] = 1,
    seconds: Annotated[float, typer.Option(help="Length of each sound.")] = 10.0,
    steps: Annotated[int, typer.Option(help="Steps of the sampler.")] = 100,
    guidance: Annotated[
        float, typer.Option(help="How closely sounds follow the prompt: 0 ignores it, 1 is without guidance.")
    ] = 4.0,
    seed: Annotated[int, typer.Option(help="Another seed makes other sounds.")] = 0,
    candidates: Annotated[int, typer.Option(help="Make this many for each sound and keep the best; needs --clap.")] = 1,
    clap: Annotated[
        str | None,
        typer.Option(help="A captioner's folder or hub id with clap_text in it, or demo: its CLAP scores the sounds."),
    ] = None,
    sampler: Annotated[
        str, typer.Option(help="ddim; dpm++ or unipc, in 25 steps, where diffusers is installed.")
    ] = "ddim",
    eta: Annotated[float, typer.Option(help="Noise that ddim adds: 0 none, 1 as the released model.")] = 1.0,
    dataset: Annotated[
        str,
        typer.Option(
            help="The dataset whose style to follow. Default: the one that the model learned most of.",
            show_default=False,
        ),
    ] = "",
    batch_size: Annotated[int, typer.Option(help="Sounds at a time.")] = 8,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, cuda:1 for one of several GPUs, or auto: cuda where there is one.")
    ] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16, or auto: bf16 on a GPU.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace files of the same names.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each line of the manifest on standard output.")
    ] = False,
) -> None:
    """Generate sounds from texts: 16 kHz, 16 bit, mono, of exactly the length asked for.

    A sound depends on its prompt, the seed and the settings alone, not on the other prompts. Files are named after
    their prompts and numbered. Each has a line in manifest.jsonl, which grows with every run.

    Exit code: 0 done; 1 a sound came out broken or could not be written, those before it stand; 2 bad usage, or no such
    model; 130 interrupted.

    Examples:

      autorecap generate "dogs bark in the rain" --model genau-s --out wavs/ --num 4

      autorecap generate --file prompts.txt --model genau-l --out wavs/ --steps 200 --guidance 3.5 --json

      autorecap generate "a train passes" --model genau-l --candidates 3 --clap demo
    """
    with answered():
        if candidates > 1 and clap is None:
            raise ForeseenError(f"--candidates {candidates}: there is no --clap to choose among them")
        texts = [text for text in _prompts(prompts or [], file) for _ in range(num)]
        names = _names(texts)
        _check_place(out, names, force)
        settings: dict[str, Any] = {
            "num_steps": steps,
            "guidance_scale": guidance,
            "seed": seed,
            "num_candidates": candidates,
            "dataset": dataset,
            "sampler": sampler,
            "eta": eta,
            "batch_size": batch_size,
        }
        device = choose_device(device)
        precision = _precision(precision, device)
        scorer = None if clap is None else _scorer(clap, device)
        planned = _plan(model, texts, seconds, settings, scorer)
        loaded = _load(model, device, precision, planned)
        settings |= {"dataset": planned.config.dataset}  # the default of the model, where none was named
        about = {"seconds": seconds, "model": model, **settings, "clap": clap, "precision": precision}
        with Progress(f"{len(texts)} sounds") as shown:
            _save(loaded.stream(planned, shown), planned, names, out, about, force=force, as_json=as_json)


def _save(
    sounds: Iterator["Tensor"],
    planned: "Plan",
    names: list[str],
    out: Path,
    about: dict[str, Any],
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Save every sound as soon as it is ready: its file, its line in the manifest, its line of output."""
    import torch

    from autorecap.models.genau.model import SAMPLE_RATE_HZ

    out.mkdir(parents=True, exist_ok=True)
    manifest = _Manifest(out / MANIFEST, names if force else [])
    takes: Counter[str] = Counter()
    texts, scorer = planned.texts, planned.scorer
    so_far = f"of {len(texts)} sounds are in {out}"
    try:
        for text, name, x_S in zip(texts, names, sounds, strict=True):
            write_wav(out / name, x_S.numpy(), SAMPLE_RATE_HZ)
            line = {"file": name, "prompt": text, "take": takes[text], **about}
            if scorer is not None:
                line["clap_score"] = round(scorer([x_S], [text])[0], 4)
            manifest.add(line)
            takes[text] += 1
            _show(out / name, text, line, as_json)
    except ValueError as error:
        say(f"{_of_the_option(error)}; {takes.total()} {so_far}")
        raise typer.Exit(FINISHED_WITH_FAILURES) from None
    except OSError as error:  # a full disk, among others
        say(f"{error.filename or out}: {error.strerror or error}; {takes.total()} {so_far}")
        raise typer.Exit(FINISHED_WITH_FAILURES) from None
    except torch.OutOfMemoryError:
        say(f"the GPU's memory is full: choose a smaller --batch-size; {takes.total()} {so_far}")
        raise typer.Exit(FINISHED_WITH_FAILURES) from None
    except KeyboardInterrupt:
        say(f"interrupted: {takes.total()} {so_far}")
        raise typer.Exit(INTERRUPTED) from None
    say(f"{takes.total()} {'sound' if len(texts) == 1 else 'sounds'} of {about['seconds']:g} s in {out}")


# --- prompts


def _prompts(arguments: list[str], file: str | None) -> list[str]:
    texts = list(arguments)
    if file is not None:
        texts += _read_prompts(file)
    if not texts:
        raise ForeseenError('no prompts: write one, as in `autorecap generate "dogs bark" ...`, or give --file')
    return texts


def _read_prompts(file: str) -> list[str]:
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    if b"\0" in data:
        raise ForeseenError(f"{file} is no text: it holds a NUL byte. Write a prompt a line, in UTF-8")
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ForeseenError(f"{file} is no text in UTF-8: line {line}. Save it as UTF-8, a prompt a line") from None
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise ForeseenError(f"{file} holds no prompt: write one a line")
    return texts


def _names(texts: list[str]) -> list[str]:
    """Return a safe and readable file name for each sound: letters, digits and dashes, whatever the prompt holds."""
    digits = max(4, len(str(len(texts) - 1)))
    return [f"{_slug(text)}-{i:0{digits}d}.wav" for i, text in enumerate(texts)]


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text[: 10 * _SLUG_CHARS]).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", plain).strip("-")[:_SLUG_CHARS].strip("-") or "sound"


def _check_place(out: Path, names: list[str], force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise ForeseenError(f"--out {out} is a file: name a folder")
    there = [name for name in names if (out / name).exists()]
    if there and not force:
        raise ForeseenError(
            f"{out / there[0]} exists{f', and {len(there) - 1} more' if there[1:] else ''}: "
            "name another --out, or replace them with --force"
        )


# --- the model


def _precision(name: str, device: str) -> str:
    if name not in ("auto", "fp32", "bf16"):
        raise ForeseenError(f"--precision {name}: write fp32, bf16 or auto")
    if name != "auto":
        return name
    return "bf16" if device.startswith("cuda") else "fp32"


@contextmanager
def _foreseen() -> Iterator[None]:
    """Turn errors of settings and files into foreseen ones."""
    from autorecap.models.files import ModelFilesError

    try:
        yield
    except (ValueError, ModelFilesError) as error:
        raise ForeseenError(_of_the_option(error)) from error


def _scorer(captioner: str, device: str) -> "Scorer":
    from autorecap.models.genau.sampling.ranking import ClapScorer

    with _foreseen():
        return ClapScorer.from_pretrained(captioner, device=device)


def _plan(model: str, texts: list[str], seconds: float, settings: dict[str, Any], scorer: "Scorer | None") -> "Plan":
    """Plan the sounds. Wrong settings are reported here, before weights are read."""
    from autorecap.models.genau import pretrained
    from autorecap.models.genau.sampling.generation import GenerateConfig, plan

    with _foreseen():
        return plan(pretrained.find(model)[1], texts, seconds, GenerateConfig(**settings), scorer)


def _load(model: str, device: str, precision: str, planned: "Plan") -> "GenAu":
    import torch

    from autorecap.models.genau.model import GenAu

    with _foreseen():
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        loaded = GenAu.from_pretrained(model, device=device, dtype=dtype)
    distinct = list(dict.fromkeys(planned.texts))
    for i, cut in loaded.text.overlong(distinct) if loaded.text else []:
        say(f"the prompt {_short(distinct[i])} is not read to its end: {cut}")
    return loaded


def _of_the_option(error: Exception) -> str:
    """Return the message, which begins with an argument of `GenAu.generate`, with the option that gave it."""
    options = {"num_steps": "--steps", "guidance_scale": "--guidance", "batch_size": "--batch-size"}
    argument, space, rest = str(error).partition(" ")
    return options.get(argument, argument) + space + rest


# --- results


class _Manifest:
    """A file with a JSON line per sound. Lines of files that are to be replaced are removed first."""

    def __init__(self, path: Path, replaced: list[str]) -> None:
        self.path = path
        if replaced and path.is_file():
            gone = set(replaced)
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _file_of(line) not in gone]
            write_whole(path, "".join(f"{line}\n" for line in kept).encode())

    def add(self, line: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _file_of(line: str) -> object:
    try:
        return json.loads(line)["file"]
    except (ValueError, KeyError, TypeError):  # not ours: left alone
        return None


def _show(path: Path, text: str, line: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(line) if as_json else f"{path}  {_short(text)}", flush=True)


def _short(text: str) -> str:
    from autorecap.base.text import printable

    return repr(printable(text.encode("utf-8", "replace").decode(), 60))
