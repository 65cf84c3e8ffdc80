"""Transcripts of YouTube, by both client libraries as they are, from a fake YouTube on loopback.

Also proves stages/youtube/subtitles.py, its two routes, and stages/youtube/watch_page.py.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from autorecap.base.text import redacted
from autorecap.stages.reasons import Reason, Status
from autorecap.stages.records import Video
from autorecap.stages.transcript_files.config import TranscriptsConfig
from autorecap.stages.transcripts import Transcripts
from autorecap.stages.youtube.budget import BudgetConfig, LocalBudget
from autorecap.stages.youtube.client import Youtube
from autorecap.stages.youtube.config import API, YTDLP, YoutubeConfig
from autorecap.stages.youtube.ids import watch_url
from tests.fakes.clock import FakeClock
from tests.fakes.youtube import MISHAPS, FakeVideo, FakeYouTube, running

FAST = BudgetConfig(requests_per_s=10_000, burst=1_000)
ID = "-aaaaaaaaa_"  # ids may look like options
RULES = TranscriptsConfig()


def stage_of(fake: FakeYouTube, *, rules: TranscriptsConfig = RULES, in_flight: int = 8, **settings: Any) -> Any:
    """The stage, which asks the fake, and does not wait between tries."""
    settings = {"base_url": fake.url, "budget": FAST, **settings}
    config = YoutubeConfig(**settings)
    budget = config.local_budget()
    stage: Any = Transcripts(rules, Youtube(config, rules, 32_000, budget, in_flight=in_flight, sleep=lambda s: None))
    stage.budget = budget
    return stage


def video_of(video_id: str) -> Video:
    return Video(row=0, video_id=video_id, media=watch_url(video_id))


def transcribe(fake: FakeYouTube, video_id: str = ID, **settings) -> Video:
    return stage_of(fake, **settings)([video_of(video_id)])[0]


def test_the_first_transcript_takes_three_requests_and_brings_what_the_player_says_along():
    with running({ID: FakeVideo(title="Rain", description="One take.", duration_ms=20_250)}) as fake:
        video = transcribe(fake)
        assert [seen.kind for seen in fake.requests] == ["watch", "player", "timedtext"]
    assert (video.status, video.title, video.description) == (Status.OK, "Rain", "One take.")
    assert (video.transcript_kind, video.transcript_language) == ("auto", "en")
    assert video.duration_ms == 20_250, "of the formats: the player itself says whole seconds"
    assert [cue.text for cue in video.cues] == ["hello and welcome", "to the rain", "that was it"]
    assert video.cues[0].word_starts_ms == (0, 250, 500), "times of words, which the library's own reader loses"


def test_one_watch_page_serves_all_videos_unless_each_shall_have_its_own():
    ids = [f"{number:011d}" for number in range(5)]
    own: dict[str, Any] = {"watch_page_s": 0.0}
    for settings, num_pages in (({}, 1), (own, 5)):
        with running({each: FakeVideo() for each in ids}) as fake:
            videos = stage_of(fake, in_flight=1, **settings)([video_of(each) for each in ids])
            assert {video.status for video in videos} == {Status.OK}
            assert len(fake.asked("watch")) == num_pages and len(fake.asked("player")) == 5


def test_a_page_is_asked_for_again_when_the_player_refuses_its_key():
    with running({ID: FakeVideo(), ID[::-1]: FakeVideo()}) as fake:
        stage = stage_of(fake, routes=(API,))
        stage([video_of(ID)])
        fake.key = "another"
        assert stage([video_of(ID[::-1])])[0].status is Status.OK
        assert [seen.kind for seen in fake.requests][3:] == ["player", "watch", "player", "timedtext"]


def test_the_other_route_takes_two_requests_and_finds_the_same_cues():
    with running({ID: FakeVideo()}) as fake:
        by_api, by_ytdlp = transcribe(fake), transcribe(fake, routes=(YTDLP,))
        assert [seen.kind for seen in fake.requests[3:]] == ["player", "timedtext"]
    assert by_ytdlp.cues == by_api.cues and by_ytdlp.title == by_api.title


@pytest.mark.parametrize("route", [API, YTDLP])
def test_manual_captions_come_before_automatic_ones_and_english_before_others(route):
    cues = [(0, 1_000, "by hand")]
    with running({ID: FakeVideo(manual={"de": [(0, 1_000, "von Hand")], "en-GB": cues})}) as fake:
        video = transcribe(fake, routes=(route,))
    assert (video.transcript_kind, video.transcript_language) == ("manual", "en-GB")
    assert [cue.text for cue in video.cues] == ["by hand"]


@pytest.mark.parametrize("route", [API, YTDLP])
def test_another_language_counts_where_it_is_wanted(route):
    with running({ID: FakeVideo(auto={"de": [(0, 1_000, "Regen auf dem Dach")]})}) as fake:
        assert transcribe(fake, routes=(route,)).reason == "no_transcript_in_language"
        video = transcribe(fake, routes=(route,), rules=TranscriptsConfig(languages=("en", "de")))
    assert (video.status, video.transcript_language) == (Status.OK, "de")


ENDS = {
    "private": Reason.PRIVATE,
    "deleted": Reason.DELETED,
    "terminated": Reason.DELETED,
    "age": Reason.AGE_RESTRICTED,
    "geo": Reason.GEO_BLOCKED,
    "members": Reason.MEMBERS_ONLY,
    "live": Reason.LIVE,
    "upcoming": Reason.UPCOMING,
    "no_captions": Reason.NO_TRANSCRIPT,
    "no_english": Reason.NO_TRANSCRIPT_IN_LANGUAGE,
    "po_token": Reason.PO_TOKEN_REQUIRED,
    "429": Reason.RATE_LIMITED,
    "429_retry_after": Reason.RATE_LIMITED,
    "captcha": Reason.IP_BLOCKED,
    "bot": Reason.BOT_CHECK,
    "consent": None,
    "empty": Reason.BAD_ANSWER,
    "truncated": Reason.BAD_ANSWER,
    "html": Reason.BAD_ANSWER,
    "drip": Reason.TIMEOUT,
    "reset": Reason.NETWORK,
    "wrong_length": Reason.NETWORK,
    "error_500": Reason.NETWORK,
    "no_audio": None,
    "expired": None,
    "media_reset": None,
    "media_short": None,
    "media_whole": None,
    "media_elsewhere": None,
}


def test_every_mishap_of_the_fake_is_covered_here():
    assert set(ENDS) == set(MISHAPS)


@pytest.mark.parametrize("route", [API, YTDLP])
@pytest.mark.parametrize("mishap", ENDS)
def test_each_mishap_ends_with_its_reason_and_is_never_a_video_without_speech(route, mishap):
    expected = ENDS[mishap]
    with running({ID: FakeVideo(mishap=mishap)}) as fake:
        video = transcribe(fake, routes=(route,), request_timeout_s=0.5 if mishap == "drip" else 30.0)
    assert video.reason == (expected.code if expected else ""), video.detail
    assert video.status is (expected.status if expected else Status.OK)


PASSING = ["429", "429_retry_after", "reset", "empty", "truncated", "html", "wrong_length", "error_500"]


@pytest.mark.parametrize("mishap", PASSING)
def test_what_fails_once_is_tried_again_within_the_run(mishap):
    with running({ID: FakeVideo(mishap=mishap, times=1)}) as fake:
        assert transcribe(fake, routes=(API,)).status is Status.OK


def test_a_track_that_one_client_gets_empty_is_asked_for_by_the_other():
    with running({ID: FakeVideo(mishap="empty", times=1)}) as fake:
        assert transcribe(fake).status is Status.OK
        assert [seen.kind for seen in fake.requests] == ["watch", "player", "timedtext", "player", "timedtext"]


def test_what_is_said_of_a_video_is_kept_although_it_has_no_captions():
    with running({ID: FakeVideo(title="Silence", mishap="no_captions")}) as fake:
        video = transcribe(fake, routes=(YTDLP,))
    assert (video.reason, video.title) == ("no_transcript", "Silence")


def test_videos_are_asked_for_at_the_same_time_and_come_back_in_their_order():
    ids = [f"{number:011d}" for number in range(40)]
    with running({each: FakeVideo(title=each) for each in ids}, latency_s=0.2) as fake:
        videos = stage_of(fake, in_flight=40)([video_of(each) for each in ids])
        most = Counter(seen.kind for seen in fake.requests)
    assert [video.title for video in videos] == ids and most["player"] == 40
    assert fake.most_at_work > 4


# --- egresses


def refusing(door: int):
    """Whoever comes by this door gets a captcha."""
    return lambda seen: "captcha" if seen.door == door else ""


def test_a_refusal_parks_the_egress_and_the_other_one_gets_the_video():
    with running({ID: FakeVideo()}, num_doors=3) as fake:
        stage = stage_of(fake, egresses=(fake.door(1), fake.door(2)))
        first = stage.budget.open()[0]
        fake.refusal = refusing(int(first.rpartition(":")[2]))
        assert stage([video_of(ID)])[0].status is Status.OK
        assert {seen.door for seen in fake.requests} == set(fake.doors[1:]), "nothing goes out but by a proxy"
        assert first not in stage.budget.open()
        asked = len(fake.requests)
        stage([video_of(ID)])
        assert first not in {f"http://127.0.0.1:{seen.door}" for seen in fake.requests[asked:]}, "it is left alone"


@pytest.mark.parametrize("refusal", ["bot", "captcha", "429"])
def test_when_every_egress_is_parked_the_rest_comes_back_at_once_and_says_until_when(refusal):
    ids = [f"{number:011d}" for number in range(30)]
    with running({each: FakeVideo() for each in ids}, num_doors=3) as fake:
        fake.refusal = lambda seen: refusal
        stage = stage_of(fake, egresses=(fake.door(1), fake.door(2)), in_flight=1)
        videos = stage([video_of(each) for each in ids])
        asked = len(fake.requests)
    assert asked <= 2 * 2 * 2, "two egresses, two tries each, two requests at most"
    reasons = {Reason.of(video.reason) for video in videos}
    assert len(reasons) == 1 and reasons.pop().parks
    until = stage.budget.parked_until()
    assert until is not None and {video.not_before for video in videos} == {until}


@pytest.mark.parametrize("refusal", ["bot", "captcha"])
def test_an_egress_that_is_refused_again_when_it_opens_is_parked_for_twice_as_long(refusal):
    """Though the pages that refuse it come with HTTP 200."""
    clock = FakeClock()
    with running({ID: FakeVideo()}) as fake:
        config = YoutubeConfig(base_url=fake.url)
        budget = LocalBudget(config.budget, ["direct"], clock)
        stage = Transcripts(RULES, Youtube(config, RULES, 32_000, budget, in_flight=1, clock=clock, sleep=clock.sleep))

        def parked_s() -> float:
            fake.refusal = lambda seen: refusal
            before = clock.now
            (video,) = stage([video_of(ID)])
            assert video.not_before is not None
            clock.now = video.not_before
            return clock.now - before

        assert [parked_s() for _ in range(3)] == pytest.approx([900, 1_800, 3_600], abs=150)
        fake.refusal = lambda seen: ""
        assert stage([video_of(ID)])[0].status is Status.OK
        assert parked_s() == pytest.approx(900, abs=150), "there was an answer between"


@pytest.mark.parametrize("route", [API, YTDLP])
def test_cookies_of_an_egress_are_sent_by_it_alone_and_their_file_is_left_as_it_was(route, tmp_path: Path):
    file = tmp_path / "cookies.txt"
    text = "# Netscape HTTP Cookie File\n.youtube.com\tTRUE\t/\tTRUE\t2000000000\tSID\tsecret\n"
    file.write_text(text)
    with running({ID: FakeVideo()}, num_doors=3) as fake:
        for refused in fake.doors[1:]:
            fake.refusal = refusing(refused)
            stage = stage_of(fake, egresses=(fake.door(1), fake.door(2)), cookies=(str(file), ""), routes=(route,))
            assert [stage([video_of(ID)])[0].status for _ in range(2)] == [Status.OK, Status.OK]
        with_cookie = {fake.doors.index(seen.door) for seen in fake.requests if "SID=secret" in seen.cookie}
        without = {fake.doors.index(seen.door) for seen in fake.requests if "SID=secret" not in seen.cookie}
    assert (with_cookie, without) == ({1}, {2})
    assert file.read_text() == text


def test_no_password_of_a_proxy_is_in_a_name_a_reason_or_a_budget():
    with running({ID: FakeVideo()}) as fake:
        video = transcribe(fake, egresses=("http://me:secret@127.0.0.1:9",))
    assert video.reason == "network" and "secret" not in repr(video) and "me:" not in video.detail
    config = YoutubeConfig(egresses=("http://me:secret@127.0.0.1:9",))
    assert list(config.egresses_by_name()) == ["http://127.0.0.1:9"]
    assert redacted('{"egresses": ["http://me:s@cr@t@host:9", "b"]}') == '{"egresses": ["http://***@host:9", "b"]}'


# --- what comes from outside


HOSTILE = "\"'; $(touch /tmp/x) `id` ../../etc/passwd \x1b[31mred\x1b[0m\r\n--exec=rm \u202e"


@pytest.mark.parametrize("route", [API, YTDLP])
def test_a_hostile_title_reaches_the_record_without_codes_for_a_terminal(route):
    with running({ID: FakeVideo(title=HOSTILE, description=HOSTILE)}) as fake:
        video = transcribe(fake, routes=(route,))
    assert video.status is Status.OK and "$(touch /tmp/x)" in video.title
    for text in (video.title, video.description):
        assert "\x1b" not in text and "\r" not in text
    assert "\n" not in video.title


@pytest.mark.parametrize("video_id", ["-----------", "--exec=id12", "_-_-_-_-_-_"])
@pytest.mark.parametrize("route", [API, YTDLP])
def test_an_id_that_looks_like_an_option_is_an_id(route, video_id):
    if "=" in video_id:
        video_id = video_id.replace("=", "-")
    with running({video_id: FakeVideo(title=video_id)}) as fake:
        assert transcribe(fake, video_id, routes=(route,)).title == video_id


@pytest.mark.parametrize("words", ["\x1b[2Jgone\r\nagain", "ends with a token po_token=abcdef;x"])
def test_what_youtube_says_reaches_the_ledger_on_one_line(words, monkeypatch):
    from tests.fakes.youtube import pages

    monkeypatch.setitem(pages.REFUSED, "geo", ("UNPLAYABLE", f"{words} in your country"))
    with running({ID: FakeVideo(mishap="geo")}) as fake:
        video = transcribe(fake)
    assert video.reason == "geo_blocked"
    assert video.detail.isprintable() and "abcdef" not in video.detail
