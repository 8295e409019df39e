"""Libraries of clusters: asked for by users, installed by the server that has the cluster."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from millpond.compute.clusters import ClusterService
from millpond.compute.domain import Cluster, Library, State
from millpond.compute.policies import PolicyService
from millpond.compute.store import clusters as rows
from millpond.compute.versions import VERSIONS
from millpond.identity import acts
from millpond.identity.access import Act
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.environments import Environments, clean_requirements
from millpond.kernel.errors import InvalidArgument, MillpondError, NotImplementedHere
from millpond.kernel.packages import held_on, needs_of_wheel, without

_NOT_HERE = {
    "jar": "there is no JVM", "maven": "there is no JVM", "egg": "build a wheel", "cran": "there is no R",
}  # fmt: skip
_MOST = 200
WAITING = ("PENDING", "INSTALLING")

Read = Callable[[Principal, str], bytes]
"""A file of a volume or the workspace, with somebody's rights."""


class LibraryService:
    """Libraries, for users."""

    def __init__(
        self, database: Database, clusters: ClusterService, policies: PolicyService, wake: Callable[[], None]
    ) -> None:
        self._database = database
        self._clusters = clusters
        self._policies = policies
        self._wake = wake

    def install(self, principal: Principal, cluster_id: str, asked: Sequence[Mapping[str, Any]]) -> None:
        """Ask for libraries; where they are there already, nothing comes of it. Raises NotFound, InvalidArgument,
        PermissionDenied, NotImplementedHere."""
        cluster = self._clusters.require(principal, cluster_id, Act.MANAGE)
        wanted = [checked(library) for library in asked]
        with self._database.write() as connection:
            there = {each.key: each for each in rows.libraries_of(connection, cluster_id)}
            if len(there.keys() | {key for key, _ in wanted}) > _MOST:
                raise InvalidArgument(f"A cluster has at most {_MOST} libraries.")
            for key, library in wanted:
                known = there.get(key)
                if known is None or known.status not in ("INSTALLED", *WAITING):
                    new = Library(
                        cluster_id=cluster_id, key=key, library=library, status="PENDING", added_by=principal.name
                    )
                    rows.put_library(connection, new)
            acts.changed(connection, principal.name, "install libraries on", "cluster", cluster.name)
        self._wake()

    def install_of_policy(self, cluster: Cluster) -> None:
        """Ask for what the cluster's policy says that all its clusters have."""
        wanted = self._policies.libraries_of(cluster.spec.get("policy_id"))
        with self._database.write() as connection:
            for key, library in map(checked, wanted):
                new = Library(
                    cluster_id=cluster.id, key=key, library=library, status="PENDING", added_by=cluster.creator
                )
                rows.put_library(connection, new)

    def uninstall(self, principal: Principal, cluster_id: str, asked: Sequence[Mapping[str, Any]]) -> None:
        """Have libraries go: at once from a cluster that has ended, else when it is started anew."""
        cluster = self._clusters.require(principal, cluster_id, Act.MANAGE)
        with self._database.write() as connection:
            there = {each.key: each for each in rows.libraries_of(connection, cluster_id)}
            for key, _ in map(checked, asked):
                known = there.get(key)
                if known is not None and cluster.state.ended:
                    rows.remove_library(connection, cluster_id, key)
                elif known is not None:
                    rows.put_library(connection, replace(known, status="UNINSTALL_ON_RESTART", messages=()))
            acts.changed(connection, principal.name, "uninstall libraries from", "cluster", cluster.name)

    def of_cluster(self, principal: Principal, cluster_id: str) -> list[Library]:
        """How a cluster's libraries stand. Raises NotFound."""
        self._clusters.get(principal, cluster_id)
        with self._database.read() as connection:
            return rows.libraries_of(connection, cluster_id)

    def of_all(self, principal: Principal) -> dict[str, list[Library]]:
        """How libraries stand, by cluster."""
        mine = [cluster.id for cluster in self._clusters.list_all(principal)]
        found: dict[str, list[Library]] = {}
        with self._database.read() as connection:
            for library in rows.libraries_of(connection, *mine):
                found.setdefault(library.cluster_id, []).append(library)
        return found


