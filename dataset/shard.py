"""One shard: a WebDataset tar of clips, its index of offsets, and the check that what lies on disk can be read back.

Keys are `<video_id>_<start_ms>_<end_ms>`; a sample is `<key>.flac` then `<key>.json`. The bytes depend on the clips
alone: no time, host or run stands in them.
"""

import io
import struct
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile

Decode = Callable[[bytes, dict[str, Any]], None]
"""Called with a payload and its row of the index; raises ValueError where they do not fit."""


class ShardError(Exception):
    """A shard does not hold what was written into it."""


@dataclass(frozen=True)
class Sample:
    """A kept clip, ready to be written."""

    key: str
    payload: bytes
    meta: bytes
    index: dict[str, Any]  # the columns of INDEX_SCHEMA that are known before writing
    extension: str = "flac"  # of the payload's name in the tar


def write_shard(path: Path, samples: Iterable[Sample]) -> tuple[list[dict[str, Any]], bytes]:
    """Write the tar to `path`. Returns the index rows (without the shard's name) and the content of the .idx file.

    The .idx is what Megatron-Energon reads: u64 little-endian starts of the samples and the end of the last.
    """
    import webdataset  # imports torch: those who only read a dataset need not wait for it

    rows = []
    starts = []
    with path.open("wb") as file, webdataset.TarWriter(file, mtime=0, encoder=False) as tar:
        for sample in samples:
            start = tar.tarstream.offset
            starts.append(start)
            parts = {sample.extension: sample.payload, "json": sample.meta}
            tar.write({"__key__": sample.key, **parts})
            offsets = {}
            for name in sorted(parts):  # as TarWriter does
                offsets[name] = start + tarfile.BLOCKSIZE
                start = offsets[name] + _padded(len(parts[name]))
            rows.append(
                sample.index
                | {
                    "offset": offsets[sample.extension],
                    "size": len(sample.payload),
                    "json_offset": offsets["json"],
                    "json_size": len(sample.meta),
                }
            )
        starts.append(tar.tarstream.offset)
    return rows, struct.pack(f"<{len(starts)}Q", *starts)


def decode_flac(data: bytes, row: dict[str, Any]) -> None:
    """Check that a payload can be decoded. Raises ValueError where it gives other samples than its row says."""
    try:
        num_samples = len(soundfile.read(io.BytesIO(data), dtype="int16")[0])
    except soundfile.LibsndfileError as error:
        raise ValueError(f"does not decode: {error}") from error
    if num_samples != row["num_samples"]:
        raise ValueError(f"decodes to {num_samples} samples, not {row['num_samples']}")


def verify_shard(path: Path, rows: list[dict[str, Any]], extension: str = "flac", decode: Decode = decode_flac) -> None:
    """Re-open the tar, read every sample by its index row and compare. Raises ShardError naming the sample."""
    with path.open("rb") as file, tarfile.open(path) as tar:
        members = {member.name: member for member in tar}
        if len(members) != 2 * len(rows):
            raise ShardError(f"{path}: {len(members)} members found, {2 * len(rows)} written")
        for row in rows:
            for name, offset, size in (
                (extension, row["offset"], row["size"]),
                ("json", row["json_offset"], row["json_size"]),
            ):
                member = members.get(f"{row['key']}.{name}")
                if member is None or (member.offset_data, member.size) != (offset, size):
                    raise ShardError(f"{path}: {row['key']}.{name} is not where the index says")
            file.seek(row["offset"])
            try:
                decode(file.read(row["size"]), row)
            except ValueError as error:
                raise ShardError(f"{path}: {row['key']} {error}") from error


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
