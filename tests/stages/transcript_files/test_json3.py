"""json3 read by its types, which is fast, gives what reading it field by field gives."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorecap.stages.transcript_files.json3 import parse_json3, parse_regular_json3
from tests.support.examples import examples


def or_odd(values):
    """Values of the right type, and now and then another."""
    odd: Any = st.sampled_from([None, True, -1, 1.0, 1.5, 10**30, "1", "", [], {}])
    return st.one_of(values, values, values, odd)


segs = st.fixed_dictionaries(
    {"utf8": or_odd(st.sampled_from(["word", " word", "two words", "\n", "\ud83d"]))},
    optional={"tOffsetMs": or_odd(st.integers(-5, 5_000)), "acAsrConf": or_odd(st.integers(0, 255))},
)

events = st.fixed_dictionaries(
    {},
    optional={
        "tStartMs": or_odd(st.integers(0, 10_000)),
        "dDurationMs": or_odd(st.integers(0, 10_000)),
        "aAppend": st.sampled_from([1, 0, True]),
        "segs": or_odd(st.lists(or_odd(segs), max_size=4)),
        "id": st.integers(),
    },
)


@examples(500)
@given(st.lists(or_odd(events), max_size=4))
def test_json3_that_is_read_by_its_types_is_read_as_field_by_field(events):
    text = json.dumps({"events": events})
    regular = parse_regular_json3(text)
    assert regular is None or regular == parse_json3(json.loads(text))


@pytest.mark.parametrize("name", ["tStartMs", "dDurationMs", "tOffsetMs"])
@pytest.mark.parametrize("value", [10**30, -(10**30), 10**15 + 1, 10**15, -1, 0])
def test_json3_numbers_beyond_any_time_are_read_in_one_way(name, value):
    seg, event = {"utf8": "word"}, {"tStartMs": 5}
    (seg if name == "tOffsetMs" else event)[name] = value
    text = json.dumps({"events": [event | {"segs": [seg, {"utf8": " more", "tOffsetMs": 9}]}]})
    regular = parse_regular_json3(text)
    assert regular == parse_json3(json.loads(text)) if abs(value) <= 10**15 else regular is None
