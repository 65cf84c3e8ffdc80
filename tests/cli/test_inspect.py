"""Looking at a dataset: totals, funnel, one clip, any query.

The figures are those of dataset/summary.py, the rest is asked of dataset/view.py and dataset/sql.py.
"""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from autorecap.cli import app
from autorecap.dataset.log import File, Log
from autorecap.dataset.parquet import parquet_bytes, read_parquet
from autorecap.dataset.store import open_store
from autorecap.dataset.summary import funnel, reasons, summarise
from autorecap.dataset.view import DatasetView, NoSuchClip
from autorecap.pipeline.build.bundle_writer import BundleWriter, WriterConfig
from autorecap.stages.flac import Flac
from autorecap.stages.reasons import Reason
from autorecap.stages.records import Clip, Verdict, Video

RATE = 32_000


def clip(start_s, caption="", verdict=Verdict.KEPT, keyword=""):
    pcm = np.random.default_rng(start_s).integers(-9000, 9000, RATE).astype("<i2").tobytes()
    times = {"start_ms": start_s * 1000, "end_ms": start_s * 1000 + 1000}
    made = Clip(**times, audio=pcm, sample_rate_hz=RATE, num_samples=RATE, caption=caption, verdict=verdict)
    return made if verdict is Verdict.KEPT else made.dropped(verdict, keyword)


@pytest.fixture
def out(tmp_path) -> str:
    """Three videos: one kept, one without a transcript, one tried twice and then fine."""
    url = str(tmp_path / "out")
    store = open_store(url)
    log = Log.begin(store, kind="clips", fingerprint="f", settings={})
    log.commit(add=[File(name="plan/x.parquet", sha256="", bytes=0, counts={"rows": 4})])
    clips = (
        clip(0, "Rain falls"),
        clip(2, "A man talks", Verdict.KEYWORD, "talks"),
        clip(4, verdict=Verdict.SILENT),
        clip(6, "Wind <blows> & [rattles]"),
    )
    first = Video(row=0, video_id="first", title="[red]Tïtle", clips=clips, num_clips=5, num_gaps=2, num_cues=3)
    none = Video(row=1, video_id="none").ended(Reason.NO_TRANSCRIPT)
    again = Video(row=2, video_id="again", clips=(clip(0, "Rain falls"),), num_clips=1, num_gaps=1, num_cues=1)
    writer = BundleWriter(WriterConfig(retry_after_s=0), store)
    for bundle in ([first, none, again.ended(Reason.TIMEOUT)], [replace(again, attempt=1)]):
        proposal = writer(Flac()(bundle))
        log.commit(add=proposal.add, done=proposal.done, retry=proposal.retry)
    return url


