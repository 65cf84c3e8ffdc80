"""Settings of the requests to YouTube: which are refused, and in which words."""

from pathlib import Path

import pytest

from autorecap.stages.youtube.config import YoutubeConfig


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"egresses": ()}, "expected a value, such as [direct], found []"),
        ({"egresses": ("ftp://host",)}, "scheme://host:port"),
        ({"egresses": ("http://me:secret@",)}, "scheme://host:port"),
        ({"egresses": ("direct", "direct")}, "twice"),
        ({"cookies": ("a", "b")}, "one file for each of 1 egresses"),
        ({"cookies": ("/nowhere/cookies.txt",)}, "no such file"),
        ({"routes": ("api", "web")}, "expected api or ytdlp for each, found 'web'"),
        ({"extractor_args": ("po_token=x",)}, "KEY:NAME=VALUE"),
        ({"base_url": "file:///etc"}, "scheme://host"),
        ({"request_timeout_s": 0}, "expected more than 0, found 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_what_to_write(settings, words):
    with pytest.raises(ValueError, match=r"youtube\.") as raised:
        YoutubeConfig(**settings)
    assert words in str(raised.value) and "secret" not in str(raised.value)


def test_one_proxy_may_be_two_egresses_with_the_cookies_of_two_accounts(tmp_path: Path):
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for file in files:
        file.write_text("# Netscape HTTP Cookie File\n")
    config = YoutubeConfig(egresses=("http://p:1", "http://p:1"), cookies=tuple(map(str, files)))
    assert len(config.egresses_by_name()) == 2
