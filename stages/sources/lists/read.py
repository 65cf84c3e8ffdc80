"""Rows of a list: which video each names, at which times, and which of them are damaged.

Lists with separators are read a block of lines at a time with numpy and Arrow, without a Python object per row.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from autorecap.base.text import printable
from autorecap.stages.records import MAX_VIDEO_MS
from autorecap.stages.sources.lists import json_rows
from autorecap.stages.sources.lists.formats import Layout, detect, split_row
from autorecap.stages.sources.lists.lines import Block, blocks, gather, path_shown, row_shown
from autorecap.stages.sources.lists.mentions import CLIPS, Damaged, Mentions, Thresholds
from autorecap.stages.youtube.ids import video_id_of

MAX_NAMED = 1_000_000
"""How many damaged rows of a list are named one by one; more are only counted."""
_ID_LENGTH = 11
_IS_ID = np.zeros(256, bool)
_IS_ID[np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", np.uint8)] = True
_IS_BLANK = np.isin(np.arange(256), np.frombuffer(b" \t\r\x0b\x0c", np.uint8))
_IS_QUOTE = np.isin(np.arange(256), np.frombuffer(b"\"' \t\r", np.uint8))
_ADDRESS = (
    r"^(?:https?://)?(?:[A-Za-z0-9-]+\.)*(?:youtube(?:-nocookie)?\.com/(?:watch/?\?(?:[^#]*&)?v=|(?:shorts|embed|live|v|e)/)"
    r"|youtu\.be/)(?P<id>[A-Za-z0-9_-]{11})(?:[^A-Za-z0-9_-].*)?$"
)
_FILE_NAME = r"^(?:Y(?P<a>[A-Za-z0-9_-]{11})\.\w{2,5}|(?P<b>[A-Za-z0-9_-]{11})(?:_\d+)?(?:\.\w{2,5})?)$"
_START_IN_NAME = r"^.{11}_(?P<start>\d+)(?:\.\w{2,5})?$"
_NUMBER = r"^\d{1,15}(\.\d*)?([eE][+-]?\d{1,2})?$"
_SPAN = r"^\[\s*(?P<start>[\d.eE+-]+)\s*,\s*(?P<end>[\d.eE+-]+)\s*\]$"


@dataclass
class VideoList:
    """A list of videos. Its counts cover what `read` has yielded so far."""

    path: str
    layout: Layout
    name: str  # stored with each video as its source: the name of the format, or of the file
    num_rows: int = 0
    num_damaged: int = 0
    num_filtered: int = 0  # videos whose clips all lie below the thresholds
    num_clips: int = 0
    clips_left_out: dict[str, int] = field(default_factory=dict)  # by reason

    @property
    def shown(self) -> str:
        """Its path for people."""
        return path_shown(self.path)

    def read(self, *, times: bool = False, thresholds: Thresholds | None = None) -> Iterator[Mentions]:
        """Yield everything that can be read in the list, block by block. `times`: with the clips that it states.

        Raises SourceError where the file cannot be opened; damaged rows are counted and named.
        """
        room = MAX_NAMED
        if self.layout.whole:
            parts: Iterator[Mentions] = json_rows.whole(self.path, self.layout, thresholds)
        else:
            parts = self._parts(times or self.layout.kind == "autorecap", thresholds)
        for part in parts:
            part.damaged = part.damaged[:room]
            room -= len(part.damaged)
            self.num_rows += part.num_rows
            self.num_damaged += part.num_damaged
            self.num_filtered += part.num_filtered
            self.num_clips += 0 if part.clips is None else len(part.clips)
            for why, count in part.clips_left_out.items():
                self.clips_left_out[why] = self.clips_left_out.get(why, 0) + count
            yield part

    def _parts(self, times: bool, thresholds: Thresholds | None) -> Iterator[Mentions]:
        header_waits = self.layout.has_header
        json_reader = json_rows.Reader(self.layout, thresholds)
        for block in blocks(self.path):
            if self.layout.is_json:
                part = json_reader.read(block) if times else json_rows.ids(block)
            else:
                rows = _rows_at(block)
                if header_waits and len(rows):
                    rows, header_waits = rows[1:], False
                part = _Rows(block, rows, self.layout).read(times and self.layout.has_times)
            if block.breaks_off:
                part.num_rows += 1
                part.num_damaged += 1
                part.damaged.append(Damaged(block.first_line + len(block), block.breaks_off, ""))
            yield part


def open_list(path: str, name: str = "") -> VideoList:
    """Open the list at a path or URL. `name`: its format, where the content should not decide. Raises SourceError."""
    layout = detect(path, name)
    stem = path.rstrip("/").rpartition("/")[2].removesuffix(".gz").rpartition(".")[0]
    label = printable(stem, 60).replace(",", " ") or "ids"
    return VideoList(path, layout, label if layout.kind == "ids" else layout.kind)


def _rows_at(block: Block) -> np.ndarray:
    """Return which lines are rows: neither blank nor comments."""
    starts, ends = _trimmed(block.data, block.starts, block.ends, _IS_BLANK)
    at = np.flatnonzero(ends > starts)
    if not len(at):
        return at
    first = _bytes_at(block.data, starts[at])
    quoted = first == ord('"')
    after = starts[at] + quoted
    marked = np.flatnonzero(_bytes_at(block.data, after) == ord("#"))
    if not len(marked):
        return at
    # What a spreadsheet makes of an id (#NAME?, #REF!) is a damaged row, and no comment.
    second, third = _bytes_at(block.data, after[marked] + 1), _bytes_at(block.data, after[marked] + 2)
    is_error = np.isin(second, np.frombuffer(b"NVRD", np.uint8)) & (
        ((third >= ord("A")) & (third <= ord("Z"))) | (third == ord("/"))
    )
    return np.delete(at, marked[~is_error])


def _bytes_at(data: np.ndarray, positions: np.ndarray) -> np.ndarray:
    values: np.ndarray = data[np.minimum(positions, len(data) - 1)]
    return values


def _trimmed(data: np.ndarray, starts: np.ndarray, ends: np.ndarray, what: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strip bytes of `what` from both ends of slices. Few have any, so only those are looked at again."""
    starts, ends = starts.copy(), ends.copy()
    at = np.flatnonzero(ends > starts)
    while len(at):
        at = at[what[data[starts[at]]]]
        starts[at] += 1
        at = at[ends[at] > starts[at]]
    at = np.flatnonzero(ends > starts)
    while len(at):
        at = at[what[data[ends[at] - 1]]]
        ends[at] -= 1
        at = at[ends[at] > starts[at]]
    return starts, ends


