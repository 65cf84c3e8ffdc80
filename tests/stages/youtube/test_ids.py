"""YouTube's ids and addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorecap.stages.youtube.ids import ID, video_id_of, watch_url

ADDRESSES = [
    "https://www.youtube.com/watch?v={}",
    "http://youtube.com/watch?feature=shared&v={}&t=30s",
    "https://m.youtube.com/watch?v={}#top",
    "https://music.youtube.com/watch?v={}&list=RD1",
    "https://youtu.be/{}?si=abc",
    "youtu.be/{}",
    "www.youtube.com/shorts/{}",
    "https://www.youtube.com/live/{}?feature=share",
    "https://www.youtube-nocookie.com/embed/{}",
    "https://www.youtube.com/v/{}",
    "  {}\r\n",
]
NO_ADDRESSES = [
    "",
    "#NAME?",
    "https://www.youtube.com/",
    "https://www.youtube.com/watch?v=tooshort",
    "https://www.youtube.com/watch?v=one-too-many",
    "https://youtube.com.evil.example/watch?v=---g-f_I2yQ",
    "https://notyoutube.com/watch?v=---g-f_I2yQ",
    "https://www.youtube.com/shorts/../../etc/passwd",
    "https://[broken/watch?v=---g-f_I2yQ",
    "---g-f_I2y\n",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("video_id", ["---g-f_I2yQ", "dQw4w9WgXcQ", "___________"])
def test_an_address_gives_its_id(address: str, video_id: str) -> None:
    assert video_id_of(address.format(video_id)) == video_id


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_no_address_gives_none(text: str) -> None:
    assert video_id_of(text) is None


@given(st.text(max_size=80))
def test_any_text_gives_a_valid_id_or_none(text: str) -> None:
    found = video_id_of(text)
    assert found is None or ID.fullmatch(found)


def test_the_id_in_a_watch_address_is_the_one_that_it_was_made_of() -> None:
    assert video_id_of(watch_url("dQw4w9WgXcQ")) == "dQw4w9WgXcQ"