def run(*arguments) -> str:
    result = CliRunner().invoke(app, ["inspect", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_funnel_adds_up_and_a_video_that_was_tried_twice_counts_once(out):
    counts = [step["count"] for step in funnel(DatasetView(out))]
    assert counts == [3, 2, 2, 2, 6, 5, 4, 3, 3]
    totals = summarise(DatasetView(out))["totals"]
    assert (totals["videos_planned"], totals["videos_handled"], totals["videos_waiting"], totals["clips"]) == (
        4,
        3,
        0,
        3,
    )


def test_scores_are_summed_up_where_there_are_some(out):
    assert summarise(DatasetView(out))["scores"] == {
        "clips": 0,
        "mean": None,
        "at_least": {"0.1": 0, "0.4": 0, "0.5": 0},
    }
    assert "CLAP scores" not in run(out)
    store = open_store(out)
    log = Log.begin(store, kind="clips", fingerprint="f", settings={})
    scored = [replace(clip(i, "Rain"), clap_score=score) for i, score in enumerate([0.05, 0.1, 0.45])]
    low = clip(9).dropped(Verdict.LOW_SCORE, "clap_score -0.2")
    video = Video(row=3, video_id="scored", clips=(*scored, low), num_clips=4)
    proposal = BundleWriter(WriterConfig(), store)(Flac()([video]))
    log.commit(add=proposal.add, done=proposal.done, retry=proposal.retry)
    assert summarise(DatasetView(out))["scores"] == {
        "clips": 3,
        "mean": 0.2,
        "at_least": {"0.1": 2, "0.4": 1, "0.5": 0},
    }
    assert "3 clips have one, mean 0.20; 2 reach 0.1, 1 reach 0.4, 0 reach 0.5" in run(out)
    assert [step["lost"] for step in funnel(DatasetView(out))][-1] == "1 below the lowest score"


def test_a_dataset_of_a_version_that_had_fewer_columns_is_read_with_nulls(out):
    store = open_store(out)
    log = Log.begin(store, kind="clips", fingerprint="f", settings={})
    for folder, column in (("index", "speech_probability"), ("ledger", "num_low_score")):
        for name in log.state.names(folder):
            data = parquet_bytes(read_parquet(store, name).drop_columns([column]))
            older = f"{folder}/{'0' * 8}{name[-30:]}"
            store.put_new(older, data)
            log.commit(add=[File(name=older, sha256="", bytes=len(data))], remove=[name])
    view = DatasetView(out)
    assert [row["speech_probability"] for row in view.rows("select * from clips")] == [None] * 3
    assert [step["count"] for step in funnel(view)] == [3, 2, 2, 2, 6, 5, 4, 3, 3]
    assert "Funnel" in run(out)


def test_reasons_come_with_their_meaning_and_an_example(out):
    rows = {row["reason"]: row for row in reasons(DatasetView(out))}
    assert rows["no_transcript"]["count"] == 1 and rows["no_transcript"]["example"] == "none"
    assert rows["no_transcript"]["meaning"] and rows[""]["count"] == 2


def test_the_report_shows_totals_funnel_reasons_and_clips_literally(out):
    text = run(out)
    for part in ("3 clips", "Funnel", "no_transcript", "Rain falls", "talks", "Wind <blows> & [rattles]", "[red]Tïtle"):
        assert part in text, part


def test_the_json_report_is_json(out):
    summary = json.loads(run(out, "--json"))
    assert summary["totals"]["clips"] == 3 and len(summary["clips"]) == 3
    assert summary["captions"]["keywords"] == [{"keyword": "talks", "count": 1}]


def test_one_clip_is_shown_and_saved(out, tmp_path):
    shown = json.loads(run(out, "--clip", "first_6000_7000", "--save", tmp_path / "wind.flac", "--json"))
    assert shown["json"]["caption"] == shown["index"]["caption"] == "Wind <blows> & [rattles]"
    assert shown["video"]["status"] == "ok"
    assert len(soundfile.read(tmp_path / "wind.flac")[0]) == RATE
    assert "Rain falls" in run(out, "--clip", "first_0_1000")


def test_a_clip_that_is_not_there_is_answered_with_near_ones(out):
    with pytest.raises(NoSuchClip, match="near: first_"):
        DatasetView(out).clip("first_0_1001")
    result = CliRunner().invoke(app, ["inspect", out, "--clip", "first_0_1001"])
    assert result.exit_code == 2 and "near: " in result.output


def test_any_query_runs_over_clips_and_videos(out):
    rows = json.loads(
        run(out, "--json", "--sql", "select caption, count(*) as n from clips group by 1 order by 2 desc")
    )
    assert rows[0] == {"caption": "Rain falls", "n": 2}
    assert "again" in run(out, "--sql", "select video_id, status from videos where attempt > 0")


def test_a_bad_query_is_explained(out):
    result = CliRunner().invoke(app, ["inspect", out, "--sql", "select nonsense from clips"])
    assert result.exit_code == 2 and "nonsense" in result.output and "describe clips" in result.output


@pytest.mark.parametrize("query", ["-- nothing", "", "select", "select \udcff"])
def test_what_is_no_query_is_no_traceback(out, query):
    result = CliRunner().invoke(app, ["inspect", out, "--sql", query])
    assert result.exit_code in (0, 2) and not isinstance(result.exception, Exception)


def test_times_and_lists_come_out_of_a_query(out):
    assert json.loads(run(out, "--json", "--sql", "select [1, 2] as l, now()::timestamp as t"))[0]["l"] == [1, 2]


@pytest.mark.parametrize("folder", ["shards", "index"])
def test_a_damaged_file_is_named(out, folder, tmp_path):
    name = DatasetView(out).state.names(folder)[0]
    (tmp_path / "out" / name).write_bytes(b"x" * 1000)
    result = CliRunner().invoke(app, ["inspect", out, "--clip", "first_0_1000"])
    assert result.exit_code == 2 and "is damaged" in result.output and name in result.output


def test_what_is_no_dataset_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["inspect", str(tmp_path)])
    assert result.exit_code == 2 and "is not a dataset" in result.output


def test_an_empty_dataset_is_shown_as_empty(tmp_path):
    Log.begin(open_store(str(tmp_path / "new")), kind="clips", fingerprint="f", settings={})
    assert "0 clips" in run(tmp_path / "new")


def test_files_that_no_commit_names_are_not_seen(out):
    store = open_store(out)
    index = DatasetView(out).state.names("index")[0]
    store.put_new("index/0rphan.parquet", store.read(index))
    assert summarise(DatasetView(out))["totals"]["clips"] == 3


def test_the_recorded_audio_is_what_was_written(out):
    stored = DatasetView(out).clip("again_0_1000")
    samples, rate = soundfile.read(io.BytesIO(stored.flac), dtype="int16")
    assert rate == RATE and samples.tobytes() == clip(0).audio