class _Rows:
    """The rows of one block, and where their columns are."""

    def __init__(self, block: Block, at: np.ndarray, layout: Layout) -> None:
        self.block, self.at, self.layout = block, at, layout
        self.data = block.data
        self.starts, self.ends = block.starts[at], block.ends[at]
        self.separators = np.flatnonzero(self.data == ord(layout.separator))
        self.first = np.searchsorted(self.separators, self.starts)

    def read(self, times: bool) -> Mentions:
        ids, is_valid = self._ids()
        why = np.where(is_valid, "", "no video id")
        clips = None
        if times:
            start_ms, end_ms, has_times = self._times()
            why = np.where(is_valid & ~has_times, "no times", why)
            is_valid = is_valid & has_times
            clips = self._clips(ids, is_valid, start_ms, end_ms)
        bad = np.flatnonzero(~is_valid)
        damaged = [
            Damaged(int(self.block.first_line + self.at[i]), str(why[i]), row_shown(self.block.line(self.at[i])))
            for i in bad[:MAX_NAMED]
        ]
        lines = pa.array(self.block.first_line + self.at[is_valid], pa.int64())
        table = pa.table({"id": ids.filter(pa.array(is_valid)), "place": lines})
        return Mentions(table, clips, num_rows=len(self.at), num_damaged=len(bad), damaged=damaged)

    def _column(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return where column `k` begins and ends in each row; empty where the row has fewer."""
        if k == 0:
            starts = self.starts
        else:
            starts = np.minimum(self._separator(self.first + k - 1) + 1, self.ends)
        return starts, np.maximum(np.minimum(self._separator(self.first + k), self.ends), starts)

    def _separator(self, number: np.ndarray) -> np.ndarray:
        if not len(self.separators):
            return np.full(len(number), len(self.data))
        inside = number < len(self.separators)
        return np.where(inside, self.separators[np.where(inside, number, 0)], len(self.data))

    def _ids(self) -> tuple[pa.Array, np.ndarray]:
        starts, ends = _trimmed(self.data, *self._column(self.layout.id_column), _IS_QUOTE)
        is_valid = np.flatnonzero(ends - starts == _ID_LENGTH)
        matrix = self.data[starts[is_valid][:, None] + np.arange(_ID_LENGTH)]
        good = _IS_ID[matrix].all(axis=1)
        has_id = np.zeros(len(starts), bool)
        has_id[is_valid[good]] = True
        text = np.full((len(starts), _ID_LENGTH), ord("-"), np.uint8)
        text[is_valid[good]] = matrix[good]
        rest = np.flatnonzero(~has_id)
        if len(rest):
            ids = self._other_ids(rest, gather(self.data, starts[rest], ends[rest]))
            named = np.flatnonzero(pc.is_valid(ids).to_numpy(zero_copy_only=False))
            joined = b"".join(ids.take(pa.array(named)).to_pylist())
            text[rest[named]] = np.frombuffer(joined, np.uint8).reshape(len(named), _ID_LENGTH)
            has_id[rest[named]] = True
        offsets = np.arange(len(starts) + 1, dtype=np.int32) * _ID_LENGTH
        array = pa.StringArray.from_buffers(len(starts), pa.py_buffer(offsets), pa.py_buffer(text.reshape(-1)))
        return array, has_id

    def _other_ids(self, rest: np.ndarray, cells: pa.Array) -> pa.Array:
        """Return ids in cells that are not ids: addresses, names of files, cells behind a quoted separator."""
        address = pc.struct_field(pc.extract_regex(cells, _ADDRESS), "id")
        names = pc.extract_regex(cells, _FILE_NAME)
        name = pc.if_else(
            pc.equal(pc.binary_length(pc.struct_field(names, "a")), _ID_LENGTH),
            pc.struct_field(names, "a"),
            pc.struct_field(names, "b"),
        )
        ids = pc.coalesce(address, name)
        odd = pc.and_(pc.is_null(ids), pc.match_substring(cells, "youtu"))
        if self.layout.id_column:
            quoted = np.array([b'"' in self.block.line(self.at[i]) for i in rest], bool)
            odd = pc.or_(odd, pc.and_(pc.is_null(ids), pa.array(quoted)))
        where = np.flatnonzero(odd.to_numpy(zero_copy_only=False))
        if not len(where):
            return ids
        found = ids.to_pylist()
        for i in where:
            line = self.block.line(self.at[rest[i]]).decode("utf-8", "replace")
            row = split_row(line, self.layout.separator)
            cell = row[self.layout.id_column] if self.layout.id_column < len(row) else ""
            found[i] = (video_id_of(cell) or "").encode() or None
        return pa.array(found, pa.large_binary())

    def _times(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        layout = self.layout
        if layout.name_unit_ms:
            names = gather(self.data, *_trimmed(self.data, *self._column(layout.id_column), _IS_QUOTE))
            start = _numbers(pc.struct_field(pc.extract_regex(names, _START_IN_NAME), "start"))
            start = start * layout.name_unit_ms / layout.unit_ms
            end = start + layout.clip_ms / layout.unit_ms
        elif layout.span_column is not None:
            starts, _ = self._column(layout.span_column)
            spans = pc.extract_regex(gather(self.data, *_trimmed(self.data, starts, self.ends, _IS_QUOTE)), _SPAN)
            start, end = (_numbers(pc.struct_field(spans, name)) for name in ("start", "end"))
        else:
            assert layout.start_column is not None
            start = self._number(layout.start_column)
            end = start + layout.clip_ms / layout.unit_ms
            if layout.end_column is not None:
                end = self._number(layout.end_column)
        start_ms, end_ms = np.rint(start * layout.unit_ms), np.rint(end * layout.unit_ms)
        with np.errstate(invalid="ignore"):
            is_valid = (start_ms >= 0) & (end_ms > start_ms) & (end_ms <= MAX_VIDEO_MS)
        return _whole(start_ms, is_valid), _whole(end_ms, is_valid), is_valid

    def _number(self, column: int) -> np.ndarray:
        return _numbers(gather(self.data, *_trimmed(self.data, *self._column(column), _IS_QUOTE)))

    def _clips(self, ids: pa.Array, is_valid: np.ndarray, start_ms: np.ndarray, end_ms: np.ndarray) -> pa.Table:
        mask = pa.array(is_valid)
        captions, tags = self._texts()
        num = int(is_valid.sum())
        return pa.table(
            [
                ids.filter(mask),
                pa.array(self.block.first_line + self.at[is_valid], pa.int64()),
                pa.array(start_ms[is_valid]),
                pa.array(end_ms[is_valid]),
                pa.nulls(num, pa.string()),
                pa.nulls(num, pa.float64()),
                pa.nulls(num, pa.string()) if captions is None else captions.filter(mask),
                pa.nulls(num, pa.list_(pa.string())) if tags is None else tags.filter(mask),
            ],
            schema=CLIPS,
        )

    def _texts(self) -> tuple[pa.Array | None, pa.Array | None]:
        """Return the captions of the rows, or their labels."""
        layout = self.layout
        if layout.text_column is None:
            return None, None
        starts, _ = self._column(layout.text_column)
        ends = self.ends
        if layout.columns_after_text:
            last = np.searchsorted(self.separators, self.ends) - layout.columns_after_text
            ends = np.where(last >= 0, self._separator(np.maximum(last, 0)), self.ends)
            ends = np.maximum(np.minimum(ends, self.ends), starts)
        text = unquoted(gather(self.data, *_trimmed(self.data, starts, ends, _IS_BLANK)))
        if layout.text_is == "caption":
            return text, None
        if layout.text_is == "labels":
            return None, pc.split_pattern(text, ",")
        offsets = pa.array(np.arange(len(text) + 1, dtype=np.int32))
        return None, pa.ListArray.from_arrays(offsets, text)


def unquoted(cells: pa.Array) -> pa.Array:
    """Return CSV cells as text without their quotes; blanks and control characters become one space."""
    text = as_text(cells)
    text = pc.if_else(
        pc.match_substring_regex(text, r'^"(?s:.*)"$'), pc.replace_substring_regex(text, r'^"((?s:.*))"$', r"\1"), text
    )
    text = pc.replace_substring(text, '""', '"')
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(text, r"[\s\p{C}]+", " "))


def as_text(cells: pa.Array) -> pa.Array:
    """Decode bytes; what is not UTF-8 becomes U+FFFD."""
    try:
        return cells.cast(pa.large_string()).cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([cell.decode("utf-8", "replace") for cell in cells.to_pylist()], pa.string())


def _numbers(cells: pa.Array) -> np.ndarray:
    """Convert cells to numbers; NaN where a cell is no number."""
    good = pc.fill_null(pc.match_substring_regex(cells, _NUMBER), False)
    numbers = np.full(len(cells), np.nan)
    numbers[good.to_numpy(zero_copy_only=False)] = (
        cells.filter(good).cast(pa.large_string()).cast(pa.float64()).to_numpy(zero_copy_only=False)
    )
    return numbers


def _whole(values: np.ndarray, is_valid: np.ndarray) -> np.ndarray:
    return np.where(is_valid, values, 0).astype(np.int64)
