"""`autorecap plan`: puts the videos of lists into the plan of a dataset, and estimates what building it will take."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autorecap.base.progress import Progress
from autorecap.base.signals import interrupt_on_sigterm
from autorecap.base.text import printable
from autorecap.cli.errors import answered
from autorecap.cli.options import ClipTimes, ConfigFile, Exclude, MinClap, MinSeconds, Overrides, Released, built_kind
from autorecap.cluster.place import check_lasts

if TYPE_CHECKING:
    from autorecap.pipeline.plan.plan import Found
    from autorecap.stages.sources.lists import VideoList


def plan(
    out: Annotated[str, typer.Option(help="The dataset: a local directory or s3://bucket/prefix.")],
    lists: Annotated[
        list[str] | None,
        typer.Argument(help="Lists: PATH, FORMAT=PATH, or PATH@FOLDER for an audio set with its files."),
    ] = None,
    exclude: Exclude = None,
    clip_times: ClipTimes = False,
    from_released: Released = None,
    min_clap: MinClap = None,
    min_seconds: MinSeconds = None,
    until: Annotated[
        str | None, typer.Option(help="segments: plan a dataset for `autorecap build --until segments`.")
    ] = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    gpu_price: Annotated[float | None, typer.Option(min=0, help="Price of a GPU-hour, for the cost.")] = None,
    traffic_price: Annotated[float | None, typer.Option(min=0, help="Price of a GB from outside or a proxy.")] = None,
    storage_price: Annotated[float | None, typer.Option(min=0, help="Price of a GB stored for a month.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found and the estimate as JSON.")] = False,
) -> None:
    """Put the videos of lists into the plan of a dataset, and estimate what building it will take.

    Formats are recognised by content: audioset, vggsound, acav100m, videocc, yttemporal1b, hdvila100m, audiocaps,
    autorecap (the released sets), ids (ids or addresses of YouTube, one a line or in a column); plain or gzipped.
    FORMAT=PATH states it instead. Each video is planned once, however many lists name it; damaged rows are counted,
    named and left out. A list that is added later appends its new videos; rows of the plan never change. Without a
    list: only the estimate.

    Examples:

      autorecap plan eval_segments.csv vggsound.csv --out ambient/

      autorecap plan hdvila_part*.jsonl yttemporal1b_ids_train.csv --exclude audiocaps_test.csv --out s3://bucket/xl

      autorecap plan ids=mine.txt --out ambient/ --set youtube.budget.requests_per_s=1 --gpu-price 2.5 --json

      autorecap plan --from-released AutoReCapXL.json --min-clap 0.4 --min-seconds 4 --out rehydrated/

      autorecap plan audiocaps_train.csv vggsound.csv --clip-times --out audiocaps/

      autorecap plan sb_final.json@SoundBible_flac --out soundbible/
    """
    with answered():
        from autorecap.pipeline.build.config import load_config
        from autorecap.pipeline.build.estimate import Prices
        from autorecap.stages.sources.lists import Thresholds

        kind = built_kind(until)
        settings = load_config(config, set_ or [])
        addition = None
        if lists or from_released:
            addition = _planned(
                out,
                lists or [],
                kind=kind,
                exclude=exclude or [],
                times=clip_times,
                released=from_released or [],
                thresholds=Thresholds(min_clap=min_clap, min_seconds=min_seconds),
            )
        prices = Prices(gpu_hour=gpu_price, gb_traffic=traffic_price, gb_stored=storage_price)
        _estimate(out, settings, prices, addition, as_json)


def _planned(out: str, lists: list[str], *, kind: str, **options: Any) -> "Found":
    from autorecap.pipeline.plan.plan import plan_from
    from autorecap.pipeline.plan.sources import of_arguments

    interrupt_on_sigterm()
    with Progress() as progress:

        def read(source: "VideoList") -> None:
            progress.line(f"{printable(source.path.rpartition('/')[2], 60)}: {source.num_rows:,} rows read")

        def committed(rows: int) -> None:
            progress.line(f"{rows:,} rows planned")

        source = of_arguments(lists, progress=read, **options)
        return plan_from(source, check_lasts(out), kind=kind, committed=committed)


def _estimate(out: str, settings: Any, prices: Any, addition: "Found | None", as_json: bool) -> None:
    from autorecap.dataset.log import read_state
    from autorecap.dataset.store import open_store
    from autorecap.pipeline.build.estimate import estimate, measured, of_paper, work_left

    store = open_store(out)
    state = read_state(store)
    forecast = estimate(work_left(store, state, settings), settings, measured(out) or of_paper(), prices)
    if as_json:
        report = addition.report if addition else None
        print(json.dumps({"found": report, "rows": state.num_rows, "to_do": forecast.as_json()}))
        return
    for line in addition.lines if addition else ():
        print(line)
    print(f"{store.url}: {state.num_rows} rows planned")
    print("\n".join(forecast.lines()))
