"""Publishing files of a dataset (shards, tables of index and ledger) under names that are made of their content.

A published file does not count before a commit names it, so whoever dies after publishing has changed nothing. Equal
content has an equal name: what an earlier run has published already is not published again.
"""

import errno
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from autorecap.base.errors import FINISHED_WITH_FAILURES, ForeseenError
from autorecap.dataset.log import File
from autorecap.dataset.parquet import parquet_bytes
from autorecap.dataset.shard import Decode, Sample, ShardError, decode_flac, verify_shard, write_shard
from autorecap.dataset.store import NameTaken, Store, StoreError


class WriteFailed(ForeseenError):
    """The store cannot take a file."""

    exit_code = FINISHED_WITH_FAILURES


@contextmanager
def writing(store: Store) -> Iterator[None]:
    """Turns what goes wrong while files are published into WriteFailed, which says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise WriteFailed(
                f"no space for a shard in {store.url} ({error.strerror}): free some space and run the same "
                "command again; everything committed so far stays"
            ) from error
        raise WriteFailed(f"cannot write to {store.url}: {error}") from error
    except StoreError as error:
        raise WriteFailed(str(error)) from error
    except ShardError as error:
        raise WriteFailed(f"{error}: what was written is not what is read back; check the disk") from error


def publish_shard(
    store: Store, samples: Iterable[Sample], extension: str = "flac", decode: Decode = decode_flac
) -> tuple[list[File], list[dict[str, Any]]]:
    """Write, verify and publish a shard. Returns its files, and its rows of the index with the shard's name in them."""
    with store.scratch() as path:
        rows, idx = write_shard(path, samples)
        verify_shard(path, rows, extension, decode)
        digest, size = _digest(path), path.stat().st_size
        name = f"shards/{digest[:32]}.tar"
        put_content(store, name, path)
    put_content(store, name + ".idx", idx)
    for row in rows:
        row["shard"] = name
    return [
        File(name=name, sha256=digest, bytes=size, counts={"clips": len(rows)}),
        File(name=name + ".idx", sha256=hashlib.sha256(idx).hexdigest(), bytes=len(idx)),
    ], rows


def publish_table(store: Store, folder: str, table: pa.Table, counts: dict[str, int]) -> File:
    """Publish a table in a folder of the dataset, such as `index` or `ledger`, under the digest of its content."""
    data = parquet_bytes(table)
    digest = hashlib.sha256(data).hexdigest()
    name = f"{folder}/{digest[:32]}.parquet"
    put_content(store, name, data)
    return File(name=name, sha256=digest, bytes=len(data), counts=counts)


def put_content(store: Store, name: str, data: bytes | Path) -> None:
    """Put bytes, or a file, under a name that holds their digest: where the name is taken, the same bytes are there."""
    with suppress(NameTaken):
        store.put_new(name, data)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
