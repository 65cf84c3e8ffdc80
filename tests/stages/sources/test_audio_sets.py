"""Published lists of captioned audio, and folders with a CSV."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorecap.stages.sources import SourceError, locate, read_audio_list
from tests.support.examples import examples

AUDIOCAPS = "audiocap_id,youtube_id,start_time,caption\r\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_the_captions_of_one_audiocaps_clip_belong_together_and_its_videos_other_clips_do_not(tmp_path):
    rows = '1,abc-_123,30,"A dog barks, then howls"\r\n2,abc-_123,30,Dogs bark\r\n3,abc-_123,50,Rain falls\r\n'
    found = read_audio_list(write(tmp_path / "val.csv", AUDIOCAPS + rows))
    assert (found.kind, found.skipped) == ("audiocaps", [])
    assert [(clip.youtube_id, clip.start_ms, clip.end_ms) for clip in found.clips] == [
        ("abc-_123", 30_000, 40_000),
        ("abc-_123", 50_000, 60_000),
    ]
    assert found.clips[0].captions == ("A dog barks, then howls", "Dogs bark")


@pytest.mark.parametrize(
    "name",
    ["abc-_123_30.wav", "abc-_123_30_40.flac", "abc-_123_30000_40000.ogg", "1.wav", "abc-_123.m4a", "Yabc-_123.wav"],
)
def test_the_files_of_audiocaps_are_found_however_they_were_named(tmp_path, name):
    listed = read_audio_list(write(tmp_path / "val.csv", AUDIOCAPS + "1,abc-_123,30,A dog barks\r\n"))
    (clip,) = locate(listed, touch(tmp_path / "audio", f"part/{name}")).clips
    assert clip.path == str(tmp_path / "audio" / "part" / name)


def test_a_name_that_fits_files_in_several_folders_is_left_out_unless_the_list_says_which(tmp_path):
    audio = touch(tmp_path / "audio", "a/x.wav", "b/x.wav", "b/y.wav", "b/y.mp3", "z.wav", "b/z.wav")
    text = "file_name,caption\nx.wav,Rain\na/x.wav,Wind\ny.wav,Sea\nz.flac,Fire\n"
    found = locate(read_audio_list(write(tmp_path / "mine.csv", text)), audio)
    assert {clip.captions: clip.path for clip in found.clips} == {
        ("Wind",): str(audio / "a/x.wav"),
        ("Sea",): str(audio / "b/y.wav"),
        ("Fire",): str(audio / "z.wav"),
    }
    assert found.skipped == [
        f"x.wav may be {audio / 'a/x.wav'} or {audio / 'b/x.wav'}: write more of its path into the list"
    ]
    alone = write(tmp_path / "one.csv", "file_name,caption\nx.wav,Rain\n")
    with pytest.raises(SourceError, match=r"holds no clip of the list once: x\.wav may be"):
        locate(read_audio_list(alone), audio)


def test_one_file_under_two_names_of_its_folder_is_one_file(tmp_path):
    audio = touch(tmp_path / "audio", "a/x.wav")
    (audio / "linked").symlink_to(audio / "a")
    touch(audio, "b/y.wav", "c/.keep")
    (audio / "c" / "y.wav").symlink_to(audio / "gone.wav")  # leads nowhere, and is no reason to stop
    found = locate(read_audio_list(write(tmp_path / "mine.csv", "file_name,caption\nx.wav,Rain\n")), audio)
    assert [clip.path for clip in found.clips] == [str(audio / "a/x.wav")] and not found.skipped


def test_damaged_rows_are_left_out_and_named_where_that_is_wanted(tmp_path):
    rows = (
        "1,abc-_123,30,A dog\r\n2,abc-_123,soon,A cat\r\n3,abc-_123\r\n4,abc-_123,50,Rain\r\n5,abc-_123,1e999,Sea\r\n"
    )
    found = read_audio_list(write(tmp_path / "val.csv", AUDIOCAPS + rows), skip_damaged=True)
    assert [clip.captions for clip in found.clips] == [("A dog",), ("Rain",)]
    assert [why.partition(": ")[0].rpartition(", ")[2] for why in found.skipped] == ["line 3", "line 4", "line 6"]
    items = '{"data": [{"id": "1", "caption": "x"}, 7, {"id": null}, {"id": "2", "caption": ["y", "z"]}]}'
    found = read_audio_list(write(tmp_path / "w.json", items), skip_damaged=True)
    assert [clip.captions for clip in found.clips] == [("x",), ("y", "z")] and len(found.skipped) == 2


def test_lists_may_be_gzipped_and_tags_come_as_lists_or_as_the_text_of_one(tmp_path):
    items = [
        {"id": "1", "caption": "x", "tags": "['rain', 'tin roof']"},
        {"id": "2", "caption": "x", "tags": ["a"], "category": "['Nature']"},
        {"id": "3", "caption": "x", "tags": "['broken"},
        {"id": "4", "caption": "x", "tags": "[" * 9_000},
    ]
    path = tmp_path / "fsd_final.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"data": items}).encode()))
    found = read_audio_list(path)
    assert [clip.tags for clip in found.clips[:2]] == [("rain", "tin roof"), ("a", "Nature")]
    with pytest.raises(SourceError, match="damaged"):
        path.write_bytes(path.read_bytes()[:-20])
        read_audio_list(path)


def test_clotho_has_several_captions_and_odd_file_names(tmp_path):
    text = 'file_name,caption_1,caption_2\n"Bells, far (1).wav",Bells ring ,A bell\nüber.wav,Wind,\n'
    found = read_audio_list(write(tmp_path / "c.csv", text))
    assert found.kind == "clotho"
    assert [(clip.name, clip.captions) for clip in found.clips] == [
        ("Bells, far (1).wav", ("Bells ring", "A bell")),
        ("über.wav", ("Wind",)),
    ]
    folder = touch(tmp_path / "audio", "Bells, far (1).flac", "über.wav")  # one was converted
    assert [Path(clip.path).name for clip in locate(found, folder).clips] == ["Bells, far (1).flac", "über.wav"]


def test_wavcaps_names_files_by_id_and_audioset_by_youtube_id(tmp_path):
    text = """{"num_captions_per_audio": 1, "data": [
        {"id": "2219", "title": "Landing", "caption": "An airplane lands.", "duration": 14.1, "audio": "wav_path"},
        {"id": "YvfY_TJq7n_U.wav", "caption": "Ducks quack.", "duration": 10.0},
        {"id": 7, "caption": ""}]}"""
    found = read_audio_list(write(tmp_path / "sb_final.json", text))
    assert found.kind == "wavcaps"
    assert [(clip.name, clip.title, clip.youtube_id) for clip in found.clips] == [
        ("2219", "Landing", ""),
        ("YvfY_TJq7n_U.wav", "", "vfY_TJq7n_U"),
    ]
    assert found.skipped == [f"{tmp_path / 'sb_final.json'}, item 2: no caption"]
    folder = touch(tmp_path / "flac", "2219.flac", "YvfY_TJq7n_U.flac")
    assert [Path(clip.path).name for clip in locate(found, folder).clips] == ["2219.flac", "YvfY_TJq7n_U.flac"]


def test_a_folder_with_a_csv_may_have_titles_folders_and_several_captions(tmp_path):
    text = "\ufefffile_name,caption,title\nsub/a.wav,Rain,My roof\nsub/a.wav,It rains,\nb.ogg,Wind,\ngone.wav,Bell,\n"
    found = locate(read_audio_list(write(tmp_path / "mine.csv", text)), touch(tmp_path, "sub/a.wav", "b.ogg"))
    assert found.kind == "folder"
    assert [(clip.captions, clip.title) for clip in found.clips] == [(("Rain", "It rains"), "My roof"), (("Wind",), "")]
    assert found.skipped == ["gone.wav: no file of that name"]


def test_a_file_beside_its_list_wins_in_the_order_of_formats(tmp_path):
    listed = read_audio_list(write(tmp_path / "mine.csv", "file_name,caption\na,Rain\n"))
    (clip,) = locate(listed, touch(tmp_path, "a.mp3", "a.flac", "a.txt")).clips
    assert clip.path.endswith("a.flac")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "id,text\n1,Rain\n", "columns id, text found"),
        ("a.csv", "", "columns none found"),
        ("a.csv", "file_name,caption\na.wav,Rain, and wind\n", "line 2: 3 fields found, 2 expected.*double quotes"),
        ("a.csv", "file_name,caption\n,Rain\n", "line 2: file_name is empty"),
        ("a.csv", AUDIOCAPS + "1,abc,soon,Rain\n", "line 2: youtube_id 'abc', start_time 'soon'"),
        ("a.json", "{", "is damaged"),
        ("a.json", '{"data": 3}', "no WavCaps list"),
        ("a.json", '{"data": [{"caption": "x"}]}', 'item 0: an object with an "id"'),
    ],
)
def test_a_list_that_cannot_be_used_is_named_with_line_and_field(tmp_path, name, text, message):
    with pytest.raises(SourceError, match=message) as error:
        read_audio_list(write(tmp_path / name, text))
    assert str(tmp_path / name) in str(error.value)


def test_lists_that_are_missing_or_in_another_encoding_are_named(tmp_path):
    with pytest.raises(SourceError, match=r"gone\.csv does not exist"):
        read_audio_list(tmp_path / "gone.csv")
    (tmp_path / "a.csv").write_bytes("file_name,caption\nü.wav,Rain\n".encode("latin-1"))
    with pytest.raises(SourceError, match="is not UTF-8"):
        read_audio_list(tmp_path / "a.csv")


def test_a_folder_without_any_of_the_files_is_refused(tmp_path):
    listed = read_audio_list(write(tmp_path / "mine.csv", "file_name,caption\na.wav,Rain\n"))
    with pytest.raises(SourceError, match=r"holds the audio of no clip of the list\. Looked for a\.wav"):
        locate(listed, tmp_path)
    with pytest.raises(SourceError, match="is no folder"):
        locate(listed, tmp_path / "gone")


@pytest.mark.parametrize(("rows", "why"), [("", "it is empty"), ("a.wav,\n", "line 2: no caption")])
def test_a_list_without_captions_is_not_said_to_lack_files(tmp_path, rows, why):
    (tmp_path / "a.wav").touch()
    listed = read_audio_list(write(tmp_path / "mine.csv", f"file_name,caption\n{rows}"))
    with pytest.raises(SourceError, match=f"has no clip with a caption: .*{why}"):
        locate(listed, tmp_path)


@pytest.mark.parametrize(
    ("name", "kind", "clips"),
    [
        ("audiocaps_val.csv", "audiocaps", 474),
        ("clotho_captions_validation.csv", "clotho", 60),
        ("wavcaps_sb_final.json", "wavcaps", 120),
    ],
)
def test_published_lists_are_read_whole(shared, name, kind, clips):
    found = read_audio_list(shared / "data" / "lists" / name)
    assert (found.kind, len(found.clips), found.skipped) == (kind, clips, [])
    assert all(clip.captions for clip in found.clips)


PIECES = st.one_of(
    st.sampled_from(
        [AUDIOCAPS, "1,abc-_123,30,A dog\r\n", "file_name,caption_1\n", "a.wav,x\n", '"', ",", "\n", "\x00"]
    ),
    st.sampled_from(
        ['{"data": [', '{"id": "1", "caption": "x"}', "]}", '{"id": 7, "caption": [1, "y"], "tags": 3}', ","]
    ),
    st.text(max_size=4),
    st.binary(max_size=4),
)


@examples(150)
@given(st.lists(PIECES, max_size=12), st.sampled_from(["list.csv", "list.json"]))
def test_whatever_a_list_of_audio_holds_it_is_read_or_refused_in_words(tmp_path_factory, pieces, name):
    path = tmp_path_factory.mktemp("lists") / name
    path.write_bytes(b"".join(p if isinstance(p, bytes) else p.encode("utf-8", "surrogatepass") for p in pieces))
    try:
        found = read_audio_list(path, skip_damaged=True)
    except SourceError:
        return
    assert all(clip.captions and clip.name for clip in found.clips)
