"""What carries jobs on, without a server: for tests of its parts."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from millpond.home import Home
from millpond.jobs.advancing import Advancer
from millpond.jobs.carrying import Carrier
from millpond.jobs.costs import TaskCosts
from millpond.jobs.launching import Launcher
from millpond.jobs.outputs import Outputs
from millpond.jobs.runtime import Runtime
from millpond.jobs.task_files import TaskFiles
from millpond.kernel.database import Database
from millpond.kernel.settings import JobsSettings
from tests.billing.free import task_costs

NOTHING: Any = None
"""Who starts no process needs none of it."""


def launcher_in(place: Path, **given: Any) -> Launcher:
    """What starts tasks, with files in a directory."""
    Home(place).server_name()
    return _launcher(place, **given)


def runtime_of(
    database: Database, launcher: Launcher | None = None, costs: TaskCosts | None = None, **given: Any
) -> Runtime:
    """What carries jobs on, as the server `here`."""
    launcher = launcher or _launcher(Path("/nowhere"))
    outputs = Outputs(database, launcher.files, launcher.server)
    costs = costs or task_costs(database)
    options: dict[str, Any] = {"at_once": 1, "kept": timedelta(days=60)} | given
    return Runtime(database, Advancer(database, NOTHING, NOTHING), launcher, outputs, costs, **options)


def _launcher(place: Path, *, server: str = "here", **given: Any) -> Launcher:
    files = TaskFiles(place)
    parts = dict.fromkeys(("code", "sql", "clusters", "costs", "lend", "principal_named"), NOTHING) | given
    carrier = Carrier(files, NOTHING, NOTHING, place / "jobs.log")
    return Launcher(files=files, carrier=carrier, server=server, settings=JobsSettings(), **parts)
