"""Tables come back from a store as they were, equal ones are equal bytes, and a damaged one is named."""

from pathlib import Path

import pyarrow as pa
import pytest

from autorecap.dataset.log import DatasetError
from autorecap.dataset.parquet import parquet_bytes, read_parquet
from autorecap.dataset.store import open_store


def test_tables_come_back_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    table = pa.table({"row": [1, 2], "caption": ["Rain", None]})
    data = parquet_bytes(table)
    assert data == parquet_bytes(table)
    store = open_store(str(tmp_path))
    store.put("index/a.parquet", data)
    assert read_parquet(store, "index/a.parquet").equals(table)
    assert read_parquet(store, "index/a.parquet", ("caption",)).column_names == ["caption"]
    store.put("index/a.parquet", data[:40])
    with pytest.raises(DatasetError, match=r"index/a\.parquet is damaged .*: restore it from a copy"):
        read_parquet(store, "index/a.parquet")
    with pytest.raises(FileNotFoundError):
        read_parquet(store, "index/b.parquet")
