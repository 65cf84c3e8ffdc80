"""The plan from lists: each video once, rows that never change, and figures that add up.

Lists are gathered by pipeline/plan/lists.py and pipeline/plan/list_clips.py, behind the sources of
pipeline/plan/sources.py; the command is cli/plan.py.
"""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from autorecap.base.errors import Refused
from autorecap.cli import app
from autorecap.dataset.log import DatasetError, Log, State, read_state
from autorecap.dataset.parquet import parquet_bytes
from autorecap.dataset.row_set import RowSet
from autorecap.dataset.store import open_store
from autorecap.pipeline.plan.plan import PLAN_SCHEMA, SEGMENTED, append_found, plan_from, planned_ids, read_rows
from autorecap.pipeline.plan.sources import FolderSource, ListSource, of_arguments, of_build
from autorecap.stages.records import TO_THE_END, Clip, Video, from_table
from autorecap.stages.sources import SourceError
from autorecap.stages.sources.lists import Thresholds
from tests.support.datasets import append_plan
from tests.support.examples import examples

A, B, C, D, DASH = "dQw4w9WgXcQ", "9bZkp7q19f0", "kJQP7kiw5Fk", "fJ9rUzIMcZQ", "--U7joUcTCo"


@pytest.fixture
def out(tmp_path) -> str:
    return str(tmp_path / "out")


def write(path: Path, *rows: str) -> str:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(path)


def videos_of(out: str) -> list[Video]:
    store = open_store(out)
    state = read_state(store)
    tables = read_rows(store, state, RowSet.of([(0, state.num_rows)]))
    return [video for table in tables for video in from_table(table)]


def plan(out: str, *lists: str, **options):
    return plan_from(of_arguments(lists, **options), out)


def test_a_video_of_several_lists_is_one_row_that_names_them_in_the_order_of_mention(tmp_path, out):
    audioset = write(tmp_path / "a.csv", f'{A}, 0.000, 10.000, "/m/1"', f'{DASH}, 0.000, 10.000, "/m/2"')
    vggsound = write(tmp_path / "v.csv", f"{B},1,x,test", f"{A},30,y,train", f"{B},20,x,test")
    found = plan(out, audioset, vggsound)
    assert [(v.row, v.video_id, v.source) for v in videos_of(out)] == [
        (0, A, "audioset,vggsound"),
        (1, DASH, "audioset"),
        (2, B, "vggsound"),
    ]
    video = videos_of(out)[1]
    assert (video.media, video.info, video.sidecars, video.given, video.clips) == (
        f"https://www.youtube.com/watch?v={DASH}",
        "",
        (),
        False,
        (),
    )
    assert found.lines[:2] == [
        "a.csv: audioset, 2 rows: 2 new",
        "v.csv: vggsound, 3 rows: 1 new, 1 repeated, 1 in a list before it",
    ]


def test_a_list_that_is_added_later_appends_what_is_new_and_changes_no_row(tmp_path, out):
    plan(out, write(tmp_path / "one.txt", A, B))
    before = videos_of(out)
    (file,) = read_state(open_store(out)).names("plan")
    content = open_store(out).read(file)
    found = plan(out, write(tmp_path / "two.txt", C, B, D, C))
    assert found.report["lists"][0] | {"new": 2, "planned": 1, "repeated": 1} == found.report["lists"][0]
    after = videos_of(out)
    assert after[:2] == before and [(v.row, v.video_id, v.source) for v in after[2:]] == [(2, C, "two"), (3, D, "two")]
    assert open_store(out).read(file) == content
    assert plan(out, str(tmp_path / "two.txt")).num_new == 0
    assert len(videos_of(out)) == 4


