"""The clips of a dataset directory: committed ones only, found by the index, read by offset and size.

Nothing is held of a clip but the number of its row, for there may be 57 million: captions, names and offsets are read
from the index files when the shards they belong to are wanted, and forgotten when others are.
"""

import io
import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from math import fsum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autorecap.dataset.log import CLIPS, LATENTS
from autorecap.dataset.reading.chosen import choose
from autorecap.dataset.reading.clips import Audio, Clip, DataError, Latent, named, piece
from autorecap.dataset.reading.shard_reader import ReadConfig, ShardReader, runs
from autorecap.dataset.snapshot import Snapshot
from autorecap.dataset.store import TRIES

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = (
    *("key", "offset", "size", "json_offset", "json_size", "caption", "title"),
    *("duration_ms", "sample_rate_hz", "num_samples"),
)
_SHARDS_KEPT = 512  # whose rows of the index are in memory: windows of now and next, and some more


class _Rows(NamedTuple):
    """The chosen clips of one shard."""

    table: "pa.Table"
    runs: NDArray[np.int64]  # what is read with each, see `shard_reader.runs`


class StoredClips(Snapshot):
    """The clips of a dataset as it was after so many commits, sorted by shard and offset."""

    def __init__(
        self, url: str, name: str = "", where: str = "", seq: int | None = None, read: ReadConfig | None = None
    ) -> None:
        """`where`: an SQL condition on the index. `seq`: the commits that count; None: all there are now."""
        super().__init__(url, seq, tries=TRIES)
        self.url, self.where = url, where.strip()
        if self.kind not in (CLIPS, LATENTS):
            raise DataError(f"{url} holds {self.kind}: training needs a dataset of captioned clips, or its latents")
        self.name = name or "autocap"  # captions of this project are AutoCap's
        self.seq = self.state.next_seq
        self.config = read or ReadConfig()
        self.reader = ShardReader(self.store, self.config)
        self._chosen = choose(self, self.where)
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
        """Read the FLAC or safetensors file of a clip as it lies in its shard."""
        return self._read(self._row(index))

    def _row(self, index: int) -> dict[str, Any]:
        """Return what the index says of a clip, its shard, and the run that it is read with."""
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
        """Return the index of the first clip of a shard."""
        return int(self._first[shard])

    def index_rows(self, shard: int) -> list[dict[str, Any]]:
        """Read all that the index says of the clips of a shard."""
        rows: list[dict[str, Any]] = self._table(shard, None).to_pylist()
        return rows

    @property
    def shard_sizes(self) -> NDArray[np.int64]:
        return self._chosen.sizes

    def prepare(self, shard: int, window: int) -> None:
        """Read the shard's rows of the index; from S3 its clips too, where there is room for two windows of shards."""
        rows = self._rows(shard)
        if 2 * window * self.num_bytes / len(self.shard_sizes) <= 1e9 * self.config.cache_gb:
            for start, end in np.unique(rows.runs, axis=0).tolist():
                self.reader.fetch(self._chosen.shards[shard][1], (start, end))

    @property
    def num_bytes(self) -> int:
        """The size of the chosen clips, as stored."""
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

    @cached_property
    def sums(self) -> tuple[float, float, float]:
        """The number, sum and sum of squares of all latent values of the set, whatever `where` chooses."""
        columns = ("num_values", "sum", "sum_of_squares")
        tables = self.read_tables(self.state.names("ledger"), columns)
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
        """Read the chosen rows of the index that belong to a shard."""
        import pyarrow as pa

        index = self._chosen.shards[shard][0]
        first = self.first_of(shard)
        chosen = self._chosen.rows[first : first + int(self.shard_sizes[shard])]
        return self.read_table(index, columns).take(pa.array(chosen))

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
