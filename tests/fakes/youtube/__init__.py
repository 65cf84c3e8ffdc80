"""A YouTube on loopback: watch pages, player, timed text and ranges of media, and all the ways in which they fail.

    with running({"aaaaaaaaaaa": FakeVideo(title="Rain"), "bbbbbbbbbbb": FakeVideo(mishap="private")}) as youtube:
        youtube.url            # what stands in for https://www.youtube.com
        youtube.requests       # every request: when, what, by which door

By hand: python -m tests.fakes.youtube --help
"""

from tests.fakes.youtube.server import FakeYouTube, Seen, running
from tests.fakes.youtube.videos import MISHAPS, FakeVideo

__all__ = ["MISHAPS", "FakeVideo", "FakeYouTube", "Seen", "running"]
