"""The clips of a dataset directory: committed ones only, found by the index, read by offset and size.

Nothing is held of a clip but the number of its row, for there may be 57 million: captions, names and offsets are read
from the index files when the shards they belong to are wanted, and forgotten when others are.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import fsum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autorecap.dataset.log import CLIPS, LATENTS
from autorecap.dataset.reading.clips import Audio, Clip, DataError, Latent, named, piece
from autorecap.dataset.reading.shard_reader import ReadConfig, ShardReader, patiently, runs

if TYPE_CHECKING:
    import pyarrow as pa

    from autorecap.dataset.log import State
    from autorecap.dataset.store import Store

_SELECTED = ("shard", "offset", "size", "duration_ms", "sample_rate_hz")
_COLUMNS = (
    *("key", "offset", "size", "json_offset", "json_size", "caption", "title"),
    *("duration_ms", "sample_rate_hz", "num_samples"),
)
_READERS = 16  # index files are small, and in S3 each costs a round trip
_FILES_AT_ONCE = 64
_SHARDS_KEPT = 512  # whose rows of the index are in memory: windows of now and next, and some more
_NOT_OF_ONE_CLIP = re.compile(r"\b(?:select|over)\b", re.IGNORECASE)


class _Rows(NamedTuple):
    """The chosen clips of one shard."""

    table: "pa.Table"
    runs: NDArray  # what is read with each, see `reader.runs`


class StoredClips:
    """The clips of a dataset as it was after so many commits, sorted by shard and offset."""

    def __init__(
        self, url: str, name: str = "", where: str = "", seq: int | None = None, read: ReadConfig | None = None
    ) -> None:
        """`where`: an SQL condition on the index. `seq`: the commits that count; None: all there are now."""
        from autorecap.dataset.log import describe, read_state
        from autorecap.dataset.store import open_store

        self.url, self.where = url, where.strip()
        self.store = open_store(url)
        self.description = describe(self.store)
        self.kind: str = self.description["kind"]
        if self.kind not in (CLIPS, LATENTS):
            raise DataError(f"{url} holds {self.kind}: training needs a dataset of captioned clips, or its latents")
        self.name = name or "autocap"  # captions of this project are AutoCap's
        self.state = read_state(self.store) if seq is None else _state_after(self.store, seq)
        self.seq = self.state.next_seq
        self.config = read or ReadConfig()
        self.reader = ShardReader(self.store, self.config)
        self._chosen = _choose(self.store, self.state.names("index"), self.where)
        if not len(self):
            raise DataError(f"{url} has no clips{f' where {self.where}' if self.where else ''}")
        self._first = np.cumsum(self.shard_sizes) - self.shard_sizes
        self._rows = lru_cache(_SHARDS_KEPT)(self._read_rows)

    def __len__(self) -> int:
        return len(self._chosen.rows)

    def __getitem__(self, index: int) -> Clip:
        row = self._row(index)
        decode = self._latent if self.kind == LATENTS else _audio

        def load(window_s: float, share: float) -> Audio | Latent:
            with named(row["key"]):
                return decode(self._read(row), row, window_s, share)

        def read_video_caption() -> str:
            with named(row["key"]):
                return json.loads(self._read(row, "json_")).get("video_caption") or ""

        return Clip(
            name=row["key"],
            captions=(row["caption"] or "",),
            title=row["title"] or "",
            load=load,
            read_video_caption=read_video_caption,
            dataset=self.name,
            seconds=row["duration_ms"] / 1000,
        )

    def payload(self, index: int) -> bytes:
        """The FLAC or safetensors file of a clip as it lies in its shard."""
        return self._read(self._row(index))

    def _row(self, index: int) -> dict[str, Any]:
        """What the index says of a clip, its shard, and the run that it is read with."""
        number = int(np.searchsorted(self._first, index, side="right")) - 1
        rows, at = self._rows(number), index - int(self._first[number])
        row = {name: rows.table.column(name)[at].as_py() for name in _COLUMNS}
        return row | {"shard": self._chosen.shards[number][1], "run": (int(rows.runs[at, 0]), int(rows.runs[at, 1]))}

    def _read(self, row: dict[str, Any], part: str = "") -> bytes:
        start, size = row[f"{part}offset"], row[f"{part}size"]
        return self.reader.read(row["shard"], start, start + size, row["run"])

    @property
    def shards(self) -> list[str]:
        """The shards that chosen clips lie in, sorted."""
        return [shard for _, shard in self._chosen.shards]

    def first_of(self, shard: int) -> int:
        """The index of the first clip of a shard."""
        return int(self._first[shard])

    def index_rows(self, shard: int) -> list[dict[str, Any]]:
        """All that the index says of the clips of a shard."""
        rows: list[dict[str, Any]] = self._table(shard, None).to_pylist()
        return rows

    @property
    def shard_sizes(self) -> NDArray:
        return self._chosen.sizes

    def prepare(self, shard: int, window: int) -> None:
        """Read the shard's rows of the index; from S3 its clips too, where there is room for two windows of shards."""
        rows = self._rows(shard)
        if 2 * window * self.num_bytes / len(self.shard_sizes) <= 1e9 * self.config.cache_gb:
            for start, end in np.unique(rows.runs, axis=0).tolist():
                self.reader.fetch(self._chosen.shards[shard][1], (start, end))

    @property
    def num_bytes(self) -> int:
        """Of the chosen clips, as stored."""
        return self._chosen.bytes

    @property
    def rates_hz(self) -> tuple[int, int]:
        """The lowest and the highest sample rate of the chosen clips."""
        return self._chosen.rates_hz

    @property
    def identity(self) -> dict[str, Any]:
        return {"seq": self.seq, "where": self.where, "clips": len(self), "sha256": self._chosen.digest}

    @property
    def notes(self) -> list[str]:
        return []

    # --- latents

    @property
    def settings(self) -> dict[str, Any]:
        """What the set was made with. Of latents: `vae` and `text` (digests), `piece_frames`, and more."""
        settings: dict[str, Any] = self.state.settings or self.description.get("settings", {})
        return settings

    @cached_property
    def sums(self) -> tuple[float, float, float]:
        """Of all latent values of the set, whatever `where` chooses: how many, their sum, and that of their squares."""
        from autorecap.dataset.parquet import read_parquet

        names = self.state.names("ledger")
        columns = ("num_values", "sum", "sum_of_squares")
        with ThreadPoolExecutor(_READERS) as pool:
            tables = list(pool.map(lambda name: patiently(lambda: read_parquet(self.store, name, columns)), names))
        count, total, squares = (fsum(v for t in tables for v in t.column(c).to_pylist()) for c in columns)
        return count, total, squares

    def _latent(self, data: bytes, row: dict[str, Any], window_s: float, share: float) -> Latent:
        from safetensors.numpy import load

        arrays = {name: array.astype(np.float32) for name, array in load(data).items()}
        frames = self.settings["piece_frames"]
        number = int(share * -(-arrays["mean"].shape[1] // frames))
        part = slice(number * frames, (number + 1) * frames)
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("NaN or infinity in its latent")
        return Latent(arrays["mean"][:, part], arrays["logvar"][:, part], arrays.get("summary"), arrays.get("words"))

    def _table(self, shard: int, columns: Sequence[str] | None) -> "pa.Table":
        """The chosen rows of the index that belong to a shard."""
        import pyarrow as pa

        from autorecap.dataset.parquet import read_parquet

        index = self._chosen.shards[shard][0]
        first = self.first_of(shard)
        chosen = self._chosen.rows[first : first + int(self.shard_sizes[shard])]
        return patiently(lambda: read_parquet(self.store, index, columns)).take(pa.array(chosen))

    def _read_rows(self, shard: int) -> _Rows:
        table = self._table(shard, _COLUMNS)
        at = {name: table.column(name).to_numpy() for name in ("offset", "size", "json_offset", "json_size")}
        starts = np.minimum(at["offset"], at["json_offset"])
        ends = np.maximum(at["offset"] + at["size"], at["json_offset"] + at["json_size"])
        return _Rows(table.combine_chunks(), runs(starts, ends, round(1e6 * self.config.read_mb)))


def _audio(data: bytes, row: dict[str, Any], window_s: float, share: float) -> Audio:
    import soundfile

    with soundfile.SoundFile(io.BytesIO(data)) as file:
        rate = file.samplerate
        if (rate, len(file)) != (row["sample_rate_hz"], row["num_samples"]):
            raise ValueError(
                f"{len(file)} samples at {rate} Hz, where the index says {row['num_samples']} at "
                f"{row['sample_rate_hz']} Hz"
            )
        start_s, seconds = piece(len(file) / rate, window_s, share, None)
        if start := round(start_s * rate):  # to seek costs a frame, to the beginning too
            file.seek(start)
        samples = file.read(round(seconds * rate), dtype="float32", always_2d=True)
        if len(samples) != round(seconds * rate):
            raise ValueError(f"its sound ends after {len(samples)} of {round(seconds * rate)} samples")
        return samples.T, rate


# --- choosing


@dataclass(frozen=True)
class _Chosen:
    """Which rows of which index files, in the order of their shards."""

    shards: list[tuple[str, str]] = field(repr=False)  # index file, shard
    sizes: NDArray = field(repr=False)  # clips of each
    rows: NDArray = field(repr=False)  # uint32, in their index file
    bytes: int
    rates_hz: tuple[int, int]

    @property
    def digest(self) -> str:
        """Of what fixes the clips: the index files are named by their content."""
        digest = hashlib.sha256(repr(self.shards).encode())
        digest.update(self.sizes.astype("<i8").tobytes() + self.rows.astype("<u4").tobytes())
        return digest.hexdigest()


def _choose(store: "Store", names: Sequence[str], where: str) -> _Chosen:
    parts: list[tuple[str, str, NDArray]] = []
    num_bytes, rates = 0, [np.iinfo(np.int32).max, 0]
    for file_names, table in _tables(store, names, None if where else _SELECTED):
        found = _where(table, where) if where else table
        if not len(found):
            continue
        found = found.sort_by([("shard", "ascending"), ("offset", "ascending")])
        num_bytes += int(np.sum(found.column("size").to_numpy()))
        hz = found.column("sample_rate_hz").to_numpy()
        rates = [min(rates[0], int(hz.min())), max(rates[1], int(hz.max()))]
        rows = found.column("row_number").to_numpy().astype(np.uint32)
        files = found.column("file_number").to_numpy()
        shards = found.column("shard").combine_chunks().dictionary_encode()
        codes = shards.indices.to_numpy()
        borders = np.flatnonzero(np.diff(codes) | np.diff(files)) + 1
        starts = [0, *borders.tolist()]
        words = shards.dictionary.to_pylist()
        parts += [
            (words[codes[start]], file_names[files[start]], part)
            for start, part in zip(starts, np.split(rows, borders), strict=True)
        ]
    parts.sort(key=lambda part: part[:2])
    return _Chosen(
        shards=[(index, shard) for shard, index, _ in parts],
        sizes=np.array([len(rows) for *_, rows in parts], np.int64),
        rows=np.concatenate([rows for *_, rows in parts]) if parts else np.zeros(0, np.uint32),
        bytes=num_bytes,
        rates_hz=(rates[0], rates[1]),
    )


def _tables(
    store: "Store", names: Sequence[str], columns: Sequence[str] | None
) -> Iterator[tuple[Sequence[str], "pa.Table"]]:
    """The index, some files at a time, each row with the numbers of its file and of itself in it."""
    import pyarrow as pa

    from autorecap.dataset.parquet import read_parquet
    from autorecap.dataset.schemas import INDEX_SCHEMA

    empty = [INDEX_SCHEMA.empty_table()] if columns is None else []  # files may be older than a column
    with ThreadPoolExecutor(_READERS) as pool:
        for first in range(0, len(names), _FILES_AT_ONCE):
            some = names[first : first + _FILES_AT_ONCE]
            read = pool.map(lambda name: patiently(lambda: read_parquet(store, name, columns)), some)
            tables = [
                table.append_column("file_number", pa.array([number] * len(table), pa.int32())).append_column(
                    "row_number", pa.array(range(len(table)), pa.int64())
                )
                for number, table in enumerate(read)
            ]
            yield some, pa.concat_tables([*tables, *empty], promote_options="default")


def _where(table: "pa.Table", where: str) -> "pa.Table":
    """The rows for which an SQL condition holds. Raises BadQuery."""
    import duckdb

    from autorecap.dataset.view import BadQuery

    if _NOT_OF_ONE_CLIP.search(re.sub(r"'[^']*'", "", where)):
        raise BadQuery(f"the condition {where!r} must look at one clip by itself: write it without select and over")
    connection = duckdb.connect()
    connection.execute("set python_enable_replacements = false")  # a condition is about columns, not our variables
    connection.register("clips", table)
    columns = ", ".join(f'"{name}"' for name in (*_SELECTED, "file_number", "row_number"))
    try:
        query = f"select {columns} from clips where ({where}\n)"  # noqa: S608  the user's own condition
        return connection.sql(query).to_arrow_table()
    except (duckdb.Error, RuntimeError) as error:  # RuntimeError: text that is not UTF-8
        raise BadQuery(f"{error}\nThe columns are {', '.join(table.column_names[:-2])}") from error


def _state_after(store: "Store", seq: int) -> "State":
    """The state of a dataset after its first `seq` commits. Raises DataError where there are fewer."""
    from autorecap.dataset.log import Commit, commit_name, fold

    def read(number: int) -> Commit:
        name = commit_name(number)
        return Commit.from_json(patiently(lambda: store.read(name)), f"{store.url}/{name}")

    try:
        with ThreadPoolExecutor(_READERS) as pool:
            return fold(pool.map(read, range(seq)))
    except FileNotFoundError as error:
        raise DataError(
            f"{store.url} had {seq} commits when the run began, and has fewer now: it is another dataset, or it was "
            "not copied whole"
        ) from error
