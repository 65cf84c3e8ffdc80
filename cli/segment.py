"""`autorecap segment`: shows the gaps and clips of one transcript file, without its video."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autorecap.base.errors import FINISHED_WITH_FAILURES
from autorecap.base.progress import say
from autorecap.base.text import clock
from autorecap.cli.errors import answered

if TYPE_CHECKING:
    from autorecap.stages.segments import Segmentation

# The stages are imported where they are used: `autorecap --help` must not wait for pyarrow.


def segment(
    file: Annotated[
        Path,
        typer.Argument(
            help="A transcript: json3, srv1, srv2, srv3, ttml, vtt, srt, or youtube-transcript-api's JSON.",
            exists=True,
            dir_okay=False,
            readable=True,
            show_default=False,
        ),
    ],
    duration: Annotated[
        str | None,
        typer.Option(
            help="Length of the video, in seconds or as [H:]MM:SS. Without it nothing after the last subtitle counts.",
            metavar="SECONDS",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Show the spans of a video without subtitles, and the clips that they become.

    Exit code: 0 for any verdict on a readable transcript, 1 where it is unreadable, 2 for bad usage.

    Examples:

        autorecap segment video.en.json3 --duration 47.4

        autorecap segment video.en.vtt --duration 1:02:03 --json
    """
    from autorecap.stages import segments
    from autorecap.stages.transcript_files import TranscriptError, read_bytes, read_transcript

    duration_ms = None if duration is None else _duration_ms(duration)
    try:
        with answered():
            transcript = read_transcript(read_bytes(str(file)), file.name)
    except TranscriptError as error:
        if as_json:
            _print_json("failed", "transcript_unreadable", detail=str(error))
        else:
            say(str(error))
        raise typer.Exit(FINISHED_WITH_FAILURES) from None
    segmentation = segments.segment(transcript.cues, duration_ms, segments.SegmentsConfig())
    if not as_json:
        _print_table(segmentation, f"{transcript.format}, {len(transcript.cues)} cues")
    elif segmentation.reason:
        _print_json(segmentation.reason.status, segmentation.reason.code, detail=segmentation.detail)
    else:
        _print_json("ok", "", segmentation)


def _duration_ms(text: str) -> int:
    from autorecap.stages.records import MAX_VIDEO_MS
    from autorecap.stages.transcript_files.times import clock_to_ms, to_ms

    ms = clock_to_ms(text)
    if ms is None:
        ms = to_ms(text, unit_ms=1000)
    if ms is None or not 0 < ms <= MAX_VIDEO_MS:
        raise typer.BadParameter(
            f"{text!r} is no length of a video; write seconds, as in 47.4, or a time, as in 1:02:03, up to a week",
            param_hint="--duration",
        )
    return ms


def _print_json(status: str, reason: str, result: "Segmentation | None" = None, detail: str = "") -> None:
    verdict = {
        "status": status,
        "reason": reason,
        "gaps_ms": [list(span) for span in result.gaps_ms] if result else [],
        "clips_ms": [list(span) for span in result.clips_ms] if result else [],
    }
    if detail:
        verdict["detail"] = detail
    typer.echo(json.dumps(verdict))


def _print_table(result: "Segmentation", what_was_read: str) -> None:
    if result.reason:
        typer.echo(f"{result.reason.code} ({what_was_read}): {result.reason.sentence}\n{result.detail}")
        return
    clips = iter(result.clips_ms)
    clip = next(clips, None)
    for start_ms, end_ms in result.gaps_ms:
        typer.echo(_line("gap ", start_ms, end_ms))
        while clip and clip[0] < end_ms:
            typer.echo(_line("  clip", *clip))
            clip = next(clips, None)
    total_s = sum(end - start for start, end in result.gaps_ms) / 1000
    typer.echo(f"{len(result.gaps_ms)} gaps, {total_s:.3f} s; {len(result.clips_ms)} clips ({what_was_read})")


def _line(what: str, start_ms: int, end_ms: int) -> str:
    return f"{what:8}{clock(start_ms)} - {clock(end_ms)} {(end_ms - start_ms) / 1000:10.3f} s"
