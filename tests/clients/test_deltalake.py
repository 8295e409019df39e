"""Tables through delta-rs' own, unmodified `uc://` addresses."""

import os
import subprocess
import sys
import time
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest

from millpond.catalog.domain import ObjectName
from tests.catalog.conftest import Site, catalog, data_dir, database, make_table, people, site

__all__ = ["catalog", "data_dir", "database", "people", "site"]
_TRIES = 12
_READ = "import deltalake; print(deltalake.DeltaTable('uc://lake.default.t').to_pyarrow_table()['name'].to_pylist())"


def read_as(site: Site, who: str, directory: Path) -> list[tuple[int, str]]:
    """Exit codes and output of delta-rs, each in a process of its own; only those that came to an end.

    delta-rs 1.5 to 1.6.6 stops for ever in about half of its starts on two cores, after the last answer and on its
    own side (1.3.0 never did): so it does before a server of the standard library, see `deltalake_alone.py`. So it is
    started several times at once; the first that ends is enough.
    """
    environment = {
        **os.environ,
        "DATABRICKS_HOST": site.url,
        "DATABRICKS_TOKEN": site.people.tokens[who],
        "UNITY_ALLOW_HTTP_URL": "true",
    }
    started = [_start(directory / f"{number}.log", environment) for number in range(_TRIES)]
    try:
        deadline = time.monotonic() + 60
        while all(process.poll() is None for process in started) and time.monotonic() < deadline:
            time.sleep(0.05)
        ended = [(process.poll(), directory / f"{number}.log") for number, process in enumerate(started)]
        return [(code, log.read_text()) for code, log in ended if code is not None]
    finally:
        for process in started:
            process.kill()
            process.wait()


def _start(log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen([sys.executable, "-c", _READ], env=environment, stdout=output, stderr=output)


@pytest.fixture
def lake(site: Site) -> Site:
    """A table of alice's with two rows."""
    site.catalog.create_catalog(site.people.alice, name="lake")
    table = make_table(site.catalog, site.people.alice, "lake.default.t")
    rows = pa.table({"id": pa.array([1, 2], pa.int64()), "name": ["a", "b"]})
    deltalake.write_deltalake(table.storage_location, rows)
    return site


def test_delta_rs_reads_a_table_by_its_name(lake: Site, tmp_path: Path) -> None:
    """From the name to the rows. Its exit code says nothing: it may abort in its own threads once it is done."""
    outcomes = read_as(lake, lake.people.alice.name, tmp_path)
    assert outcomes
    assert [output.splitlines()[0] for _, output in outcomes] == ["['a', 'b']"] * len(outcomes), outcomes


def test_delta_rs_is_told_why_it_may_not(lake: Site, tmp_path: Path) -> None:
    """What one may not see does not exist."""
    outcomes = read_as(lake, lake.people.bob.name, tmp_path)
    assert outcomes
    assert all(code != 0 and "does not exist" in output for code, output in outcomes)


def test_delta_rs_reads_a_table_at_the_place_that_the_catalog_names(lake: Site) -> None:
    """The way that needs no `uc://`."""
    place = lake.catalog.get_table(lake.people.alice, ObjectName.parse("lake.default.t")).storage_location
    assert deltalake.DeltaTable(place).to_pyarrow_table()["name"].to_pylist() == ["a", "b"]
