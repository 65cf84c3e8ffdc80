"""Sessions with YouTube: each request in its turn, none without a limit."""

import time
from email.utils import formatdate

import pytest
import requests

from autorecap.stages.reasons import Reason
from autorecap.stages.youtube.budget import BudgetConfig, Egress, LocalBudget, Parked
from autorecap.stages.youtube.config import YoutubeConfig
from autorecap.stages.youtube.problem import Problem
from autorecap.stages.youtube.session import YOUTUBE, Sessions, Turns, new_session, retry_after_s
from autorecap.stages.youtube.ytdlp import YtDlp
from tests.fakes.clock import FakeClock
from tests.fakes.youtube import FakeVideo, FakeYouTube, running

ID = "aaaaaaaaaaa"
PAGE = f"{YOUTUBE}/watch?v={ID}"


def turns_of(fake: FakeYouTube, clock: FakeClock, rate: float = 2.0, **settings) -> Turns:
    """The turns of one egress on a clock that moves when somebody waits."""
    config = YoutubeConfig(base_url=fake.url, budget=BudgetConfig(requests_per_s=rate, burst=1), **settings)
    return Turns(Egress(name="direct"), LocalBudget(config.budget, ["direct"], clock), config, clock.sleep)


def test_every_request_of_either_library_waits_for_its_turn():
    clock = FakeClock()
    with running({ID: FakeVideo()}) as fake:
        turns = turns_of(fake, clock, rate=0.5)
        session = new_session(turns)
        for _ in range(3):
            session.get(PAGE)
        YtDlp(turns.config, turns, session).extract(ID)
        assert len(fake.requests) == 4
    assert clock.now - 1_000_000.0 == pytest.approx(3 * 2.0), "one in two seconds, the first at once"


def test_a_429_slows_its_egress_down_and_retry_after_is_heeded():
    clock = FakeClock()
    with running({ID: FakeVideo(mishap="429_retry_after", times=1)}) as fake:
        turns = turns_of(fake, clock, rate=100.0)
        session = new_session(turns)
        with pytest.raises(Problem) as raised:
            session.get(PAGE)
        assert raised.value.reason is Reason.RATE_LIMITED
        before = clock.now
        session.get(PAGE)
        assert clock.now - before >= 1.0, "what the fake asked for"
        before = clock.now
        session.get(PAGE)
        assert clock.now - before >= 1 / 100, "slower than before"


def test_nothing_goes_out_by_a_parked_egress():
    clock = FakeClock()
    with running({ID: FakeVideo()}) as fake:
        turns = turns_of(fake, clock)
        turns.budget.park("direct", "bot_check", 60)
        for ask in (
            lambda: new_session(turns).get(PAGE),
            lambda: YtDlp(turns.config, turns, new_session(turns)).meta(ID),
        ):
            with pytest.raises(Parked):
                ask()
        assert not fake.requests


def test_an_answer_that_drips_is_given_up_on_time():
    with running({ID: FakeVideo(mishap="drip")}) as fake:
        session = new_session(turns_of(fake, FakeClock(), request_timeout_s=0.5))
        with pytest.raises(requests.exceptions.Timeout):
            session.get(f"{YOUTUBE}/api/timedtext?v={ID}&lang=en&kind=asr")
        assert fake.bytes_to_drip > 0, "nobody has waited for the whole"


def test_a_silent_server_is_given_up_on_time():
    with running({ID: FakeVideo()}, latency_s=5) as fake:
        session = new_session(turns_of(fake, FakeClock(), connect_timeout_s=0.3))
        with pytest.raises(requests.exceptions.Timeout):
            session.get(PAGE)


def test_a_redirection_out_of_youtube_is_not_followed():
    with running({ID: FakeVideo()}) as fake:
        fake.elsewhere = "http://169.254.169.254/latest/meta-data"
        session = new_session(turns_of(fake, FakeClock()))
        with pytest.raises(Problem, match=r"169\.254\.169\.254.* is no address of YouTube"):
            session.get(f"{YOUTUBE}/redirect")


def test_proxies_of_the_environment_are_no_way_out(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with running({ID: FakeVideo()}) as fake:
        turns = turns_of(fake, FakeClock())
        session = new_session(turns)
        assert session.get(PAGE).ok
        assert YtDlp(turns.config, turns, session).meta(ID).title


def test_each_thread_and_egress_has_a_session_of_its_own_and_keeps_it():
    config = YoutubeConfig(egresses=("direct", "http://127.0.0.1:9"))
    sessions = Sessions(config, config.local_budget())
    assert sessions["direct"] is sessions["direct"]
    assert sessions["direct"] is not sessions["http://127.0.0.1:9"]


def test_retry_after_is_a_number_or_a_date():
    assert retry_after_s("120") == 120
    assert retry_after_s(formatdate(time.time() + 90, usegmt=True)) == pytest.approx(90, abs=5)
    assert retry_after_s(formatdate(time.time() - 90, usegmt=True)) == 0
    assert retry_after_s("soon") is None and retry_after_s(None) is None and retry_after_s("-5") is None
