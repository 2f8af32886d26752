"""Shared by all tests: where the real data lies, one Hypothesis profile, and the guard before anything imports torchvision."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Sums of floats depend on how threads share them out. With one thread a run in this process and one in a process of its own are
# equal to the digit, and two test processes don't fight for two cores. Before torch is imported; child processes inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

import taxakey.torchvision_guard  # noqa: F401  before timm, Lightning, torchmetrics and hierarchicalsoftmax are imported

import pytest
from hypothesis import settings

# The first torch call takes longer than Hypothesis' default deadline of 200 ms.
settings.register_profile("taxakey", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("taxakey")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pictures, archives and weights; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("TAXAKEY_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set TAXAKEY_DATA)")
    return folder


@pytest.fixture(scope="session")
def local_spark() -> Iterator[Any]:
    """A real Spark session on this machine, small: what tests need is that it runs, not that it is fast."""
    sql = pytest.importorskip("pyspark.sql", reason="the extra spark isn't installed")
    if not shutil.which("java"):
        pytest.skip("no Java (as root: apt-get install default-jre-headless)")
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # what Spark's Python processes find
    session = sql.SparkSession.builder.master("local[2]")
    for key, value in {
        "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1", "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false", "spark.sql.shuffle.partitions": "4", "spark.driver.memory": "2g",
    }.items():  # fmt: skip
        session = session.config(key, value)
    spark = session.getOrCreate()
    yield spark
    spark.stop()


@pytest.fixture(scope="session")
def sheets_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished dataset of 160 small simulated sheets, made once; tests only read it."""
    from taxakey.artifacts import Plan
    from taxakey.dataset.build import BuildOptions, build
    from taxakey.records.sample import SampleOptions, sample
    from taxakey.records.sources import read_source
    from taxakey.records.splits import split

    folder = tmp_path_factory.mktemp("sheets")
    sample(folder / "herbarium", SampleOptions(sheets=160, species=8, size=96, seed=1))
    observations = split(read_source(folder / "herbarium" / "archive.zip"))
    observations.write(folder / "records", Plan("records"))
    build(folder / "records", folder / "dataset", BuildOptions(longest_edge=96))
    return folder / "dataset"
