"""Lists of online videos: every format, the damage they come with, and nothing unaccounted for.

Also proves what it reads by: stages/sources/lists/formats.py, stages/sources/lists/lines.py,
stages/sources/lists/json_rows.py and stages/sources/lists/mentions.py; and the refusals of stages/sources/errors.py.
"""

import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autorecap.stages.sources import SourceError
from autorecap.stages.sources.lists import FORMATS, Thresholds, open_list
from autorecap.stages.sources.lists import lines as list_lines
from autorecap.stages.youtube.ids import ID
from tests.support.examples import examples

A, B, C, DASH = "dQw4w9WgXcQ", "9bZkp7q19f0", "kJQP7kiw5Fk", "--U7joUcTCo"

AUDIOSET = f"""# Segments csv created Sun Mar  5 10:54:25 2017
# num_ytids=3, num_segs=3, num_unique_labels=2, num_positive_labels=4
# YTID, start_seconds, end_seconds, positive_labels
{DASH}, 0.000, 9.000, "/m/068hy,/m/07q6cd_"
{A}, 30.000, 40.000, "/m/0jbk"
"""
VGGSOUND = f'{A},1,people marching,test\r\n{DASH},30,"female speech, woman speaking",train\r\n'
VIDEOCC = f'{A},168939000,178939000,"""rain"" on window glass"\n{A},29499000,39499000,a river\n'
HDVILA = "".join(
    json.dumps({"video_id": v, "url": f"https://www.youtube.com/watch?v={v}", "clip": clips}) + "\n"
    for v, clips in (
        (A, [{"clip_id": f"{A}.1.mp4", "span": ["00:00:17.759", "00:01:23.279"]}]),
        (DASH, [{"clip_id": f"{DASH}.0.mp4", "span": ["01:00:00.000", "01:00:05.5"]}]),
    )
)
RELEASED = (
    "[\n"
    f'{{"{A}": {{"intervals": [{{"start": 93.115, "end": 101.756, "text": "An engine idles", "CLAP_SIM": 0.4312}}, '
    '{"start": 2, "end": 5.5, "text": "Birds chirp", "CLAP_SIM": null}]}},\n'
    f'{{"{DASH}": {{"intervals": [{{"start": 0, "end": 10, "text": "Rain falls"}}]}}}},\n'
    "]\n"
)

