"""A snapshot is a dataset as some of its commits left it; queries (`view.py`) and training (`reading/`) read it.

pyarrow is imported when the first table is wanted: a machine that trains on tensors needs none.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from autorecap.dataset.log import READERS, State, describe, read_state
from autorecap.dataset.store import Store, open_store, patiently

if TYPE_CHECKING:
    import pyarrow as pa


class Snapshot:
    """The committed files of a dataset at one moment. What is committed later does not appear in it."""

    def __init__(self, url: str, seq: int | None = None, *, tries: int = 1) -> None:
        """`seq`: how many commits count; None: all there are now. `tries`: how often a read that fails is tried.

        Raises DatasetError where no dataset lies, or one with fewer commits.
        """
        self.store: Store = open_store(url)
        self.tries = tries
        self.description = describe(self.store)
        self.kind: str = self.description["kind"]
        self.state: State = read_state(self.store, seq=seq, tries=tries)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the dataset was made with; the latest ones, where they were changed on purpose."""
        settings: dict[str, Any] = self.state.settings or self.description.get("settings", {})
        return settings

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> "pa.Table":
        """Read the table in one file, or some of its columns. Raises DatasetError that names a damaged file."""
        from autorecap.dataset.parquet import read_parquet

        return patiently(lambda: read_parquet(self.store, name, columns), self.tries)

    def read_tables(self, names: Sequence[str], columns: Sequence[str] | None = None) -> "list[pa.Table]":
        """Read the tables in several files, some at once, and return them in the order of the names."""
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(lambda name: self.read_table(name, columns), names))
