"""UPDATE, DELETE and MERGE beside whoever makes a checkpoint, which the engine may be misled by."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from millpond.catalog.storage import ConfiguredStorages
from millpond.engine.authorship import MARK
from millpond.engine.changes import Changer
from millpond.engine.lineage import capture
from millpond.engine.queries import analyse
from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.settings import S3Settings

COMMIT = "01a21f6a"


class MisledEngine:
    """Finds no rows as long as somebody makes a checkpoint while it looks, which `checkpoints` times is the case."""

    def __init__(self, table: Path, checkpoints: int) -> None:
        self._table = table
        self._checkpoints = checkpoints
        self.is_misled: list[bool] = []

    async def run_retrying(self, *_: Any, **__: Any) -> None:
        if len(self.is_misled) < self._checkpoints:
            write_deltalake(self._table, pa.table({"id": [9]}), mode="append")
            DeltaTable(self._table).create_checkpoint()
        self.is_misled.append((self._table / "_delta_log" / "_last_checkpoint").exists())
        if not self.is_misled[-1]:
            signed = CommitProperties(custom_metadata={MARK: COMMIT})
            DeltaTable(self._table).delete("id = 0", commit_properties=signed)


def delete(table: Path, engine: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What DELETE WHERE id = 0 answers, begun at version 2."""
    changer = Changer(SimpleNamespace(storages=ConfiguredStorages(S3Settings())), engine, {})  # type: ignore[arg-type]
    monkeypatch.setattr(changer, "_target", lambda *_: (table.as_uri(), None))
    monkeypatch.setattr(changer, "_command", lambda *_: (None, 2))
    monkeypatch.setattr(capture, "wrote", lambda *_, **__: None)
    ann = Principal(id="1", name="ann@example.com", kind=PrincipalKind.USER, is_admin=False)
    session: Any = SimpleNamespace(principal=ann, setting=lambda _: None)
    query, binder = analyse("DELETE FROM t WHERE id = 0"), SimpleNamespace(needs=None)
    return asyncio.run(changer.change(session, None, query, binder, commit=COMMIT))  # type: ignore[arg-type]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for number in range(3):
        write_deltalake(tmp_path, pa.table({"id": [number]}), mode="append")
    return tmp_path


@pytest.mark.parametrize("checkpoints", [0, 1, 3])
def test_what_a_checkpoint_hid_is_looked_for_again(
    table: Path, checkpoints: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = MisledEngine(table, checkpoints)
    delete(table, engine, monkeypatch)
    assert engine.is_misled == [True] * checkpoints + [False]
    assert 0 not in DeltaTable(table).to_pyarrow_table()["id"].to_pylist()


def test_what_finds_no_rows_ends_beside_other_writers(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    DeltaTable(table).create_checkpoint()
    turns = []

    async def append(*_: Any, **__: Any) -> None:
        turns.append(1)
        write_deltalake(table, pa.table({"id": [9]}), mode="append")

    answer = delete(table, SimpleNamespace(run_retrying=append), monkeypatch)
    assert (len(turns), answer["num_affected_rows"].to_pylist()) == (1, [0])
    assert (table / "_delta_log" / "_last_checkpoint").exists()