SAMPLES = {  # name of the format: text, ids of its rows, clips of the first row
    "audioset": (AUDIOSET, [DASH, A], (0, 9_000, None, ["/m/068hy", "/m/07q6cd_"])),
    "audioset with a header": (
        f'YTID,start_seconds,end_seconds,positive_labels\n{A},30,40,"/m/0jbk,/m/05x"\n',
        [A],
        (30_000, 40_000, None, ["/m/0jbk", "/m/05x"]),
    ),
    "audioset strong": (
        f"segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n{DASH}_30000\t0.5\t2.1\t/m/07qrkrw\n",
        [DASH],
        (30_000, 40_000, None, ["/m/07qrkrw"]),
    ),
    "vggsound": (VGGSOUND, [A, DASH], (1_000, 11_000, None, ["people marching"])),
    "vggsound files": (f"{A}_000300.mp4,playing organ\r\n", [A], (300_000, 310_000, None, ["playing organ"])),
    "acav100m": (f"videoID,start,end\n{A},236.8924,246.892\n", [A], (236_892, 246_892, None, None)),
    "acav100m output": (
        f'shard-000000,{A}_318.mp4,{A},"[318.6639992338, 328.6639992338]"\n',
        [A],
        (318_664, 328_664, None, None),
    ),
    "acav100m metadata": (f'https://www.youtube.com/watch?v={A}\t{{"VideoLength":"38"}}\n', [A], None),
    "videocc": (VIDEOCC, [A, A], (168_939, 178_939, '"rain" on window glass', None)),
    "videocc with a header": (
        f"video,start,end,caption\nhttps://www.youtube.com/watch?v={A},1000000,2000000,rain\n",
        [A],
        (1_000, 2_000, "rain", None),
    ),
    "yttemporal1b": (f"video_id\n{A}\n{DASH}\n", [A, DASH], None),
    "hdvila100m": (HDVILA, [A, DASH], (17_759, 83_279, "", None)),
    "hdvila100m flat": (
        json.dumps(
            {"clip_id": f"{A}.3", "video_id": A, "span_start": "00:00:01.5", "span_end": "00:00:04", "caption": "x"}
        )
        + "\n",
        [A],
        (1_500, 4_000, "x", None),
    ),
    "audiocaps": (
        f'audiocap_id,youtube_id,start_time,caption\r\n7,{A},130,"A dog barks, then ""howls"""\r\n',
        [A],
        (130_000, 140_000, 'A dog barks, then "howls"', None),
    ),
    "ids": (f"{A}\n\n{DASH}\nhttps://youtu.be/{B}?t=3\nyoutube.com/watch?list=x&v={C}\n", [A, DASH, B, C], None),
    "ids in a column": (f'title,video_id\n"Rain, wind",{A}\nSun,{B}\n', [A, B], None),
}


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def rows_of(path: str, name: str = "", **options):
    """The list after it has been read, its ids, its clips and its damage."""
    source = open_list(path, name)
    parts = list(source.read(**options))
    ids = [i for part in parts for i in part.videos["id"].to_pylist()]
    clips = [clip for part in parts if part.clips is not None for clip in part.clips.to_pylist()]
    damaged = [row for part in parts for row in part.damaged]
    assert source.num_rows == len(ids) + source.num_damaged + source.num_filtered
    assert all(ID.fullmatch(i) for i in ids)
    return source, ids, clips, damaged


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("pack", [lambda text: text, gzip.compress], ids=["plain", "gzipped"])
def test_every_format_is_told_by_its_content_and_read_with_its_clip_times(tmp_path, name, pack):
    text, expected, clip = SAMPLES[name]
    path = write(tmp_path / "list", pack(text.encode()))
    source, ids, clips, damaged = rows_of(path)
    assert (source.layout.kind, ids, damaged) == (name.split()[0], expected, [])
    source, ids, clips, damaged = rows_of(path, times=True)
    assert (ids, damaged) == (expected, [])
    first = next(iter(clips), None)
    assert (first and (first["start_ms"], first["end_ms"], first["original_caption"], first["tags"])) == clip


def test_the_name_of_a_format_overrules_the_content_and_an_unknown_one_is_refused(tmp_path):
    path = write(tmp_path / "x.csv", f"{A},10,20,abc\n")
    assert rows_of(path)[0].layout.kind == "ids"  # in seconds: not VideoCC
    clips = rows_of(path, "videocc", times=True)[2]
    assert [(clip["start_ms"], clip["end_ms"]) for clip in clips] == []  # ten microseconds
    with pytest.raises(SourceError, match=r"vgsound=.*known are audioset"):
        open_list(path, "vgsound")
    with pytest.raises(SourceError, match="leave hdvila100m= out"):
        open_list(path, "hdvila100m")


def test_a_spreadsheet_s_damage_is_counted_and_named_with_its_lines(tmp_path):
    text = (
        "# Segments csv created Sun Mar  5 10:54:25 2017,,,,\n"
        '# YTID, start_seconds, end_seconds, positive_labels,,,,\n#NAME?,20,30," ""/m/03l9g""",,,\n'
        f'{DASH}, 0.000, 10.000, "/m/01b_21"\n\nshort_id, 0.000, 10.000, "/m/09x0r"\n'
        f'{A}, 0.000, 10.000, "/m/09\n"{B}", 0.000, 10.000, "/m/09x0r"\n#REF!,1,2,x\n'
    )
    source, ids, _, damaged = rows_of(write(tmp_path / "d.csv", text))
    assert source.layout.kind == "audioset"
    assert ids == [DASH, A, B]  # a quote that never closes costs nothing but its own row
    assert [(row.line, row.what) for row in damaged] == [(3, "no video id"), (6, "no video id"), (9, "no video id")]
    assert damaged[1].text.startswith("short_id, 0.000")


