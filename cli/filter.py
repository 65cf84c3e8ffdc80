"""`autorecap filter`: shows what the keyword filter does to captions, one a line."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from autorecap.base.errors import ForeseenError
from autorecap.cli.errors import answered
from autorecap.cli.show import silence_stdout

CHUNK_BYTES = 1 << 16
NUM_TOP_KEYWORDS = 10  # named in the summary


def filter_captions(
    file: Annotated[
        str, typer.Argument(help="Text file in UTF-8 with one caption a line; - reads standard input.")
    ] = "-",
    as_json: Annotated[
        bool,
        typer.Option("--json", help='Print {"caption", "keep", "keyword"} for each line; the keyword is null if kept.'),
    ] = False,
    keywords: Annotated[
        str, typer.Option(metavar="FILE", help="A keyword file of your own, written as the bundled keywords.yaml.")
    ] = "",
) -> None:
    """Show which captions the filter drops, and for which keyword: one line of output for each line of input."""
    with answered("interrupted: the answers above stand"):
        _filter(file, as_json, keywords)


def _filter(file: str, as_json: bool, keywords: str) -> None:
    from autorecap.stages.keyword_files.keyword_filter import KeywordFilter

    try:
        keyword_filter = KeywordFilter(keywords)
    except ValueError as error:
        raise ForeseenError(error) from error
    try:
        stream = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115  closed below
    except OSError as error:
        raise ForeseenError(
            f"{file}: {error.strerror}: give a text file with one caption a line, or - for standard input"
        ) from error

    dropped: Counter[str] = Counter()
    num_captions = num_undecodable = 0
    output = sys.stdout.buffer
    with stream:
        try:
            for lines in _available_lines(stream):
                for line in lines:
                    caption = line.decode("utf-8", "replace")
                    num_undecodable += caption.count("\ufffd") - line.count("\ufffd".encode())
                    if num_captions == 0:
                        caption = caption.removeprefix("\ufeff")  # a byte order mark belongs to the file
                    keyword = keyword_filter.match(caption)
                    num_captions += 1
                    if keyword is not None:
                        dropped[keyword] += 1
                    output.write((_as_json if as_json else _as_text)(caption, keyword).encode("utf-8") + b"\n")
                output.flush()
        except BrokenPipeError:  # the reader has seen enough, as `head` does
            silence_stdout()
        except OSError as error:
            raise ForeseenError(f"{file}: cannot be read to its end: {error.strerror}") from error
    _summarise(num_captions, dropped, num_undecodable)


def _available_lines(stream: BinaryIO) -> Iterator[list[bytes]]:
    """Yield lines without their ends as soon as they come: the writer of a pipe gets its answers at once."""
    read = getattr(stream, "read1", stream.read)
    rest: list[bytes] = []  # pieces of a line whose end has not come yet
    while chunk := read(CHUNK_BYTES):
        head, newline, tail = chunk.rpartition(b"\n")
        if newline:
            yield [line.removesuffix(b"\r") for line in b"".join([*rest, head]).split(b"\n")]
            rest = []
        if tail:
            rest.append(tail)
    if rest:
        yield [b"".join(rest).removesuffix(b"\r")]


def _as_json(caption: str, keyword: str | None) -> str:
    return json.dumps({"caption": caption, "keep": keyword is None, "keyword": keyword}, ensure_ascii=False)


def _as_text(caption: str, keyword: str | None) -> str:
    # Control characters would move the cursor of a terminal; JSON escapes them.
    caption = "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in caption)
    return f"keep  {'':16}  {caption}" if keyword is None else f"drop  {keyword:16}  {caption}"


def _summarise(num_captions: int, dropped: Counter[str], num_undecodable: int) -> None:
    num_dropped = dropped.total()
    summary = f"{num_captions} captions: {num_captions - num_dropped} kept, {num_dropped} dropped"
    if dropped:
        summary += f" ({', '.join(f'{word} {num}' for word, num in dropped.most_common(NUM_TOP_KEYWORDS))})"
    if num_undecodable:
        summary += f"\n{num_undecodable} undecodable byte sequences replaced: is the file UTF-8?"
    typer.echo(summary, err=True)