def test_a_test_set_is_left_out_whatever_its_format(tmp_path, out):
    lists = write(tmp_path / "ids.txt", A, B, C, A)
    held_out = write(tmp_path / "test.csv", "audiocap_id,youtube_id,start_time,caption", f"1,{A},30,x", f"2,{A},50,y")
    blacklist = tmp_path / "black.json"
    blacklist.write_text(json.dumps({"AudioSet": [f"Y{C}.wav"], "FreeSound": ["1"]}))
    found = plan(out, lists, exclude=[held_out, str(blacklist)])
    assert [v.video_id for v in videos_of(out)] == [B]
    assert found.report["lists"][0]["excluded"] == 3


def test_clip_times_are_joined_over_lists_with_their_captions_and_tags(tmp_path, out):
    audiocaps = write(
        tmp_path / "ac.csv",
        "audiocap_id,youtube_id,start_time,caption",
        f"1,{A},30,A dog barks",
        f"2,{A},30,Dogs bark",
        f"3,{A},10,Rain",
        f"4,{B},0,Wind",
    )
    vggsound = write(tmp_path / "v.csv", f"{A},30,dog barking,test", f"{A},30,dog barking,test")
    plan(out, audiocaps, vggsound, write(tmp_path / "ids.txt", C), times=True)
    first, second, third = videos_of(out)
    assert first.given and first.source == "audiocaps,vggsound"
    assert first.clips == (
        Clip(start_ms=10_000, end_ms=20_000, original_caption="Rain"),
        Clip(start_ms=30_000, end_ms=40_000, original_caption="A dog barks\nDogs bark", tags=("dog barking",)),
    )
    assert second.clips == (Clip(start_ms=0, end_ms=10_000, original_caption="Wind"),)
    assert (third.video_id, third.given, third.clips) == (C, False, ())


def test_released_lines_of_one_video_are_joined_and_thresholds_only_drop_when_asked(tmp_path, out):
    keys = ("start", "end", "text", "CLAP_SIM")

    def line(video, *clips):
        return json.dumps({video: {"intervals": [dict(zip(keys, clip, strict=True)) for clip in clips]}})

    released = write(
        tmp_path / "r.json",
        "[",
        line(A, (20, 30.5, "Wind", 0.5)) + ",",
        line(B, (0, 1, "Rain", None)) + ",",
        line(A, (0, 3, "Birds", 0.05), (20, 30.5, "Wind", 0.5)),
        "]",
    )
    plan(out, released=[released])
    first, second = videos_of(out)
    assert first.clips == (
        Clip(start_ms=0, end_ms=3_000, caption="Birds", clap_score=0.05),
        Clip(start_ms=20_000, end_ms=30_500, caption="Wind", clap_score=0.5),
    )
    assert second.clips == (Clip(start_ms=0, end_ms=1_000, caption="Rain"),)
    found = plan(out + "-mq", released=[released], thresholds=Thresholds(min_clap=0.4, min_seconds=4))
    assert [(v.video_id, len(v.clips)) for v in videos_of(out + "-mq")] == [(A, 1)]
    assert found.report["lists"][0]["filtered"] == 1
    assert found.report["lists"][0]["clips_left_out"] == {"below 0.4": 1, "without a score": 1}


def test_damaged_rows_are_shown_and_all_of_them_lie_in_runs(tmp_path, out):
    ids = [f"{n:011d}" if n % 10 else f"bad\x1b[2J {n}" for n in range(100)]
    found = plan(out, write(tmp_path / "ids.txt", *ids))
    assert found.lines[0].endswith("90 new, 10 damaged")
    assert found.lines[1:5] == [
        "  line 1: no video id: bad [2J 0",
        "  line 11: no video id: bad [2J 10",
        "  line 21: no video id: bad [2J 20",
        "  ... and 7 more damaged rows, see runs/",
    ]
    (name,) = [name for name in open_store(out).list("runs") if "damaged" in name]
    rows = [json.loads(line) for line in open_store(out).read(name).splitlines()]
    assert [row["line"] for row in rows[1:]] == list(range(1, 101, 10)) and rows[0]["damaged"] == 10


