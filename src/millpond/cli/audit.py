"""`millpond audit`: for whoever keeps the server, on the database itself, whether the server runs or not."""

import getpass
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from pathlib import Path

import click
import orjson

from millpond.audit.chain import verify as verify_chain
from millpond.audit.domain import Filter, Link
from millpond.audit.drain import Drain
from millpond.audit.service import export as export_links
from millpond.cli.server import data_dir_option
from millpond.home import Home
from millpond.identity.domain import SYSTEM
from millpond.journal.domain import Event
from millpond.journal.spool import Spool
from millpond.kernel.database import Database, sqlite_path
from millpond.kernel.errors import InvalidArgument
from millpond.kernel.migrations import ensure_schema
from millpond.kernel.settings import load_settings


@click.group()
def audit() -> None:
    """Check and export the record of who did what."""


@audit.command()
@data_dir_option
def verify(data_dir: Path) -> None:
    """Check the chain of all entries; name the first broken link (exit code 1)."""
    verdict = verify_chain(_open(data_dir)[0])
    if verdict.broken is not None:
        click.echo(f"BROKEN at link {verdict.broken.sequence} ({verdict.broken.reason}): {verdict.broken.detail}")
        sys.exit(1)
    since = f", from link {verdict.head.anchor_sequence + 1} on" if verdict.head.anchor_sequence else ""
    click.echo(f"ok: {verdict.checked} links{since}; the newest is {verdict.head.sequence} with hash")
    click.echo(verdict.head.hash)


@audit.command()
@data_dir_option
@click.option("--from", "since", metavar="DATE", help="From this day or moment on (UTC unless it says otherwise).")
@click.option("--to", "until", metavar="DATE", help="Until before this day or moment.")
@click.option("--format", "form", type=click.Choice(["jsonl"]), default="jsonl", show_default=True)
def export(data_dir: Path, since: str | None, until: str | None, form: str) -> None:
    """Print entries, oldest first, each with its place in the chain."""
    wanted = Filter(since=_moment(since), until=_moment(until))
    database, drain = _open(data_dir)
    _tell(data_dir, since=since, until=until)
    drain.run_once()
    for link in export_links(database, wanted):
        _FORMS[form](link)


def _tell(data_dir: Path, **asked: str | None) -> None:
    """Reading the audit is an act too, and is in what is read."""
    spool = Spool(Home(load_settings(data_dir=data_dir).data_dir).spools)
    details = {"account": getpass.getuser(), **{key: value for key, value in asked.items() if value}}
    event = Event(act="export", kind="audit", name="audit", actor_id=SYSTEM.id, actor=SYSTEM.name, details=details)
    spool.append(event.line())
    spool.close()


def _jsonl(link: Link) -> None:
    chain = {"sequence": link.sequence, "previous": link.previous, "hash": link.hash}
    click.echo(orjson.dumps({**chain, "event": orjson.Fragment(link.body)}))


_FORMS: dict[str, Callable[[Link], None]] = {"jsonl": _jsonl}


def _open(data_dir: Path) -> tuple[Database, Drain]:
    settings = load_settings(data_dir=data_dir)
    path = sqlite_path(settings.effective_database_url)
    if path is not None and not path.exists():
        raise InvalidArgument(f"There is no Millpond in {settings.data_dir}; give its --data-dir.")
    database = Database(settings.effective_database_url)
    ensure_schema(database)
    return database, Drain(database, Home(settings.data_dir).spools)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        if len(text) <= len("2026-01-31"):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidArgument(f"'{text}' is no date; write 2026-01-31 or 2026-01-31T12:00:00.") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
