"""A cluster's driver: the process from which all that runs on the cluster is forked, with its slice of the machine."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from millpond.compute.domain import Cluster
from millpond.compute.processes import keep_on
from millpond.kernel.environments import Environments
from millpond.kernel.errors import Unavailable
from millpond.kernel.packages import Packages, held_on
from millpond.kernel.process import Child, ChildSpec
from millpond.kernel.process_usage import seen, with_all_below
from millpond.kernel.zygote import Zygote, available

_PING_S = 30.0
"""One that does not answer for so long, on a machine however busy, is taken for dead."""


class Driver:
    """A process that waits to fork others."""

    def __init__(self, preload: Sequence[str], log_path: Path) -> None:
        self._zygote = Zygote(preload, env={}, log_path=log_path)
        self.pid = 0
        self.cores: tuple[int, ...] = ()

    def start(self) -> None:
        """Have it ready. Blocks. Raises Unavailable."""
        if not available():
            raise Unavailable("Clusters need Linux, which can fork processes and watch them.")
        self.pid = self._zygote.start()

    def place(self, cores: Sequence[int], others: Sequence[int] = ()) -> None:
        """Have it, what it has forked and `others` run on some cores."""
        self.cores = tuple(cores)
        keep_on(with_all_below(seen(), [self.pid, *others]), cores)

    def answers(self) -> bool:
        """Whether it lives and answers. Blocks."""
        return self._zygote.answers(_PING_S)

    def spawn(self, spec: ChildSpec) -> Child:
        """A child on the cluster. Raises Unavailable, as for all time after `close`."""
        return self._zygote.spawn(spec)

    def close(self) -> None:
        """End it, and all below it, also what made a session of its own."""
        self._zygote.close_for_good()


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A place on a cluster that runs: where a process of users' code begins, and what it has there."""

    cluster: Cluster
    spawn: Callable[[ChildSpec], Child]
    memory_bytes: int
    variables: Mapping[str, str] = field(repr=False)
    """Of the cluster's `spark_env_vars`, with their secrets put in."""
    secrets: tuple[str, ...] = field(repr=False)
    """Among them, to be kept out of what is shown."""
    lock: Sequence[str]
    """The packages of its runtime; none for the server's own."""
    libraries: Sequence[str]
    """Packages that are installed on it."""
    wheels: Sequence[str]
    """And wheels, by their places on this machine."""
    environments: Environments

    def packages(self, more: Sequence[str] = ()) -> AbstractContextManager[Packages]:
        """What a process finds there, while the block runs. Raises MillpondError."""
        return held_on(self.environments, self.lock, [*self.libraries, *more])

    def copied_wheels(self, directory: Path) -> list[str]:
        """The cluster's wheels, where a process is to find them."""
        places = []
        for number, wheel in enumerate(self.wheels):
            place = directory / f"cluster-wheel-{number}" / Path(wheel).name
            place.parent.mkdir()
            shutil.copyfile(wheel, place)
            places.append(str(place))
        return places

    def remote(self, address: str) -> str:
        """The address of Spark for code on this cluster."""
        return f"{address.rstrip('/;')};x-databricks-cluster-id={self.cluster.id}"