def test_line_ends_of_every_machine_a_byte_order_mark_and_no_last_line_end(tmp_path):
    for text in (f"\ufeff{A}\r\n{B}", f"{A}\r{B}\r", f"\n\n {A} \n\t{B}\n \n", f'"{A}"\n"{B}"\n'):
        source, ids, _, damaged = rows_of(write(tmp_path / "ids.txt", text))
        assert (ids, damaged, source.num_rows) == ([A, B], [], 2), text


def test_rows_that_lie_on_the_border_of_two_reads_are_whole_and_numbered(tmp_path, monkeypatch):
    ids = [f"{number:011d}" for number in range(500)]
    rows = [f'{i}, 1.000, 2.000, "/m/0"' for i in ids]
    rows[333] = "broken"
    path = write(tmp_path / "a.csv", "# x\n" + "\n".join(rows))
    monkeypatch.setattr(list_lines, "BLOCK_BYTES", 64)
    _, found, _, damaged = rows_of(path)
    assert found == ids[:333] + ids[334:]
    assert [(row.line, row.text) for row in damaged] == [(335, "broken")]


def test_a_half_download_gives_what_there_is_and_says_that_it_breaks_off(tmp_path):
    ids = [f"{number:011d}" for number in range(20_000)]
    packed = gzip.compress("\n".join(ids).encode())
    source, found, _, damaged = rows_of(write(tmp_path / "ids.gz", packed[: len(packed) // 2]))
    assert 100 < len(found) < len(ids) and set(found) < set(ids)
    assert "breaks off" in damaged[-1].what and damaged[-1].line > 100
    assert source.num_damaged == len(damaged)


def test_files_that_are_no_list_are_refused_with_what_they_are(tmp_path):
    for content, message in (
        (b"", "holds no row"),
        (b"PK\x03\x04rest", "zip archive"),
        (f"{A}\n".encode("utf-16"), "UTF-16"),
        (b"one,two\nthree,four\n", "no video id in its first 2 rows"),
        (b'{"num_captions_per_audio": 1, "data": [{"id": "2219", "caption": "x"}]}', "audio set: name the folder"),
        (b"file_name,caption_1,caption_2\na.wav,x,y\n", "audio set: name the folder"),
    ):
        with pytest.raises(SourceError, match=message):
            list(open_list(write(tmp_path / "list", content)).read())
    with pytest.raises(SourceError, match="does not exist"):
        open_list(str(tmp_path / "nothing"))
    with pytest.raises(SourceError, match="is a folder"):
        open_list(str(tmp_path))
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb"), pytest.raises(SourceError, match="is a pipe"):
        open_list(f"/dev/fd/{read_end}")
    os.close(read_end)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SourceError, match="is a pipe"):
        open_list(str(tmp_path / "fifo"))


def test_released_lines_come_with_captions_scores_and_a_null_score_stays(tmp_path):
    source, ids, clips, _ = rows_of(write(tmp_path / "r.json", RELEASED))
    assert (source.layout.kind, ids) == ("autorecap", [A, DASH])
    assert [(c["id"], c["start_ms"], c["end_ms"], c["caption"], c["clap_score"]) for c in clips] == [
        (A, 93_115, 101_756, "An engine idles", 0.4312),
        (A, 2_000, 5_500, "Birds chirp", None),
        (DASH, 0, 10_000, "Rain falls", None),
    ]


def test_released_thresholds_count_what_they_leave_out_and_the_videos_without_a_clip(tmp_path):
    path = write(tmp_path / "r.json", RELEASED)
    source, ids, clips, _ = rows_of(path, thresholds=Thresholds(min_clap=0.4))
    assert (ids, len(clips), source.num_filtered) == ([A], 1, 1)
    assert source.clips_left_out == {"without a score": 2}
    source, ids, clips, _ = rows_of(path, thresholds=Thresholds(min_clap=0.5, min_seconds=4))
    assert (ids, source.clips_left_out) == ([], {"below 0.5": 1, "without a score": 2})
    source, ids, clips, _ = rows_of(path, thresholds=Thresholds(min_seconds=4))
    assert (ids, source.clips_left_out) == ([A, DASH], {"shorter than 4 s": 1})


@pytest.mark.parametrize(
    "text",
    [
        RELEASED,
        RELEASED.removeprefix("[\n").removesuffix("]\n"),  # JSON lines, with commas
        RELEASED.replace(",\n", "\n"),
        json.dumps(json.loads(RELEASED.replace("},\n]", "}\n]"))),  # one line
        json.dumps(json.loads(RELEASED.replace("},\n]", "}\n]")), indent=2),
        json.dumps({k: v for item in json.loads(RELEASED.replace("},\n]", "}\n]")) for k, v in item.items()}),
    ],
    ids=["published", "lines with commas", "lines", "one line", "indented", "one object"],
)
def test_released_files_may_be_arrays_lines_or_one_object(tmp_path, text):
    source, ids, clips, damaged = rows_of(write(tmp_path / "r.json", text))
    assert (source.layout.kind, ids, len(clips), damaged) == ("autorecap", [A, DASH], 3, [])


def test_a_damaged_released_line_costs_itself_and_a_damaged_interval_is_named(tmp_path):
    text = (
        RELEASED.splitlines()[1] + "\n"
        f'{{"{B}": {{"intervals": [{{"start": 5\n'
        f'{{"../../etc/pwd": {{"intervals": []}}}}\n'
        f'{{"{C}": {{"intervals": [{{"start": 5, "end": 4}}, {{"start": 0, "end": 4, "text": "Wind"}}, 7]}}}}\n'
        f'{{"{DASH}": {{"intervals": [{{"start": NaN, "end": 4}}, {{"start": 0, "end": 1{"0" * 400}}}]}}}}\n'
    )
    source, ids, _, damaged = rows_of(write(tmp_path / "r.jsonl", text))
    assert (ids, source.num_rows, source.num_damaged) == ([A, C], 5, 3)
    assert source.clips_left_out == {"damaged": 4}
    assert [(row.line, row.what.split(" of ")[0]) for row in damaged] == [
        (2, "no JSON object"),
        (3, "no video id"),
        (4, "interval 0"),
        (4, "interval 2"),
        (5, "interval 0"),
        (5, "interval 1"),
        (5, "no clip"),
    ]


def test_wavcaps_lists_of_exclusions_name_the_videos_of_audioset(tmp_path):
    text = json.dumps({"AudioSet": [f"Y{A}.wav", f"Y{DASH}.wav", "odd"], "FreeSound": ["156"]})
    _, ids, _, damaged = rows_of(write(tmp_path / "blacklist.json", text))
    assert (ids, [row.text for row in damaged]) == ([A, DASH], ["odd"])


def test_escapes_and_control_characters_reach_neither_messages_nor_captions(tmp_path):
    text = f'{A},1000000,2000000,"rain\x1b[31m \x07on\x00 a  roof"\n\x1b]0;title\x07,1,2,x\n../../../../x,1,2,x\n'
    _, ids, clips, damaged = rows_of(write(tmp_path / "v.csv", text), "videocc", times=True)
    assert ids == [A] and clips[0]["original_caption"] == "rain [31m on a roof"
    assert [row.text for row in damaged] == ["]0;title ,1,2,x", "../../../../x,1,2,x"]


def test_a_caption_that_is_not_utf8_is_read_with_a_mark(tmp_path):
    rows = f"{A},1000000,2000000,caf".encode() + b"\xe9\n" + f"{B},1000000,2000000,b\n".encode()
    _, ids, clips, _ = rows_of(write(tmp_path / "v.csv", rows), times=True)
    assert ids == [A, B] and [clip["original_caption"] for clip in clips] == ["caf\ufffd", "b"]


PIECES = st.one_of(
    st.sampled_from(
        [A, DASH, "#", "# ", "#NAME?", ",", '"', '""', "\t", "\r", "\n", "\r\n", " ", "{", "}", "[", "]", "},"]
    ),
    st.sampled_from([s for text, *_ in SAMPLES.values() for s in text.splitlines(keepends=True)] + [RELEASED]),
    st.sampled_from(['{"intervals"', '"video_id": "', "30", "-1", "1e9", "NaN", "https://youtu.be/", "\x00", "\ufeff"]),
    st.text(max_size=5),
    st.binary(max_size=5),
)


@examples(300)
@given(st.lists(PIECES, max_size=25), st.booleans(), st.sampled_from(["", *FORMATS]))
@example([f"{A}\n"], False, "")
@example([RELEASED, '{"a": {"intervals": {}}}\n'], True, "")
def test_whatever_a_list_holds_every_row_is_kept_or_counted_as_damaged(tmp_path_factory, pieces, times, name):
    data = b"".join(piece if isinstance(piece, bytes) else piece.encode("utf-8", "surrogatepass") for piece in pieces)
    path = write(tmp_path_factory.mktemp("lists") / "list", data)
    try:
        source, ids, clips, damaged = rows_of(path, name, times=times)
    except SourceError as error:
        assert str(error).isprintable()
        return
    for clip in clips:
        assert clip["id"] in ids and 0 <= clip["start_ms"] < clip["end_ms"]
    assert len(damaged) >= source.num_damaged
    assert all(row.text.isprintable() and row.what.isprintable() for row in damaged)


@examples(100)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(AUDIOSET.splitlines()[3:]),
            st.sampled_from(["x,1,2,3", "#NAME?,1,2", f"{A[:-1]},1,2", "ü", f"{A}x, 1, 2"]),
        ),
        max_size=40,
    )
)
def test_a_list_with_damage_anywhere_gives_its_good_rows_in_order(tmp_path_factory, rows):
    path = write(tmp_path_factory.mktemp("lists") / "a.csv", AUDIOSET + "\n".join(rows))
    source, ids, _, damaged = rows_of(path, "audioset", times=True)
    good = [row for row in rows if row in AUDIOSET]
    assert ids == [DASH, A] + [row[:11] for row in good]
    assert source.num_rows == len(rows) + 2 and len(damaged) == len(rows) - len(good)


@pytest.mark.parametrize(
    "name, rows, videos, clips",
    [
        ("acav100m_ids_start_end.csv", 40, 40, 40),
        ("acav100m_output.csv", 43, 43, 43),
        ("audiocaps_val.csv", 1200, 474, 1200),
        ("autorecapxl_style.json", 23, 22, 56),
        ("eval_segments.csv", 221, 221, 221),
        ("eval_segments_damaged.csv", 5, 2, 3),
        ("hdvila_part0.jsonl", 43, 43, 212),
        ("vggsound.csv", 198, 192, 198),
        ("video_cc_public.csv", 87, 45, 87),
        ("yttemporal1b_ids_val.csv", 84, 84, 0),
    ],
)
def test_published_rows_are_read_whole(shared, name, rows, videos, clips):
    source, ids, found, damaged = rows_of(str(shared / "data" / "lists" / name), times=True)
    assert (source.num_rows, len(set(ids)), len(found)) == (rows, videos, clips)
    assert [row.line for row in damaged] == ([4, 8] if "damaged" in name else [])