def test_names_with_escapes_and_separators_reach_no_line_and_no_source_raw(tmp_path, out):
    path = write(tmp_path / "a,\x1b[31m\nb.txt", A)
    found = plan(out, path)
    assert all(line.isprintable() for line in found.lines)
    (video,) = videos_of(out)
    assert video.source.isprintable() and "," not in video.source


def test_what_another_driver_has_planned_meanwhile_is_not_planned_again(tmp_path, out):
    store = open_store(out)
    found = ListSource([write(tmp_path / "ids.txt", A, B, C)]).find(store, State())
    log = Log.begin(store, kind="clips", fingerprint="", settings={})
    append_plan(log, [Video(row=-1, video_id=B, media="b.ogg")])
    assert append_found(log, found) == 2
    assert [(v.row, v.video_id) for v in videos_of(out)] == [(0, B), (1, A), (2, C)]


def test_a_plan_of_an_older_version_and_a_new_one_are_read_as_one(tmp_path, out):
    log = Log.begin(open_store(out), kind="clips", fingerprint="", settings={})
    append_plan(log, [Video(row=-1, video_id="old", media="a.ogg", sidecars=("a.en.vtt",))])
    (name,) = log.state.names("plan")
    columns = ["row", "video_id", "original_name", "source", "media", "info", "sidecars"]
    (old,) = planned_ids(log.store, [name], columns)
    Path(out, name).write_bytes(parquet_bytes(old))
    plan(out, write(tmp_path / "ids.txt", A), times=True)
    assert [(v.video_id, v.title, v.given, v.clips) for v in videos_of(out)] == [
        ("old", "", False, ()),
        (A, "", False, ()),
    ]
    tables = list(read_rows(log.store, read_state(log.store), RowSet.of([(0, 2)])))
    assert len(tables) == 2 and tables[0].schema == tables[1].schema


def test_the_settings_of_a_dataset_stay_when_its_plan_grows(tmp_path, out):
    Log.begin(open_store(out), kind="clips", fingerprint="f", settings={"x": 1})
    plan(out, write(tmp_path / "ids.txt", A))
    state = read_state(open_store(out))
    assert (state.fingerprint, state.settings, state.epoch) == ("f", {"x": 1}, 2)


def test_a_directory_that_is_no_dataset_and_lists_that_are_not_there_are_refused_before_anything_is_written(
    tmp_path, out
):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "x").write_text("x")
    lists = write(tmp_path / "ids.txt", A)
    with pytest.raises(DatasetError, match="not a dataset"):
        plan(str(tmp_path / "notes"), lists)
    with pytest.raises(SourceError, match="does not exist"):
        plan(out, lists, str(tmp_path / "missing.csv"))
    with pytest.raises(SourceError, match="no list is named"):
        plan(out)
    assert not Path(out).exists()


def test_a_plan_works_the_same_in_s3(tmp_path, s3_bucket):
    out = f"{s3_bucket}/set"
    plan(out, write(tmp_path / "ids.txt", A, "broken"))
    plan(out, write(tmp_path / "more.txt", B, A))
    assert [v.video_id for v in videos_of(out)] == [A, B]


IDS = st.lists(st.one_of(st.sampled_from([f"{n:011d}" for n in range(12)]), st.just("damaged")), max_size=20)


