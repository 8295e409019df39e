"""One Alembic history for every room, for SQLite and PostgreSQL.

`ensure_schema` brings a database to the newest revision; the server and the gateway both call it when they start, and
a lock lets the first one do the work. Revisions are named by number (`0001_identity.py` is revision "0001"), so the
newest is known without importing Alembic, which costs half a second.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import inspect, text

from millpond.kernel.database import Database, metadata, sqlite_path
from millpond.kernel.errors import FailedPrecondition

VERSION_TABLE = "millpond_version"
_DIRECTORY = Path(__file__).parent
_ADVISORY_LOCK = 0x6D696C6C  # "mill"


def head() -> str:
    """The newest revision that this code knows."""
    return max(path.stem[:4] for path in (_DIRECTORY / "versions").glob("[0-9]*.py"))


def current(database: Database) -> str | None:
    """The revision of a database; None when it holds no schema of ours."""
    with database.read() as connection:
        if not inspect(connection).has_table(VERSION_TABLE):
            return None
        # VERSION_TABLE is a constant of this module
        row = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).first()  # noqa: S608
    return row[0] if row else None


def ensure_schema(database: Database) -> None:
    """Bring the database to `head()`; safe when several processes start together.

    Raises FailedPrecondition when the database was written by a newer Millpond.
    """
    if current(database) == head():
        return
    with _migration_lock(database):
        found = current(database)
        if found == head():
            return
        if found is not None and found > head():
            raise FailedPrecondition(
                f"The database is at revision {found}, newer than this Millpond's {head()}; install the newer version."
            )
        _upgrade(database)


def _upgrade(database: Database) -> None:
    from alembic.config import Config  # here, because it is slow to import and almost never needed
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_DIRECTORY))
    scripts = ScriptDirectory.from_config(config)
    with (
        database.write() as connection,
        EnvironmentContext(
            config, scripts, fn=lambda revision, _context: scripts._upgrade_revs(head(), revision)
        ) as env,
    ):
        env.configure(connection=connection, target_metadata=metadata, version_table=VERSION_TABLE)
        env.run_migrations()


@contextmanager
def _migration_lock(database: Database) -> Iterator[None]:
    path = sqlite_path(database.url)
    if path is not None:
        with path.with_suffix(".migrate.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        return
    with database.engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_LOCK})
