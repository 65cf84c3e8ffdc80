"""Reads Parquet files of a store, and makes the bytes of new ones."""

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from autorecap.dataset.log import DatasetError
from autorecap.dataset.store import Store


def parquet_bytes(table: pa.Table) -> bytes:
    """Return the table as the content of a file. Equal tables give equal bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def read_parquet(store: Store, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table of the store. Raises DatasetError that names a damaged file, FileNotFoundError for a missing one."""
    try:
        return pq.read_table(pa.BufferReader(store.read(name)), columns=columns and list(columns))
    except pa.ArrowException as error:
        raise DatasetError(f"{store.url}/{name} is damaged ({error}): restore it from a copy") from error