@examples(15)
@given(st.lists(IDS, min_size=1, max_size=3), IDS, st.lists(IDS, max_size=1))
def test_every_row_of_every_list_is_accounted_for(tmp_path_factory, lists, excluded, planned):
    folder = tmp_path_factory.mktemp("plan")
    out = str(folder / "out")
    before: list[str] = []
    for ids in planned:
        plan(out, f"ids={write(folder / 'before.txt', *ids, 'zzzzzzzzzzz')}")
        before = [v.video_id for v in videos_of(out)]
    paths = [f"ids={write(folder / f'{n}.txt', *ids, 'zzzzzzzzzzz')}" for n, ids in enumerate(lists)]
    found = plan(out, *paths, exclude=[f"ids={write(folder / 'x.txt', *excluded, 'yyyyyyyyyyy')}"])
    seen: list[str] = []
    for ids, told in zip(lists, found.report["lists"], strict=True):
        named = [i for i in [*ids, "zzzzzzzzzzz"] if i != "damaged"]
        left = [i for i in named if i not in excluded and i not in before]
        new = [i for i in dict.fromkeys(left) if i not in seen]
        expected = {
            "rows": len(ids) + 1,
            "damaged": len(ids) + 1 - len(named),
            "excluded": sum(i in excluded for i in named),
            "planned": sum(i in before and i not in excluded for i in named),
            "new": len(new),
            "repeated": len(left) - len(set(left)),
            "in_other_lists": len(set(left)) - len(new),
        }
        assert {name: told[name] for name in expected} == expected
        assert told["rows"] == sum(count for name, count in told.items() if name in expected and name != "rows")
        seen += new
    assert [v.video_id for v in videos_of(out)] == before + seen


def test_many_clips_come_out_with_their_own_videos_across_batches(tmp_path, out, monkeypatch):
    monkeypatch.setattr("autorecap.pipeline.plan.lists._BATCH_ROWS", 7)
    ids = [f"{n:011d}" for n in range(60)]
    rows = [f"{i},{start},x,test" for start in (5, 90, 40) for i in ids if int(i) % 3]
    plan(out, write(tmp_path / "ids.txt", *ids), write(tmp_path / "v.csv", *rows), times=True)
    videos = videos_of(out)
    assert [v.video_id for v in videos] == ids
    for video in videos:
        expected = [5_000, 40_000, 90_000] if int(video.video_id) % 3 else []
        assert [clip.start_ms for clip in video.clips] == expected and video.given == bool(expected)


def test_seventy_lists_are_told_apart(tmp_path, out):
    lists = [f"ids={write(tmp_path / f'l{n}.txt', A, f'{n:011d}')}" for n in range(70)]
    plan(out, *lists)
    first, *others = videos_of(out)
    assert first.source.split(",") == [f"l{n}" for n in range(70)]
    assert [v.source for v in others] == [f"l{n}" for n in range(70)]


def test_lists_of_exclusions_name_clips_of_freesound_by_their_ids(tmp_path, out):
    folder = tmp_path / "sounds"
    folder.mkdir()
    for name in ("156.flac", "157.flac", f"Y{DASH}.wav"):
        (folder / name).write_bytes(b"")
    listed = {}
    for list_name, tags in (("fsd_final.json", {"tags": "['rain']"}), ("sb_final.json", {})):
        items = [{"id": "156", "caption": "Rain.", **tags}, {"id": "157", "caption": "Wind.", **tags}]
        listed[list_name] = tmp_path / list_name
        listed[list_name].write_text(json.dumps({"data": items}))
    blacklist = tmp_path / "blacklist.json"
    blacklist.write_text(json.dumps({"AudioSet": [f"Y{DASH}.wav"], "FreeSound": ["156"]}))
    plan(out, *(f"{path}@{folder}" for path in listed.values()), exclude=[str(blacklist)])
    kept = [(video.source, video.original_name) for video in videos_of(out)]
    assert kept == [("fsd_final", "157"), ("sb_final", "156"), ("sb_final", "157")]


def test_thresholds_without_a_released_list_are_refused(tmp_path, out):
    with pytest.raises(SourceError, match="--min-clap and --min-seconds are for clips of the released"):
        plan(out, write(tmp_path / "ids.txt", A), thresholds=Thresholds(min_clap=0.4))


def test_a_folder_and_lists_in_one_build_are_refused(tmp_path):
    with pytest.raises(SourceError, match="a second build into the same --out"):
        of_build(str(tmp_path), [write(tmp_path / "ids.txt", A)])


def test_videos_may_lie_where_no_dataset_can():
    assert of_build("memory://videos/of/mine", []) == FolderSource("memory://videos/of/mine")


