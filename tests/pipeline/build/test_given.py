"""Clips that a source brings: captioned anew or only fetched, and never dropped by a default.

It goes the whole way from pipeline/plan/sources.py through pipeline/build/local_flow.py and stages/media.py.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from autorecap.dataset.log import Log, read_state
from autorecap.dataset.store import open_store
from autorecap.dataset.view import DatasetView
from autorecap.demo.sounds import synthesise
from autorecap.demo.synthesis import SAMPLE_RATE_HZ
from autorecap.pipeline.build.config import load_config
from autorecap.pipeline.build.local_flow import LocalFlow
from autorecap.pipeline.plan.plan import plan_from, read_rows
from autorecap.pipeline.plan.sources import of_arguments
from autorecap.stages.captions import Captions, CaptionsConfig
from autorecap.stages.keywords import Keywords, KeywordsConfig
from autorecap.stages.media import Media, MediaConfig
from autorecap.stages.media_files.ffmpeg import decode
from autorecap.stages.merge import Merge
from autorecap.stages.reasons import Reason, Status
from autorecap.stages.records import TO_THE_END, Clip, Verdict, Video, from_table, to_table
from autorecap.stages.scores import ScoresConfig
from autorecap.stages.segments import Segments, SegmentsConfig
from autorecap.stages.transcript_files.config import TranscriptsConfig
from autorecap.stages.transcripts import Transcripts
from tests.fakes.youtube import FakeVideo, running
from tests.fakes.youtube.media import synthesise as synthesise_media
from tests.support.datasets import append_plan

CONFIG = load_config(None, ["writer.videos_per_shard=8"])


def sound(path: Path, *parts: tuple[str, float]) -> None:
    """A file of sounds one after the other; '' is silence."""
    rng = np.random.default_rng(3)
    samples = [synthesise(kind, s, rng) if kind else np.zeros(round(s * SAMPLE_RATE_HZ), "f4") for kind, s in parts]
    soundfile.write(path, np.concatenate(samples), SAMPLE_RATE_HZ)


def build(out: str, config=CONFIG) -> DatasetView:
    """What the driver does with a plan, without Ray."""
    store = open_store(out)
    log = Log(store, read_state(store))
    for proposal in LocalFlow(config, store).run(list(read_rows(store, log.state, log.state.unfinished(0)))):
        log.commit(add=proposal.add, done=proposal.done, retry=proposal.retry)
    return DatasetView(out)


@pytest.fixture(scope="module")
def audio_set(tmp_path_factory) -> Path:
    """A set in the form of WavCaps: rain, music, a long file that begins in silence, a silent one, a short one."""
    folder = tmp_path_factory.mktemp("set")
    (folder / "flac").mkdir()
    sound(folder / "flac" / "1.flac", ("rain", 4.0))
    sound(folder / "flac" / "2.flac", ("music", 5.0))
    sound(folder / "flac" / "3.flac", ("", 12.0), ("dog", 13.0))
    sound(folder / "flac" / "4.flac", ("", 3.0))
    sound(folder / "flac" / "5.flac", ("dog", 0.6))
    items = [
        {"id": str(n), "caption": f"Original {n}.", "tags": "['one', 'two']", "duration": 1.0} for n in range(1, 6)
    ]
    (folder / "sb_final.json").write_text(json.dumps({"num_captions_per_audio": 1, "data": items}))
    return folder


def test_an_audio_set_is_captioned_again_whole_with_its_own_captions_and_tags_beside(audio_set, tmp_path):
    out = str(tmp_path / "out")
    plan_from(of_arguments([f"{audio_set / 'sb_final.json'}@{audio_set / 'flac'}"]), out)
    view = build(out)
    clips = {row["original_caption"]: row for row in view.rows("select * from clips order by row")}
    assert list(clips) == ["Original 1.", "Original 2.", "Original 3.", "Original 5."]
    assert {name: (row["start_ms"], row["end_ms"]) for name, row in clips.items()} == {
        "Original 1.": (0, 4_000),
        "Original 2.": (0, 5_000),  # of music, and the filter is off
        "Original 3.": (0, 25_000),
        "Original 5.": (0, 600),  # shorter than any clip that is cut from a gap
    }
    said = {name: row["caption"].lower() for name, row in clips.items()}
    assert "rain" in said["Original 1."]
    assert any(word in said["Original 2."] for word in ("music", "melody"))
    assert "dog" in said["Original 3."]  # heard where the file is loudest
    assert all(row["tags"] == ["one", "two"] and row["clap_score"] is not None for row in clips.values())
    meta = view.clip(clips["Original 1."]["key"]).meta
    assert (meta["original_caption"], meta["tags"]) == ("Original 1.", ["one", "two"])
    (silent,) = view.rows("select * from videos where status <> 'ok'")
    assert (silent["original_name"], silent["reason"], silent["num_silent"]) == ("4", "all_clips_filtered", 1)
    for row in view.rows("select * from videos"):
        parts = ("num_left_out", "num_silent", "num_joined", "num_keyword", "num_low_score", "num_kept")
        assert row["num_clips"] == sum(row[name] for name in parts) == 1


def test_released_clips_are_cut_and_written_and_nothing_else_is_done_to_them(tmp_path):
    sound(tmp_path / "v.flac", ("rain", 10.0), ("", 10.0), ("music", 10.0))
    clips = (
        Clip(start_ms=0, end_ms=10_000, caption="A man speaks", clap_score=0.03),  # a keyword, a low score
        Clip(start_ms=5_000, end_ms=8_000, caption="Overlaps", clap_score=None),
        Clip(start_ms=12_000, end_ms=18_000, caption="Silence"),
        Clip(start_ms=20_000, end_ms=25_000, caption="Music plays"),
        Clip(start_ms=25_000, end_ms=29_500, caption="Music plays"),  # touches, and says the same
        Clip(start_ms=29_500, end_ms=30_900, caption="The end"),  # half a second is left of it
        Clip(start_ms=29_500, end_ms=31_000, caption="The end, too"),
        Clip(start_ms=40_000, end_ms=50_000, caption="Not there"),
    )
    out = str(tmp_path / "out")
    log = Log.begin(open_store(out), kind="clips", fingerprint="", settings={})
    video = Video(row=-1, video_id="v", media=str(tmp_path / "v.flac"), given=True, clips=clips)
    append_plan(log, [video])
    view = build(out)
    found = view.rows("select start_ms, end_ms, caption, clap_score from clips order by start_ms, end_ms")
    assert [tuple(row.values()) for row in found] == [
        (0, 10_000, "A man speaks", 0.03),
        (5_000, 8_000, "Overlaps", None),
        (12_000, 18_000, "Silence", None),
        (20_000, 25_000, "Music plays", None),
        (25_000, 29_500, "Music plays", None),
        (29_500, 30_000, "The end", None),
    ]
    (row,) = view.rows("select status, num_clips, num_kept, num_left_out, num_joined, dropped from videos")
    assert (row["status"], row["num_clips"], row["num_kept"], row["num_left_out"], row["num_joined"]) == (
        "ok",
        8,
        6,
        1,
        1,
    )
    assert [clip["caption"] for clip in row["dropped"]] == ["Not there"]
    samples = soundfile.read(tmp_path / "v.flac", dtype="int16")[0]
    key = view.rows("select key from clips where start_ms = 5000")[0]["key"]
    (tmp_path / "clip.flac").write_bytes(view.clip(key).flac)
    cut = soundfile.read(tmp_path / "clip.flac", dtype="int16")[0]
    assert np.array_equal(cut, samples[5 * SAMPLE_RATE_HZ : 8 * SAMPLE_RATE_HZ])


def test_released_clips_and_clip_times_are_fetched_from_youtube_and_no_transcript_is(tmp_path):
    """By the real client libraries, from the fake."""
    first, second, gone = "-aaaaaaaaa_", "bbbbbbbbbbb", "ccccccccccc"
    media = {"251": synthesise_media(tmp_path / "media", "251", 60)}
    released = tmp_path / "released.json"
    intervals = [{"start": 12.5, "end": 15, "text": "A man speaks", "CLAP_SIM": 0.02}]
    lines = [json.dumps({name: {"intervals": intervals}}) for name in (first, gone)]
    released.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    vggsound = tmp_path / "vggsound.csv"
    vggsound.write_text(f"{second},40,waterfall burbling,train\n")
    out = str(tmp_path / "out")
    plan_from(of_arguments([str(vggsound)], times=True, released=[str(released)]), out)
    videos = {name: FakeVideo(title=f"Noise {name}", duration_ms=60_000, media=media) for name in (first, second)}
    with running(videos | {gone: FakeVideo(mishap="private")}) as fake:
        settings = ["writer.videos_per_shard=8", f"youtube.base_url={fake.url}", "youtube.budget.requests_per_s=1000"]
        view = build(out, load_config(None, settings))
        assert not fake.asked("timedtext") and not fake.asked("watch")
    clips = {row["video_id"]: row for row in view.rows("select * from clips")}
    given, heard = clips[first], clips[second]
    assert (given["start_ms"], given["end_ms"], given["caption"]) == (12_500, 15_000, "A man speaks")
    assert (given["clap_score"], given["source"], given["title"]) == (0.02, "autorecap", f"Noise {first}")
    assert (heard["start_ms"], heard["end_ms"], heard["tags"]) == (40_000, 50_000, ["waterfall burbling"])
    assert heard["caption"] and heard["title"] == f"Noise {second}"
    (tmp_path / "clip.flac").write_bytes(view.clip(given["key"]).flac)
    whole = np.frombuffer(decode(str(media["251"]), 12_500, 15_000, 32_000, 60)[0], "<i2")
    assert np.array_equal(soundfile.read(tmp_path / "clip.flac", dtype="int16")[0], whole)
    (lost,) = view.rows("select video_id, reason from videos where status <> 'ok'")
    assert lost == {"video_id": gone, "reason": "private"}


GIVEN = Video(row=0, video_id="v", media="v.flac", given=True, duration_ms=30_000)


def test_a_given_video_needs_no_transcript_and_no_gap():
    video = replace(GIVEN, clips=(Clip(start_ms=1, end_ms=2_000), Clip(start_ms=5_000, end_ms=6_000)))
    assert Transcripts(TranscriptsConfig())([video]) == [video]
    assert Segments(SegmentsConfig())([video]) == [replace(video, num_clips=2)]


def test_a_clip_of_a_whole_file_ends_with_it_and_a_file_no_longer_than_its_clip_is_the_clip():
    whole = replace(GIVEN, clips=(Clip(start_ms=0, end_ms=TO_THE_END),))
    cut = replace(GIVEN, duration_ms=10_040, clips=(Clip(start_ms=130_000, end_ms=140_000),))
    longer = replace(GIVEN, duration_ms=200_000, clips=cut.clips)
    online = replace(cut, media="https://www.youtube.com/watch?v=dQw4w9WgXcQ")
    unknown = replace(whole, duration_ms=None)
    done = Segments(SegmentsConfig())([whole, cut, longer, online, unknown])
    spans = [[(clip.start_ms, clip.end_ms) for clip in video.clips] for video in done[:4]]
    assert spans == [[(0, 30_000)], [(0, 10_040)], [(130_000, 140_000)], [(130_000, 140_000)]]
    assert (done[4].status, done[4].reason) == (Status.FAILED, Reason.UNDECODABLE.code)


def test_given_clips_are_not_merged_and_filtered_only_when_asked():
    clips = tuple(Clip(start_ms=s, end_ms=s + 10, caption="A man speaks", sample_rate_hz=1) for s in (0, 10))
    video = replace(GIVEN, clips=clips)
    assert Merge()([video]) == [video]
    (kept,) = Keywords(KeywordsConfig())([video])
    assert [clip.verdict for clip in kept.clips] == [Verdict.KEPT] * 2
    (dropped,) = Keywords(KeywordsConfig(given=True))([video])
    assert [clip.verdict for clip in dropped.clips] == [Verdict.KEYWORD] * 2
    (still_off,) = Keywords(KeywordsConfig(given=True, enabled=False))([video])
    assert [clip.verdict for clip in still_off.clips] == [Verdict.KEPT] * 2
    (searched,) = Keywords(KeywordsConfig())([replace(video, given=False)])
    assert searched.reason == "all_clips_filtered"


def test_a_minimum_of_scores_holds_for_given_scores_too():
    from autorecap.stages.captions import CaptionsConfig as Config
    from autorecap.stages.scores import Scores, text_model

    model = text_model(ScoresConfig(), Config())
    assert model is not None
    clips = [
        Clip(start_ms=s, end_ms=s + 10, verdict=Verdict.KEPT, clap_score=c)
        for s, c in ((0, 0.3), (10, 0.5), (20, None))
    ]
    video = replace(GIVEN, clips=tuple(clips))
    assert Scores(ScoresConfig(), model, "cpu")([video]) == [video]
    (judged,) = Scores(ScoresConfig(min_score=0.4), model, "cpu")([video])
    assert [clip.verdict for clip in judged.clips] == [Verdict.LOW_SCORE, Verdict.KEPT, Verdict.KEPT]


def test_a_clip_with_a_caption_is_neither_captioned_again_nor_dropped_for_silence():
    pcm = np.zeros(32_000, "<i2").tobytes()
    heard = Clip(start_ms=0, end_ms=1_000, audio=pcm, sample_rate_hz=32_000, rms_dbfs=-120.0, caption="Still air")
    unheard = replace(heard, start_ms=1_000, end_ms=2_000, caption="")
    (video,) = Captions(CaptionsConfig())([replace(GIVEN, clips=(heard, unheard))])
    assert video.clips[0] == heard and video.clips[1].verdict is Verdict.SILENT


def test_clips_in_any_overlap_are_read_and_cut_where_they_are(tmp_path):
    ramp = np.arange(8 * 32_000, dtype=np.int64) % 30_000
    soundfile.write(tmp_path / "r.wav", ramp.astype("<i2"), 32_000, subtype="PCM_16")
    spans = [(0, 6_000), (500, 1_000), (500, 7_000), (6_500, 8_000)]
    video = replace(GIVEN, media=str(tmp_path / "r.wav"), clips=tuple(Clip(start_ms=a, end_ms=b) for a, b in spans))
    (done,) = Media(MediaConfig(join_reads_ms=0))([video])
    for clip, (start, end) in zip(done.clips, spans, strict=True):
        assert np.array_equal(np.frombuffer(clip.audio or b"", "<i2"), ramp[start * 32 : end * 32])


def test_what_a_source_brings_crosses_the_ray_boundary():
    clip = Clip(start_ms=0, end_ms=TO_THE_END, original_caption="a\nb", tags=("x", "y"), caption="c")
    assert from_table(to_table([replace(GIVEN, clips=(clip,))])) == [replace(GIVEN, clips=(clip,))]
