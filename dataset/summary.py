"""What a dataset holds, in figures: the funnel from videos to clips, reasons, durations, captions."""

from typing import Any

from autorecap.dataset.log import SEGMENTS
from autorecap.dataset.view import DatasetView
from autorecap.stages.reasons import Reason

RELEASED_CUTS = (0.1, 0.4, 0.5)
"""CLAP scores at which the paper's released sets are cut."""
LONGEST_S = 30
"""Clips of so many seconds and longer are counted together."""


def summarise(view: DatasetView) -> dict[str, Any]:
    """Return all figures of `autorecap inspect`, ready for JSON."""
    return {
        "dataset": view.store.url,
        "format": view.description["format"],
        "kind": view.kind,
        "epoch": view.state.epoch,
        "totals": _totals(view),
        "funnel": funnel(view),
        "reasons": reasons(view),
        "durations": _durations(view),
        "captions": _captions(view),
        "scores": _scores(view),
    }


def _totals(view: DatasetView) -> dict[str, Any]:
    state = view.state
    clips = view.rows(
        "select count(*) as clips, count(distinct video_id) as videos, sum(duration_ms) as ms from clips"
    )[0]
    return {
        "videos_planned": state.num_rows,
        "videos_handled": view.rows("select count(*) as n from videos")[0]["n"],
        "videos_waiting": len(state.retry),
        "videos_with_clips": clips["videos"],
        "clips": clips["clips"],
        "hours": round(int(clips["ms"] or 0) / 3_600_000, 4),
        "shards": sum(name.endswith(".tar") for name in state.names("shards")),
        "bytes": sum(file.bytes for file in state.files.values()),
    }


def funnel(view: DatasetView) -> list[dict[str, Any]]:
    """Count what is left at each step from the videos of the plan to the kept clips, and what was lost before it."""
    v = view.rows(
        """
        select count(*) as videos,
               count(*) filter (num_cues > 0) as transcribed,
               count(*) filter (num_gaps > 0) as with_gaps,
               count(*) filter (status = 'ok') as with_clips,
               coalesce(sum(num_clips), 0) as clips,
               coalesce(sum(num_left_out), 0) as left_out,
               coalesce(sum(num_silent), 0) as silent,
               coalesce(sum(num_joined), 0) as joined,
               coalesce(sum(num_keyword), 0) as keyword,
               coalesce(sum(num_low_score), 0) as low_score,
               coalesce(sum(num_kept), 0) as kept
        from videos
        """
    )[0]
    v = {name: int(value) for name, value in v.items()}
    unnamed = v["low_score"] + v["kept"]  # by no keyword
    failed = v["clips"] - v["left_out"] - v["silent"] - v["joined"] - v["keyword"] - unnamed
    if view.kind == SEGMENTS:
        unheard = [("videos handled", v["videos"]), ("with a transcript", v["transcribed"])]
        unheard += [("with gaps in it", v["with_gaps"]), ("clips cut from gaps", v["clips"])]
        return [{"step": step, "count": count, "lost": ""} for step, count in unheard]
    steps = [
        ("videos handled", v["videos"], ""),
        ("with a transcript", v["transcribed"], ""),
        ("with gaps in it", v["with_gaps"], ""),
        ("with kept clips", v["with_clips"], ""),
        ("clips cut from gaps", v["clips"], ""),
        (
            "heard and not silent",
            v["clips"] - v["left_out"] - v["silent"] - failed,
            f"{v['silent']} silent, {v['left_out']} beyond the limit or the end, {failed} in failed videos",
        ),
        ("after joining equal neighbours", v["keyword"] + unnamed, f"{v['joined']} joined"),
        ("without speech and music", unnamed, f"{v['keyword']} named by keywords"),
        ("kept", v["kept"], f"{v['low_score']} below the lowest score"),
    ]
    return [{"step": step, "count": count, "lost": lost} for step, count, lost in steps]


def reasons(view: DatasetView) -> list[dict[str, Any]]:
    """Count how the videos ended: status, reason, how many, one of them, and what the reason means."""
    found = view.rows(
        "select status, reason, count(*) as count, first(video_id order by row) as example, "
        "first(detail order by row) as detail from videos group by status, reason order by status, count desc, reason"
    )
    for row in found:
        reason = Reason.of(row["reason"]) if row["reason"] in {r.code for r in Reason} else None
        row["meaning"] = reason.sentence if reason else ""
        row["advice"] = reason.advice if reason else ""
    return found


def _durations(view: DatasetView) -> dict[str, Any]:
    row = view.rows(
        "select min(duration_ms) as shortest_ms, median(duration_ms) as median_ms, avg(duration_ms) as mean_ms, "
        "max(duration_ms) as longest_ms from clips"
    )[0]
    buckets = view.rows(
        "select least(duration_ms // 1000, ?) as second, count(*) as count from clips group by second order by second",
        LONGEST_S,
    )
    summary: dict[str, Any] = {name: None if value is None else round(value) for name, value in row.items()}
    return summary | {"per_second": {int(bucket["second"]): bucket["count"] for bucket in buckets}}


def _captions(view: DatasetView) -> dict[str, Any]:
    words = "len(regexp_extract_all(caption, '\\S+'))"
    row = view.rows(
        f"select avg({words}) as mean_words, max({words}) as most_words, count(distinct caption) as distinct_captions "  # noqa: S608
        "from clips"
    )[0]
    unique = view.rows(
        "select count(distinct word) as n "
        "from (select unnest(regexp_extract_all(lower(caption), '[\\w'']+')) as word from clips)"
    )[0]["n"]
    top = view.rows(
        "select caption, count(*) as count from clips where caption is not null "
        "group by caption order by count desc, caption limit 10"
    )
    dropped = view.rows(
        "select d.keyword as keyword, count(*) as count from (select unnest(dropped) as d from videos) "
        "where d.verdict = 'keyword' group by keyword order by count desc, keyword limit 10"
    )
    mean = row["mean_words"]
    return {
        "mean_words": None if mean is None else round(mean, 2),
        "most_words": row["most_words"],
        "distinct": row["distinct_captions"],
        "unique_words": unique,
        "most_frequent": top,
        "keywords": dropped,
    }


def _scores(view: DatasetView) -> dict[str, Any]:
    """Count the clips that have a CLAP score and those that reach each of `RELEASED_CUTS`; with the mean."""
    counts = ", ".join(f"count(*) filter (clap_score >= {cut}) as at_least_{i}" for i, cut in enumerate(RELEASED_CUTS))
    row = view.rows(f"select count(clap_score) as clips, avg(clap_score) as mean, {counts} from clips")[0]  # noqa: S608
    return {
        "clips": row["clips"],
        "mean": None if row["mean"] is None else round(row["mean"], 4),
        "at_least": {str(cut): row[f"at_least_{i}"] for i, cut in enumerate(RELEASED_CUTS)},
    }
