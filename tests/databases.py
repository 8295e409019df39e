"""Databases with our schema for the tests: copies of one that was migrated, as a copy takes a fraction of the time."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import make_url

from millpond.kernel.database import Database
from millpond.kernel.migrations import ensure_schema
from tests.postgres import fresh_database

BACKENDS = ("sqlite", "postgresql")


class Databases(ExitStack):
    """Makes databases of each kind, in which `prepare` has been at work, until it is closed."""

    def __init__(self, directory: Path, postgres_url: str, prepare: Callable[[Database], None] = ensure_schema) -> None:
        super().__init__()
        self._directory = directory
        self._postgres_url = postgres_url
        self._prepare = prepare
        self._templates: dict[str, str] = {}

    @contextmanager
    def new(self, backend: str, directory: Path) -> Iterator[Database]:
        """A database of a kind, gone after the block; one on SQLite is a file in the directory."""
        if backend not in self._templates:
            self._templates[backend] = self._new_template(backend)
        with ExitStack() as stack:
            database = Database(self._copy(backend, directory, stack))
            stack.callback(database.dispose)
            yield database

    def _copy(self, backend: str, directory: Path, stack: ExitStack) -> str:
        template = self._templates[backend]
        if backend == "sqlite":
            return _sqlite(shutil.copy(template, directory / "millpond.db"))
        return stack.enter_context(fresh_database(self._postgres_url, template=template))

    def _new_template(self, backend: str) -> str:
        path = self._directory / "template.db"
        url = _sqlite(path) if backend == "sqlite" else self.enter_context(fresh_database(self._postgres_url))
        database = Database(url)
        self._prepare(database)
        database.dispose()
        return str(path) if backend == "sqlite" else str(make_url(url).database)


def _sqlite(path: Path) -> str:
    return f"sqlite:///{path}"
