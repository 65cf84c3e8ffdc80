"""Figures that the pages quote are those of the result cards.

A block that quotes figures ends in a comment that names the card and repeats the words of the card that it quotes:

    Clips come 2.3 times as fast. <!-- figures: reader.txt "ratio 2.34" -->

Every number of the block must be a rounding of a number in those words, and those words must stand in the card.
"""

import re

import pytest

from tests.support.markdown import PAGES, Block, blocks
from tests.support.places import PROJECT

CARDS = PROJECT / "benchmarks" / "results"
COMMENT = re.compile(r"<!-- figures: (?P<card>\S+) (?P<words>.*?)-->", re.DOTALL)
NAMED = re.compile(r"benchmarks[/.](?:results/)?(\w+)")
NUMBER = re.compile(r"(?<![\w.])(?<!\w-)\d+(?:,\d{3})*(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]*\()")
IN_CARD = re.compile(r"(?<![\d.,])\d+(?:,\d{3})*(?:\.\d+)?(?:[eE][+-]?\d+)?")
CODE = re.compile(r"`[^`]*`")

TEXTS = [block for path in PAGES for block in blocks(path) if not block.is_code]
QUOTING = [block for block in TEXTS if COMMENT.search(block.text)]


def value(written: str) -> float:
    return float(written.replace(",", ""))


def numbers(text: str) -> list[str]:
    """Return the numbers of running text; those in code and in names (ESC-10, Q2) are none."""
    return NUMBER.findall(CODE.sub("", COMMENT.sub("", text)))


def rounds_to(exact: float, written: str) -> bool:
    mantissa, _, exponent = written.lower().partition("e")
    last_digit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(exact - value(written)) <= 0.5 * last_digit * (1 + 1e-9)


def quoted(block: Block) -> list[str]:
    """Return the words of the cards that a block repeats; each must stand in its card."""
    found = []
    for comment in COMMENT.finditer(block.text):
        card = " ".join((CARDS / comment["card"]).read_text(encoding="utf-8").split())
        words = [" ".join(each.split()) for each in re.findall(r'"([^"]*)"', comment["words"])]
        assert words, f"{block}: the comment repeats no words of {comment['card']}"
        for each in words:
            assert each in card, f"{block}: {comment['card']} does not say {each!r}"
        found += words
    return found


def test_roundings():
    assert rounds_to(2.34, "2.3") and rounds_to(21.7, "22") and rounds_to(5e-4, "5e-4") and rounds_to(1234.0, "1,234")
    assert not rounds_to(2.34, "2.4") and not rounds_to(21.4, "22") and not rounds_to(0.1, "5e-4")
    assert numbers("on 2 cores, 1,234.5 of ESC-10 (`a.py 7`), 5e-4") == ["2", "1,234.5", "5e-4"]


def test_some_figures_are_quoted():
    assert {"reader.txt", "captioning.txt"} <= {match for block in QUOTING for match, _ in COMMENT.findall(block.text)}


@pytest.mark.parametrize("block", QUOTING, ids=str)
def test_every_number_beside_a_card_is_a_rounding_of_one_that_the_card_states(block):
    stated = [value(number) for words in quoted(block) for number in IN_CARD.findall(words)]
    strange = [number for number in numbers(block.text) if not any(rounds_to(each, number) for each in stated)]
    assert not strange, f"{block} says {', '.join(strange)}, which is not in the words that its comment repeats"


@pytest.mark.parametrize("block", QUOTING, ids=str)
def test_every_word_of_a_card_that_is_repeated_is_quoted(block):
    said = numbers(block.text)
    for words in quoted(block):
        stated = [value(number) for number in IN_CARD.findall(words)]
        assert any(rounds_to(each, number) for each in stated for number in said), (
            f"{block} quotes nothing of {words!r}"
        )


def test_a_block_that_names_a_benchmark_or_its_card_and_states_numbers_says_where_they_stand():
    bare = [
        f"{block}: {', '.join(numbers(block.text))}"
        for block in TEXTS
        if NAMED.search(block.text) and numbers(block.text) and not COMMENT.search(block.text)
    ]
    assert not bare


def test_benchmarks_and_cards_that_the_pages_name_exist():
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"benchmarks/results/(\w+\.txt)", text):
            assert (CARDS / name).is_file(), f"{path.name}: {name}"
        for name in re.findall(r"benchmarks(?:/(?!results/)|\.)(\w+)", text):
            assert (CARDS.parent / f"{name}.py").is_file(), f"{path.name}: benchmarks/{name}"