def checked(library: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A library as it is kept, and which it is. Raises InvalidArgument, NotImplementedHere."""
    given = {name: value for name, value in library.items() if value}
    if len(given) != 1:
        raise InvalidArgument("A library is one of pypi and whl.")
    [(kind, value)] = given.items()
    if kind == "pypi" and isinstance(value, Mapping):
        if value.get("repo"):
            raise NotImplementedHere("Libraries come from the server's own package index; leave repo out.")
        names = clean_requirements([str(value.get("package", ""))])
        if len(names) != 1:
            raise InvalidArgument("A pypi library has one package, such as numpy==2.1.")
        return _key("pypi", names[0]), {"pypi": {"package": str(value["package"])}}
    if kind in ("whl", "requirements") and isinstance(value, str):
        path = "/" + value.removeprefix("dbfs:").lstrip("/")
        if kind == "whl" and not path.endswith(".whl"):
            raise InvalidArgument(f"'{value[:80]}' is no wheel: its name ends with .whl.")
        return _key(kind, path), {kind: path}
    if kind in _NOT_HERE:
        raise NotImplementedHere(
            f"Libraries here are of type pypi, whl or requirements, not {kind}: {_NOT_HERE[kind]}."
        )
    raise InvalidArgument(f"A library of type '{kind[:40]}' is none; pypi, whl and requirements are.")


def _key(kind: str, name: str) -> str:
    key = json.dumps([kind, name])
    if len(key) > 500:
        raise InvalidArgument("The name of a library is too long.")
    return key


class Installer:
    """Installs what is asked for, one library after the other, so that each is told by itself whether it goes."""

    def __init__(
        self, database: Database, environments: Environments, read: Read, principal_named: Callable[[str], Principal],
        directory: Path,
    ) -> None:  # fmt: skip
        self._database = database
        self._environments = environments
        self._read = read
        self._principal_named = principal_named
        self._directory = directory

    def installed(self, cluster_id: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """At a start: none, and all that is not to go is to be installed again."""
        with self._database.write() as connection:
            for library in rows.libraries_of(connection, cluster_id):
                if library.status == "UNINSTALL_ON_RESTART":
                    rows.remove_library(connection, cluster_id, library.key)
                else:
                    rows.set_library(connection, library, "PENDING")
        return (), ()

    def install(self, cluster: Cluster) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Install what waits; the packages and wheels that the cluster has then, or None where nothing waited."""
        with self._database.read() as connection:
            found = rows.libraries_of(connection, cluster.id)
        waiting = [each for each in found if each.status == "PENDING"]
        if not waiting or cluster.state is not State.RUNNING:
            return None
        names, wheels = [], []
        for library in (each for each in found if each.status == "INSTALLED"):
            try:
                more, wheel = self._found(cluster, library)
            except (MillpondError, OSError) as error:  # it is gone, or whoever added it is
                self._set(library, "FAILED", getattr(error, "message", str(error))[:4000])
                continue
            names += more
            wheels += wheel
        for library in waiting:
            self._set(library, "INSTALLING")
            now = replace(library, status="INSTALLING")
            try:
                more, wheel = self._found(cluster, library)
                lock = VERSIONS[cluster.spec["spark_version"]].requirements
                with held_on(self._environments, lock, [*names, *more]):
                    pass
            except (MillpondError, OSError) as error:
                self._set(now, "FAILED", getattr(error, "message", str(error))[:4000])
                continue
            names += more
            wheels += wheel
            self._set(now, "INSTALLED")
        with self._database.write() as connection:
            rows.use(connection, cluster.id, utc_now())
        return tuple(names), tuple(wheels)

    def _found(self, cluster: Cluster, library: Library) -> tuple[list[str], list[str]]:
        """The packages that a library is or needs, and the wheel that it is. Raises MillpondError."""
        if library.requirement:
            return list(clean_requirements([library.requirement])), []
        owner = self._principal_named(library.added_by)
        [(kind, path)] = library.library.items()
        data = self._read(owner, path)
        if kind == "requirements":
            return list(clean_requirements(data.decode(errors="replace").splitlines())), []
        place = (
            self._directory
            / cluster.id
            / "wheels"
            / hashlib.sha256(library.key.encode()).hexdigest()[:16]
            / Path(path).name
        )
        shutil.rmtree(place.parent, ignore_errors=True)
        place.parent.mkdir(parents=True, mode=0o700)
        place.write_bytes(data)
        return without(needs_of_wheel(data, path), [place.name]), [str(place)]

    def _set(self, library: Library, status: str, *messages: str) -> None:
        with self._database.write() as connection:
            rows.set_library(connection, library, status, *messages)
