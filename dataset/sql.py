"""SQL over tables in memory: what users ask of a dataset, answered by DuckDB."""

from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa

from autorecap.base.errors import ForeseenError


class BadQuery(ForeseenError):
    """DuckDB does not understand the query."""


def connect() -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection whose queries see its tables, and not the variables of this program."""
    connection = duckdb.connect()
    connection.execute("set python_enable_replacements = false")
    return connection


def ask(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[Any] = (), *, hint: str
) -> pa.Table | None:
    """Return the result of a query; None where the text asks for nothing. Raises BadQuery that ends with the hint."""
    try:
        result = connection.sql(query, params=list(parameters) or None)
        return None if result is None else result.to_arrow_table()
    except (duckdb.Error, RuntimeError) as error:  # RuntimeError: text that is not UTF-8
        raise BadQuery(f"{error}\n{hint}") from error
