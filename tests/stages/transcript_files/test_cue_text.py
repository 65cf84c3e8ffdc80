"""Text of cues: markup and entities go, blanks are recognised, words are counted."""

import pytest

from autorecap.stages.transcript_files.cue_text import clean_text, is_blank, num_words


def test_entities_are_resolved_once_or_twice_escaped():
    assert clean_text("&amp;gt;&amp;gt; Tom &amp; Jerry") == ">> Tom & Jerry"
    assert is_blank(clean_text("&amp;nbsp;"))
    assert clean_text("&#" + "1" * 5000) == "&#" + "1" * 5000


def test_markup_is_removed_and_an_authors_angle_brackets_stay():
    assert clean_text(
        "<c.colorE5E5E5>so</c><00:00:01.199><c> it</c> <v Ann>is</v> {\\an8}<font color='x'>a</font>"
    ) == ("so it is a")
    assert clean_text("<whispering> 1 < 2") == "<whispering> 1 < 2"


@pytest.mark.parametrize("text", ["", " ", "\n", "\u00a0", "\u200b", "\ufeff", "\u200b \n\u2060", "\u3164", "\u00ad"])
def test_invisible_text_is_blank(text):
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", "[Music]", "\u266a", "...", "\u200ba", ">>", "[ __ ]", "\u3042"])
def test_visible_text_is_not_blank(text):
    assert not is_blank(text)


def test_words_are_counted_in_scripts_without_spaces():
    assert num_words("one two  three") == 3
    assert num_words("\u3042" * 20) == 10
