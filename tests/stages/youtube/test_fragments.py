"""The index of a media file: where its seconds lie, and that no damaged one does harm."""

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autorecap.stages.youtube.fragments import MP4, WEBM, Index, Wanted, filler, read_index
from tests.fakes.youtube.media import synthesise
from tests.support.examples import examples

SHAPES = {
    "m4a": ("140", ()),
    "webm": ("250", ()),
    "webm, cues behind": ("250", ("-cues_to_front", "0")),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("media")
    made = {name: synthesise(folder, itag, 35, *more) for name, (itag, more) in SHAPES.items()}
    return {name: path.read_bytes() for name, path in made.items()}


def index_of(data: bytes, head_bytes: int = 4096) -> tuple[Index | None, dict[int, bytes]]:
    """The index, and the pieces that had to be read for it."""
    pieces = {0: data[:head_bytes]}
    for _ in range(10):
        found = read_index(pieces, len(data))
        if not isinstance(found, Wanted):
            return found, pieces
        more = data[found.first : found.end]
        if found.first == len(pieces[0]):
            pieces[0] += more
        else:
            pieces[found.first] = more
    raise AssertionError("it wants more and more")


@pytest.mark.parametrize("shape", SHAPES)
def test_fragments_of_ten_seconds_lie_one_behind_the_other_from_the_head_to_the_end(files, shape):
    data = files[shape]
    index, pieces = index_of(data)
    assert index is not None and index.kind == (MP4 if shape == "m4a" else WEBM)
    assert index.fragments[0].start_ms == 0 and index.fragments[0].first == index.described[0][1]
    assert index.fragments[-1].end_ms == pytest.approx(35_000, abs=100)
    for before, after in zip(index.fragments, index.fragments[1:], strict=False):
        assert (before.end, before.end_ms) == (after.first, after.start_ms)
    assert max(each.end_ms - each.start_ms for each in index.fragments) < 11_000
    assert sum(map(len, pieces.values())) < len(data) / 10, "the index is found without reading the file"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("head_bytes", [16, 60, 500, 1_000_000])
def test_however_little_is_read_at_first_the_index_is_the_same(files, shape, head_bytes):
    assert index_of(files[shape], head_bytes)[0] == index_of(files[shape])[0]


def test_a_span_is_covered_by_the_fragments_that_hold_some_of_it(files):
    index, _ = index_of(files["m4a"])
    assert index is not None
    first, second, third, *_ = index.fragments
    assert index.covering(0, 1) == [first]
    assert index.covering(first.end_ms - 1, first.end_ms + 1) == [first, second]
    assert index.covering(first.end_ms, second.end_ms + 1) == [second, third]
    assert index.covering(99_000, 100_000) == []


@pytest.mark.parametrize("options", [("-movflags", "faststart"), ("-movflags", "frag_keyframe+empty_moov")])
def test_an_mp4_without_an_index_has_none(tmp_path: Path, options):
    assert index_of(synthesise(tmp_path, "140", 12, *options).read_bytes())[0] is None


def test_a_webm_without_cues_has_none(tmp_path: Path):
    assert index_of(synthesise(tmp_path, "250", 12, "-live", "1").read_bytes())[0] is None


@pytest.mark.parametrize("data", [b"", b"\x1a\x45\xdf\xa3", b"\0\0\0\x18ftyp", b"<html>" * 100, b"\0" * 4096])
def test_what_is_no_media_has_no_index(data):
    index, _ = index_of(data + b"\0" * 64)
    assert index is None


@settings(examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data(), shape=st.sampled_from(sorted(SHAPES)))
def test_a_damaged_index_is_none_or_consistent_and_asks_for_bytes_of_the_file_alone(files, draw, shape):
    data = bytearray(files[shape])
    edge = 3_000
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(
            st.integers(0, edge) if draw.draw(st.booleans()) else st.integers(len(data) - edge, len(data) - 1)
        )
        data[at] = draw.draw(st.integers(0, 255))
    size = draw.draw(st.sampled_from([len(data), len(data) // 2, 2 * len(data)]))
    pieces = {0: bytes(data[: draw.draw(st.integers(8, edge))])}
    for _ in range(8):
        found = read_index(pieces, size)
        if isinstance(found, Wanted):
            assert 0 <= found.first < found.end <= size
            more = bytes(data[found.first : found.end])
            if found.first == len(pieces[0]):
                pieces[0] += more
            else:
                pieces[found.first] = more
            continue
        if found is not None:
            ends = [each.end for each in found.fragments]
            assert ends == sorted(ends) and ends[-1] <= size
            assert all(each.end - each.first >= 16 for each in found.fragments)
        return


def test_an_index_of_a_hundred_million_fragments_is_refused_before_it_is_read():
    sidx = struct.pack(">I4sIIIIIHH", 32, b"sidx", 0, 1, 1000, 0, 0, 0, 65_535)
    data = struct.pack(">I4s8x", 16, b"ftyp") + struct.pack(">I4s8x", 16, b"moov") + sidx
    assert index_of(data)[0] is None


@pytest.mark.parametrize("size", [16, 1_000, 2**32 - 1, 2**32, 2**40])
def test_free_space_says_how_long_it_is(size):
    head = filler(MP4, size)
    assert head[4:8] == b"free"
    short, long = struct.unpack(">I", head[:4])[0], head[8:16]
    assert (int.from_bytes(long, "big") if short == 1 else short) == size
    void = filler(WEBM, size)
    assert void[:2] == b"\xec\x01" and int.from_bytes(void[2:9], "big") + 9 == size
