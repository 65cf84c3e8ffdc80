"""A folder as yt-dlp leaves it."""

import os
import re
from pathlib import Path

import pytest

from autorecap.base.files import local_file
from autorecap.stages.probe import Probe, ProbeConfig
from autorecap.stages.sources import SourceError, read_folder
from autorecap.stages.transcript_files.config import TranscriptsConfig
from autorecap.stages.transcripts import Transcripts

NAMES_OF_ONE_ID = ("a?!!!!!!??????!!", "a??!!??!!!??!!!?!")  # their sha256 begin with the same 8 digits


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


def names_of(video):
    return [Path(path).name for path in (video.media, video.info, *video.sidecars)]


def test_a_video_is_found_with_all_that_lies_beside_it(tmp_path):
    touch(tmp_path, "abc.webm", "abc.info.json", "abc.en.json3", "abc.de.vtt", "abc.json", "abc.jpg", "abc.description")
    (video,) = read_folder(str(tmp_path)).videos
    assert names_of(video) == ["abc.webm", "abc.info.json", "abc.de.vtt", "abc.en.json3", "abc.json"]
    assert (video.video_id, video.original_name, video.source) == ("abc", "abc", tmp_path.name)


def test_names_with_dots_and_blanks_keep_their_own_sidecars(tmp_path):
    touch(tmp_path, "my.video 0.mp4", "my.video 0.en.vtt", "my.mp4", "my.en.vtt", "-dash.m4a", "-dash.en.srt")
    dash, plain, dotted = read_folder(str(tmp_path)).videos
    assert names_of(dotted) == ["my.video 0.mp4", "", "my.video 0.en.vtt"]
    assert names_of(plain) == ["my.mp4", "", "my.en.vtt"]
    assert names_of(dash) == ["-dash.m4a", "", "-dash.en.srt"]
    assert dash.video_id == "-dash" and dotted.video_id.startswith("my-video-0-")


def test_audio_alone_is_preferred_and_the_other_file_is_named(tmp_path):
    touch(tmp_path, "a.mp4", "a.m4a", "a.webm")
    folder = read_folder(str(tmp_path))
    assert [names_of(video)[0] for video in folder.videos] == ["a.m4a"]
    assert sorted(folder.second_media) == ["a.mp4", "a.webm"]


def test_what_is_no_video_is_told_apart(tmp_path):
    touch(tmp_path, "a.webm.part", "b.webm.ytdl", "lost.en.vtt", "._fork.mp4", "notes.txt")
    (tmp_path / "folder.mp4").mkdir()
    folder = read_folder(str(tmp_path))
    assert folder.videos == []
    assert folder.unfinished == ["a.webm.part", "b.webm.ytdl"]
    assert folder.without_media == ["lost.en.vtt"]


def test_a_name_that_is_not_utf8_can_still_be_read(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.ogg")).write_bytes(b"sound")
    (video,) = read_folder(str(tmp_path)).videos
    video.media.encode()
    with local_file(video.media) as local:
        assert local.read_bytes() == b"sound"


def test_the_transcript_of_a_name_that_is_not_utf8_is_read_too(tmp_path):
    stem = os.fsencode(tmp_path) + b"/caf\xe9"
    Path(os.fsdecode(stem + b".ogg")).write_bytes(b"sound")
    Path(os.fsdecode(stem + b".info.json")).write_bytes(b'{"title": "Drinks"}')
    Path(os.fsdecode(stem + b".en.vtt")).write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nhi\n")
    (video,) = Transcripts(TranscriptsConfig())(read_folder(str(tmp_path)).videos)
    assert ([cue.text for cue in video.cues], video.title, video.transcript_language) == (["hi"], "Drinks", "en")


def test_the_ids_of_odd_names_do_not_depend_on_where_the_folder_lies(tmp_path):
    ids = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        touch(tmp_path / place, "my.video 0.mp4", os.fsdecode(b"caf\xe9.ogg"))
        ids.append([video.video_id for video in read_folder(str(tmp_path / place)).videos])
    assert ids[0] == ids[1]


def test_two_names_of_one_id_both_get_a_longer_one_whatever_else_lies_there(tmp_path):
    one, other = NAMES_OF_ONE_ID
    touch(tmp_path, f"{one}.ogg", f"{other}.ogg", "b c.ogg")
    ids = {video.original_name: video.video_id for video in read_folder(str(tmp_path)).videos}
    assert len(set(ids.values())) == 3
    assert all(re.fullmatch(r"[a-z]-[0-9a-f]{15}", ids[name]) for name in NAMES_OF_ONE_ID)
    assert re.fullmatch(r"b-c-[0-9a-f]{8}", ids["b c"])


def test_of_two_files_of_one_kind_always_the_same_is_taken(tmp_path):
    touch(tmp_path, "a.ogg", "a.OGG", "a.Ogg")
    folder = read_folder(str(tmp_path))
    assert names_of(folder.videos[0])[0] == "a.OGG"
    assert sorted(folder.second_media) == ["a.Ogg", "a.ogg"]


def test_links_that_lead_nowhere_are_listed_and_end_as_missing(tmp_path):
    touch(tmp_path, "good.ogg", "real.txt")
    (tmp_path / "loop.webm").symlink_to("loop.webm")
    (tmp_path / "broken.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "linked.m4a").symlink_to("real.txt")
    os.mkfifo(tmp_path / "pipe.mp3")
    videos = read_folder(str(tmp_path)).videos
    assert [video.video_id for video in videos] == ["broken", "good", "linked", "loop"]
    reasons = [video.reason for video in Probe(ProbeConfig())(videos)]
    assert reasons == ["media_missing", "undecodable", "undecodable", "media_missing"]


def test_what_yt_dlp_has_still_to_join_is_unfinished(tmp_path):
    pieces = ["ID.f137.mp4", "ID.f251-drc.webm", "ID.temp.MP4"]
    touch(tmp_path, *pieces, "ID.en.vtt", "ID2.fine.mp4", "f1.mp4", "temp.mp4")
    folder = read_folder(str(tmp_path))
    assert [video.original_name for video in folder.videos] == ["ID2.fine", "f1", "temp"]
    assert folder.unfinished == pieces and folder.without_media == ["ID.en.vtt"]


def test_a_folder_behind_a_url_is_read_through_it(s3_bucket, tmp_path):
    import s3fs

    for name in ("a.ogg", "a.en.vtt"):
        s3fs.S3FileSystem(skip_instance_cache=True).pipe(f"{s3_bucket}/in/{name}", name.encode())
    (video,) = read_folder(f"{s3_bucket}/in").videos
    assert names_of(video) == ["a.ogg", "", "a.en.vtt"]
    with local_file(video.media) as local:
        assert local.read_bytes() == b"a.ogg"


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_what_is_no_folder_is_named(tmp_path, name):
    touch(tmp_path, "file")
    with pytest.raises(SourceError, match=name):
        read_folder(str(tmp_path / name))
