"""`autorecap inspect`: shows what a dataset holds."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from autorecap.cli.errors import answered

if TYPE_CHECKING:
    from autorecap.dataset.view import DatasetView


_WIDE = 500


def inspect(
    dataset: Annotated[str, typer.Argument(help="The dataset: a local directory or s3://bucket/prefix.")],
    clip: Annotated[str | None, typer.Option(help="Everything about the clip with this key.")] = None,
    save: Annotated[Path | None, typer.Option(help="With --clip: write its audio to this .flac file.")] = None,
    sql: Annotated[str | None, typer.Option(help="A query over the tables clips and videos.")] = None,
    clips: Annotated[int, typer.Option(min=0, help="How many clips to list.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a dataset: totals, the funnel, reasons, durations, captions; or one clip; or the answer to a query.

    Examples:

      autorecap inspect ambient/

      autorecap inspect ambient/ --clip dQw4w9WgXcQ_0_10000 --save rain.flac

      autorecap inspect ambient/ --sql "select caption, count(*) from clips group by caption order by 2 desc limit 20"

      autorecap inspect ambient/ --sql "select video_id, detail from videos where status = 'failed'" --json
    """
    if save and not clip:
        raise typer.BadParameter("--save needs --clip KEY", param_hint="--save")
    if save and save.suffix.lower() != ".flac":
        raise typer.BadParameter(f"{save}: the audio is FLAC, so name it .flac", param_hint="--save")
    with answered():
        from autorecap.dataset.view import DatasetView

        view = DatasetView(dataset)
        if clip:
            _show_clip(view, clip, save, as_json)
        elif sql:
            _show_query(view, sql, as_json)
        else:
            _show_summary(view, clips, as_json)


def _show_summary(view: "DatasetView", num_clips: int, as_json: bool) -> None:
    from autorecap.dataset.summary import summarise

    summary = summarise(view)
    listed = view.rows(
        "select key, duration_ms, caption, clap_score, title, peak_dbfs from clips order by row, start_ms limit ?",
        num_clips,
    )
    if as_json:
        print(json.dumps(summary | {"clips": listed}, indent=1, default=str))
        return
    totals = summary["totals"]
    print(
        f"{summary['dataset']} ({summary['format']}, {summary['kind']}): {totals['clips']} clips, "
        f"{totals['hours']:.2f} h from {totals['videos_with_clips']} videos, in {totals['shards']} shards, "
        f"{totals['bytes'] / 1e6:.1f} MB\n{totals['videos_planned']} videos planned, "
        f"{totals['videos_handled']} handled, {totals['videos_waiting']} waiting for another try"
    )
    _table("Funnel", summary["funnel"])
    _table(
        "Videos by status",
        [
            {
                "status": r["status"],
                "reason": r["reason"],
                "videos": r["count"],
                "for example": r["example"],
                "detail": r["detail"] or r["meaning"],
            }
            for r in summary["reasons"]
        ],
    )
    durations, captions = summary["durations"], summary["captions"]
    if totals["clips"]:
        print(
            f"\nDurations: {durations['shortest_ms'] / 1000:.2f} to {durations['longest_ms'] / 1000:.2f} s, "
            f"median {durations['median_ms'] / 1000:.2f} s, mean {durations['mean_ms'] / 1000:.2f} s"
        )
        if captions["distinct"]:  # segments have none yet
            print(
                f"Captions: {captions['mean_words']:.1f} words on average, at most {captions['most_words']}; "
                f"{captions['distinct']} distinct, {captions['unique_words']} unique words"
            )
        _histogram(durations["per_second"])
    if scores := summary["scores"]["clips"]:
        reached = ", ".join(f"{count} reach {cut}" for cut, count in summary["scores"]["at_least"].items())
        print(f"\nCLAP scores: {scores} clips have one, mean {summary['scores']['mean']:.2f}; {reached}")
    _table("Most frequent captions", captions["most_frequent"])
    _table("Dropped by keyword", captions["keywords"])
    _table("Clips", listed)


def _show_clip(view: "DatasetView", key: str, save: Path | None, as_json: bool) -> None:
    stored = view.clip(key)
    about: dict[str, Any] = {"index": stored.row, "json": stored.meta, "flac_bytes": len(stored.flac)}
    about["video"] = view.rows("select * exclude (dropped) from videos where row = ?", stored.row["row"])[0]
    if save:
        save.write_bytes(stored.flac)
        about["saved"] = str(save)
    if as_json:
        print(json.dumps(about, indent=1, default=str))
        return
    for part in ("json", "index", "video"):
        _table(part, [{"field": name, "value": value} for name, value in about[part].items()])
    if save:
        print(f"\nsaved to {save}")


def _show_query(view: "DatasetView", query: str, as_json: bool) -> None:
    rows = view.rows(query)
    if as_json:
        print(json.dumps(rows, indent=1, default=str))
    else:
        _table("", rows)


def _table(title: str, rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    table = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name, value in rows[0].items():
        is_key = name in ("key", "video_id")  # to be copied whole
        justify: Literal["left", "right"] = "right" if isinstance(value, int | float) else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=is_key)
    for row in rows:
        table.add_row(*(Text("" if value is None else _shown(value)) for value in row.values()))
    width = None if sys.stdout.isatty() else _WIDE  # a file or a pipe has no width to keep to
    Console(width=width).print(table)


def _shown(value: object) -> str:
    from autorecap.base.text import printable

    return f"{value:.2f}" if isinstance(value, float) else printable(str(value))


def _histogram(per_second: dict[int, int]) -> None:
    from autorecap.dataset.summary import LONGEST_S

    most = max(per_second.values())
    for second, count in per_second.items():
        label = f"{second:2d} s+" if second == LONGEST_S else f"{second:2d} s "
        print(f"  {label} {'█' * max(1, round(40 * count / most))} {count}")