def test_a_plan_of_another_kind_than_the_dataset_s_is_refused(tmp_path, out):
    path = write(tmp_path / "ids.txt", A)
    plan(out, path)
    with pytest.raises(Refused, match="is a dataset of clips, and this is about segments: name another --out"):
        plan_from(of_arguments([path]), out, kind="segments")


def test_an_audio_set_becomes_clips_of_its_files_with_captions_and_tags(tmp_path, out):
    folder = tmp_path / "sounds"
    folder.mkdir()
    for name in ("2219.flac", f"Y{DASH}.wav", f"{A}_30.wav"):
        (folder / name).write_bytes(b"")
    wavcaps = tmp_path / "fsd_final.json"
    items = [
        {"id": "2219", "caption": "Rain.", "title": "Roof\x1b[0m", "tags": "['rain', 'roof']", "duration": 3.0},
        {"id": f"Y{DASH}.wav", "caption": "Ducks quack.", "category": ["Birds"]},
        {"id": "../../etc/passwd", "caption": "Nothing."},
    ]
    wavcaps.write_text(json.dumps({"data": items}))
    audiocaps = write(tmp_path / "ac.csv", "audiocap_id,youtube_id,start_time,caption", f"1,{A},30,x", f"2,{A},30,y")
    found = plan(out, f"{wavcaps}@{folder}", f"{audiocaps}@{folder}", exclude=[write(tmp_path / "x.txt", DASH)])
    rain, dog = videos_of(out)
    assert rain.video_id.startswith("fsd_final-2219-") and rain.original_name == "2219"
    assert (rain.source, rain.title, rain.media, rain.given) == ("fsd_final", "Roof [0m", f"{folder}/2219.flac", True)
    assert rain.clips == (Clip(start_ms=0, end_ms=TO_THE_END, original_caption="Rain.", tags=("rain", "roof")),)
    assert (dog.video_id, dog.clips) == (
        f"{A}_30000_40000",
        (Clip(start_ms=30_000, end_ms=40_000, original_caption="x\ny"),),
    )
    assert found.lines[0] == "fsd_final.json: wavcaps, 3 clips, 2 with a file, 1 excluded, 1 left out"
    assert plan(out, f"{wavcaps}@{folder}").num_new == 1  # what is not excluded any more


def test_the_command_plans_tells_and_estimates(tmp_path, out):
    lists = write(tmp_path / "ids.txt", A, B, "broken")
    run = CliRunner().invoke(app, ["plan", lists, "--out", out, "--gpu-price", "2"])
    assert run.exit_code == 0 and "line 3: no video id: broken" in run.stdout
    assert "2 videos (2 to be searched for gaps online)" in run.stdout and "cost:" in run.stdout
    run = CliRunner().invoke(app, ["plan", "--out", out, "--json", "--set", "youtube.budget.requests_per_s=0.5"])
    told = json.loads(run.stdout)
    assert (told["rows"], told["found"], told["to_do"]["requests_per_s"]) == (2, None, 0.5)
    run = CliRunner().invoke(app, ["plan", f"vgsound={lists}", "--out", out])
    assert run.exit_code == 2 and "no such format" in run.stderr


def test_plan_files_hold_the_columns_of_a_plan_and_no_nulls_but_scores(tmp_path, out):
    plan(out, write(tmp_path / "v.csv", f"{A},1,x,test", f"{B},1,x,test"), times=True)
    store = open_store(out)
    (table,) = planned_ids(store, read_state(store).names("plan"), PLAN_SCHEMA.names)
    assert table.schema.equals(PLAN_SCHEMA)
    assert not any(table[name].null_count for name in PLAN_SCHEMA.names if name not in SEGMENTED)
    clips = pa.chunked_array(table["clips"]).combine_chunks().flatten()
    assert clips.field("caption").to_pylist() == ["", ""] and clips.field("clap_score").null_count == 2
