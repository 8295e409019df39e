"""`millpond doctor`: what could keep a server from working on this machine, and how to mend it."""

import importlib.metadata
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from sqlalchemy.exc import SQLAlchemyError

from millpond import __version__
from millpond.cli.server import data_dir_option, running_state
from millpond.home import Home
from millpond.kernel.errors import MillpondError
from millpond.kernel.settings import Settings, load_settings

if TYPE_CHECKING:
    from millpond.secrets.keyring import Keyring

_MINIMUM_FREE_BYTES = 1 << 30
_ENGINE_START_TIMEOUT_S = 30


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check: what was looked at, what was found, and how to mend it when it is not well."""

    name: str
    ok: bool
    detail: str
    mend: str = ""


@click.command()
@data_dir_option
def doctor(data_dir: Path) -> None:
    """Check ports, disk, versions, database and engine; say how to mend what is wrong (exit code 1)."""
    settings = load_settings(data_dir=data_dir)
    healthy = True
    for finding in examine(settings):
        healthy &= finding.ok
        click.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name:<10} {finding.detail}")
        if not finding.ok:
            click.echo(f"      {'':<10} -> {finding.mend}")
    sys.exit(0 if healthy else 1)


def examine(settings: Settings) -> Iterator[Finding]:
    """The findings, each as soon as it is known."""
    checks: tuple[Callable[[Settings], Finding], ...] = (
        _python, _packages, _data_dir, _disk, _server, _ports, _database, _secrets, _engine, _sandbox,
    )  # fmt: skip
    for check in checks:
        yield check(settings)


def _python(_settings: Settings) -> Finding:
    detail = f"Millpond {__version__} on Python {sys.version.split()[0]} ({sys.executable})"
    return Finding(name="version", ok=sys.version_info >= (3, 11), detail=detail, mend="Install Python 3.11 or newer.")


def _packages(_settings: Settings) -> Finding:
    """Each required package is installed in a version that we allow."""
    from packaging.requirements import Requirement

    wrong = []
    for line in importlib.metadata.requires("millpond") or []:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} is {found}, not {requirement.specifier}")
    detail = "; ".join(wrong) or "all required packages are there"
    return Finding(
        name="packages", ok=not wrong, detail=detail, mend="pip install --upgrade --force-reinstall millpond"
    )


def _data_dir(settings: Settings) -> Finding:
    root = settings.data_dir
    existing = next(path for path in (root, *root.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        mend = f"Choose another --data-dir, or: chown {os.getuid()} {existing}"
        return Finding(name="data dir", ok=False, detail=f"{existing} is not writable", mend=mend)
    key = root / "secret.key"
    if key.exists() and key.stat().st_mode & 0o077:
        return Finding(name="data dir", ok=False, detail=f"{key} can be read by others", mend=f"chmod 600 {key}")
    return Finding(name="data dir", ok=True, detail=str(root) + ("" if root.exists() else " (made at the first start)"))


def _disk(settings: Settings) -> Finding:
    existing = next(path for path in (settings.data_dir, *settings.data_dir.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    mend = "Free some space there, or choose another --data-dir."
    return Finding(name="disk", ok=free >= _MINIMUM_FREE_BYTES, detail=f"{free / (1 << 30):.1f} GiB free", mend=mend)


def _server(settings: Settings) -> Finding:
    state = running_state(Home(settings.data_dir))
    if state is None:
        return Finding(name="server", ok=True, detail="does not run")
    return Finding(name="server", ok=True, detail=f"process {state.pid} serves {state.url}")


def _ports(settings: Settings) -> Finding:
    state = running_state(Home(settings.data_dir))
    if state is not None:
        return Finding(name="ports", ok=True, detail="in use by our server")
    taken = [port for port in (settings.port, settings.spark_port) if port and not _is_free(settings.host, port)]
    detail = f"{', '.join(map(str, taken))} in use" if taken else f"{settings.port} and {settings.spark_port} are free"
    mend = "Stop what listens there ('ss -ltnp' names it), or choose others with --port and --spark-port."
    return Finding(name="ports", ok=not taken, detail=detail, mend=mend)


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _database(settings: Settings) -> Finding:
    from millpond.kernel.database import Database, sqlite_path
    from millpond.kernel.migrations import current, head

    url = settings.effective_database_url
    shown = re.sub(r"//([^:/@]+):[^@]*@", r"//\1:***@", url)
    path = sqlite_path(url)
    if path is not None and not path.exists():
        return Finding(name="database", ok=True, detail=f"{shown} (made at the first start)")
    try:
        revision = current(Database(url))
    except Exception as error:  # a check is a boundary: whatever is wrong is the finding
        mend = "Check --database-url; 'millpond[postgres]' must be installed for PostgreSQL, and the server reachable."
        return Finding(name="database", ok=False, detail=f"{shown}: {str(error).splitlines()[0]}", mend=mend)
    newer = revision is not None and revision > head()
    detail = f"{shown}, revision {revision or 'none yet'} of {head()}"
    return Finding(name="database", ok=not newer, detail=detail, mend="Install the newer Millpond that wrote it.")


def _secrets(settings: Settings) -> Finding:
    """The master key that the database names is here, and its file is for nobody else."""
    from millpond.secrets.keyring import Keyring

    mend = "Bring the key back from a backup, or set MILLPOND_SECRETS__KEY or MILLPOND_SECRETS__KEY_COMMAND to it."
    keyring = Keyring(Home(settings.data_dir).keys, settings.secrets)
    try:
        key_id = _master_key_in_use(settings.effective_database_url, keyring)
    except MillpondError as error:
        return Finding(name="secrets", ok=False, detail=error.message, mend=mend)
    except SQLAlchemyError:
        return Finding(name="secrets", ok=True, detail="not looked at: the database has no such tables, or no answer")
    if key_id is None:
        return Finding(name="secrets", ok=True, detail="no master key yet (made with the first scope)")
    key_path = keyring.path_of(key_id)
    if key_path.exists() and key_path.stat().st_mode & 0o077:
        detail = f"{key_path} can be read by others"
        return Finding(name="secrets", ok=False, detail=detail, mend=f"chmod 600 {key_path}")
    return Finding(name="secrets", ok=True, detail=f"master key {key_id} is here")


def _master_key_in_use(url: str, keyring: "Keyring") -> str | None:
    from millpond.kernel.database import Database, sqlite_path
    from millpond.secrets.service import SecretsService

    path = sqlite_path(url)
    if path is not None and not path.exists():
        return None
    database = Database(url)
    try:
        return SecretsService(database, keyring).check_master_key()
    finally:
        database.dispose()


def _engine(settings: Settings) -> Finding:
    if settings.engine.remote:
        host, _, rest = settings.engine.remote.removeprefix("sc://").partition(":")
        port = int(re.match(r"\d*", rest).group() or 15002)  # type: ignore[union-attr]
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError as error:
            mend = "Start the Spark Connect server there, or unset MILLPOND_ENGINE__REMOTE."
            return Finding(name="engine", ok=False, detail=f"{settings.engine.remote}: {error}", mend=mend)
        return Finding(name="engine", ok=True, detail=settings.engine.remote)
    from millpond.engine.probe import probe_engine

    try:
        detail = probe_engine(timeout_s=_ENGINE_START_TIMEOUT_S)
    except MillpondError as error:
        return Finding(name="engine", ok=False, detail=error.message, mend="pip install --force-reinstall pysail")
    return Finding(name="engine", ok=True, detail=detail)


def _sandbox(_settings: Settings) -> Finding:
    from millpond.kernel.sandbox import landlock_abi

    abi = landlock_abi()
    detail = (
        f"Landlock ABI {abi}: user code is confined to its files"
        if abi
        else ("no Landlock in this kernel: user code can read what this account can read")
    )
    return Finding(name="sandbox", ok=True, detail=detail)
