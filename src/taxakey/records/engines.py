"""Where SQL over records runs: DuckDB in this process, or Spark on whatever cluster its settings name; the same text for both.

What both understand and mean alike: double-quoted identifiers, md5 as hexadecimal text, comparison of text by bytes, split_part,
window functions. What differs is kept out of the text: lists of values arrive as registered tables, never as literals.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import pyarrow as pa

from taxakey.errors import BadInput

EngineName = Literal["duckdb", "spark"]


class Engine(Protocol):
    """Named tables and what can be asked of them."""

    def read(self, name: str, files: Sequence[Path]) -> None:
        """Make Parquet files one table."""

    def register(self, name: str, table: pa.Table) -> None:
        """Make an Arrow table a table."""

    def view(self, name: str, sql: str) -> None:
        """Name a query; it runs anew wherever it is used."""

    def keep(self, name: str, sql: str) -> None:
        """Name a query that runs once."""

    def fetch(self, sql: str) -> pa.Table:
        """The rows of a query."""

    def write(self, sql: str, path: Path) -> None:
        """Write the rows of a query as Parquet: a file (DuckDB) or a folder of files (Spark); readers take both alike."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def open_engine(name: EngineName, *, memory: str = "2GB", spill: Path | None = None) -> Engine:
    """`memory` and `spill`, the folder for what exceeds it, are DuckDB's; Spark has settings of its own."""
    if name == "duckdb":
        return DuckDBEngine(memory, spill)
    if name == "spark":
        return SparkEngine()
    raise BadInput(f"engine {name!r}: neither duckdb nor spark")


class DuckDBEngine:
    """In this process; uses the cores that the process may use, and disk beyond `memory`."""

    def __init__(self, memory: str = "2GB", spill: Path | None = None) -> None:
        import duckdb

        self._connection = duckdb.connect()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        settings = {"threads": cores, "memory_limit": memory, "preserve_insertion_order": False}
        if spill is not None:
            settings["temp_directory"] = str(spill)
        for setting, value in settings.items():
            self._connection.execute(f"set {setting} = ?", [value])

    def read(self, name: str, files: Sequence[Path]) -> None:
        relation = self._connection.read_parquet([str(file) for file in files], union_by_name=True)
        relation.create_view(name)

    def register(self, name: str, table: pa.Table) -> None:
        # Copied: of a table that isn't its own, DuckDB doesn't know the size, and may take it for the larger side of a join.
        self._connection.register("arriving", table)
        self._connection.execute(f"create or replace temp table {name} as select * from arriving")
        self._connection.unregister("arriving")

    def view(self, name: str, sql: str) -> None:
        self._connection.execute(f"create or replace temp view {name} as {sql}")

    def keep(self, name: str, sql: str) -> None:
        self._connection.execute(f"create or replace temp table {name} as {sql}")

    def fetch(self, sql: str) -> pa.Table:
        return self._connection.sql(sql).to_arrow_table()

    def write(self, sql: str, path: Path) -> None:
        self._connection.sql(sql).write_parquet(str(path), compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()


def spark_session() -> Any:
    """The session that the usual settings (spark-submit, SPARK_CONF_DIR, SPARK_REMOTE) describe; a local one by default."""
    from pyspark.sql import SparkSession

    return SparkSession.builder.appName("taxakey").getOrCreate()


class SparkEngine:
    """On `spark_session`."""

    def __init__(self) -> None:
        self._session = spark_session()
        self._session.conf.set("spark.sql.ansi.enabled", "true")
        self._session.conf.set("spark.sql.ansi.doubleQuotedIdentifiers", "true")
        self._kept: list[Any] = []

    def read(self, name: str, files: Sequence[Path]) -> None:
        self._session.read.option("mergeSchema", "true").parquet(*map(str, files)).createOrReplaceTempView(name)

    def register(self, name: str, table: pa.Table) -> None:
        self._session.createDataFrame(table).createOrReplaceTempView(name)

    def view(self, name: str, sql: str) -> None:
        self._session.sql(sql).createOrReplaceTempView(name)

    def keep(self, name: str, sql: str) -> None:
        kept = self._session.sql(sql).persist()
        self._kept.append(kept)
        kept.createOrReplaceTempView(name)

    def fetch(self, sql: str) -> pa.Table:
        return self._session.sql(sql).toArrow()

    def write(self, sql: str, path: Path) -> None:
        self._session.sql(sql).write.mode("overwrite").option("compression", "zstd").parquet(str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for kept in self._kept:
            kept.unpersist()
