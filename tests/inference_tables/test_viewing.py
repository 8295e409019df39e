"""The views of inference tables are kept, each table's by itself."""

from typing import Any

import pytest

from millpond.inference_tables.viewing import Viewing
from tests.inference_tables.conftest import Captured, wanted


class Serving:
    """Endpoints whose models cannot be read."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def get_endpoint(self, _principal: Any, name: str) -> None:
        self.asked.append(name)
        raise RecursionError


@pytest.mark.parametrize("captured", ["sqlite"], indirect=True)
def test_one_table_whose_views_cannot_be_made_keeps_no_other_waiting(captured: Captured) -> None:
    captures = captured.captures(captured.log())
    for name in ("one", "two"):
        kept = captures.prepare(captured.admin, name, wanted(name))
        with captured.database.write() as connection:
            captures.attach(connection, captured.admin, (name, name), kept)
    serving: Any = Serving()
    sql: Any = None
    viewing = Viewing(captured.database, captured.catalog, sql, lambda: serving, captured.identity.active_principal)
    viewing.run_once()
    viewing.run_once()
    assert sorted(serving.asked) == ["one", "two"], "each once: after an error it rests"
