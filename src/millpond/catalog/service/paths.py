"""Which paths somebody may touch: only those of tables and volumes that they may reach."""

import os
from collections.abc import Sequence

from sqlalchemy import Connection

from millpond.catalog import locations
from millpond.catalog.domain import ObjectName, Table, Volume
from millpond.catalog.locations import VolumePath
from millpond.catalog.service.containers import Containers
from millpond.catalog.service.scope import applying, kept_from
from millpond.catalog.storage.port import HOUSEKEEPING
from millpond.catalog.store import objects
from millpond.catalog.store.reach import Reach
from millpond.catalog.store.rows import table_of, volume_of
from millpond.catalog.store.schema import dropped_tables, tables, volumes
from millpond.identity import acts
from millpond.identity.access import Act, allows, require
from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument, NotFound, PermissionDenied

_KINDS = ("delta", "volumes")
"""Directories of the storage root that hold users' data; beside them lies what only the server writes."""


class Paths(Containers):
    """Checks of paths."""

    def check_path(self, principal: Principal, url: str, *, write: bool) -> str:
        """The physical location of a path, a URL or a `/Volumes/...` path that the principal may read (or write).

        A path is within a table or volume that one may read or write, or anywhere outside the server's directories for
        an administrator. Patterns (`*.csv`) are checked by the directory that they cannot leave.
        Raises InvalidArgument for what is no path, PermissionDenied for all that one may not reach, NotFound for a
        volume that one may not see.
        """
        named = locations.find_volume_path(url)
        if named is not None:
            return self.resolve_volume_path(principal, named, write=write)
        location = locations.canonical(url)
        fixed = locations.without_glob(location)
        container = self._container_of(fixed)
        if container is not None:
            if not _allows_files(principal, container, write=write):
                raise _out_of_reach(principal, url)
            self.refuse_guarded_files(principal, container)
            _refuse_links(fixed, below=container.storage_location)
        elif not principal.is_admin or self._leads_to_private(fixed):
            raise _out_of_reach(principal, url)
        acts.reached((Act.WRITE if write else Act.READ).value, "path", location)
        return location

    def homes(self, principal: Principal) -> frozenset[str]:
        """The places where the principal's own managed tables and volumes are made; an administrator's are everybody's.

        Where something that the principal made is now out of reach, because it was given away, only what is still in
        reach is named, one by one.
        """
        if principal.is_admin:
            return frozenset(locations.join(self.storage_root, kind) for kind in _KINDS)
        homes = [locations.join(self.storage_root, kind, principal.id) for kind in _KINDS]
        with self.database.read() as connection:
            return frozenset(place for home in homes for place in _own_places(connection, principal, home))

    def is_guarded(self, principal: Principal, table: Table) -> bool:
        """Whether a row filter, a mask or a policy decides what the principal sees of a table."""
        if table.guards or not table.policed:
            return bool(table.guards)
        with self.database.read() as connection:
            return table.id in applying(connection, principal, [table])

    def may_hold_files(self, principal: Principal, container: Table | Volume) -> bool:
        """Whether what decides about its rows and values keeps nothing from the principal, who could take it away."""
        if not isinstance(container, Table) or not (container.guards or container.policed):
            return True
        with self.database.read() as connection:
            return not kept_from(connection, principal, [container])

    def require_all_rows(self, principal: Principal, table: Table) -> None:
        """Pass for what would tell of hidden rows and values. Raises PermissionDenied."""
        if table.guards:
            require(principal, Act.MANAGE, table.securable)
        if not self.may_hold_files(principal, table):
            acts.denied(principal, "learn of all rows of", "table", str(table.name))
            raise PermissionDenied(
                f"This would tell of rows and values that a policy hides from {principal.name} in '{table.name}'. It "
                "is for whom the policy exempts, and who may MANAGE what it is set on."
            )

    def refuse_guarded_files(self, principal: Principal, container: Table | Volume) -> None:
        """Raises PermissionDenied for the files of a table of which the principal does not see all as it is."""
        if isinstance(container, Table) and self.is_guarded(principal, container):
            acts.denied(principal, "reach the files of", "table", str(container.name))
            raise PermissionDenied(
                f"Table '{container.name}' has a row filter or column masks, so its files are for nobody; read it by "
                "name, through Spark or SQL."
            )

    def may_reach(self, principal: Principal, location: str, *, write: bool) -> bool:
        """Whether a place lies in a table or volume whose files the principal's engine may read (or write).

        Those of a table with a row filter or masks are for the engines of who may take these away, as users' functions
        run in an engine and see all that it can reach.
        """
        container = self._container_of(location)
        if container is None:
            return principal.is_admin
        return _allows_files(principal, container, write=write) and self.may_hold_files(principal, container)

    def resolve_volume_path(self, principal: Principal, path: VolumePath, *, write: bool) -> str:
        """The physical location of a path in a volume, whose files the principal may read (and write) in place.

        Raises NotFound, PermissionDenied.
        """
        root = self.volume_location(principal, path, write=write)
        self.volume_location(principal, path, write=False)
        location = locations.join(root, *path.parts)
        _refuse_links(locations.without_glob(location), below=root)
        return location

    def volume_location(self, principal: Principal, path: VolumePath, *, write: bool) -> str:
        """The location of the volume of a path, in which the principal may read (or write).

        Raises NotFound, PermissionDenied.
        """
        if path.parts[:1] == (HOUSEKEEPING,):
            raise InvalidArgument(f"'{HOUSEKEEPING}' at the root of a volume is the server's; choose another name.")
        with self.database.read() as connection:
            volume = self._volume(connection, path.volume)
        require(principal, Act.WRITE if write else Act.READ, volume.securable)
        return volume.storage_location

    def _volume(self, connection: Connection, name: ObjectName, *, lock: bool = False) -> Volume:
        row = objects.find_row(connection, volumes, name, lock=lock)
        if row is None:
            raise NotFound(f"Volume '{name}' does not exist.")
        return volume_of(row)

    def _container_of(self, location: str) -> Table | Volume | None:
        """The table or volume that a location lies in; the innermost where several do."""
        ancestors = locations.with_ancestors(location)
        found: list[Table | Volume] = []
        with self.database.read() as connection:
            found.extend(table_of(row) for row in objects.rows_with_locations(connection, tables, ancestors))
            found.extend(volume_of(row) for row in objects.rows_with_locations(connection, volumes, ancestors))
        return max(found, key=lambda item: len(item.storage_location), default=None)

    def _external_place(self, principal: Principal, location: str) -> str:
        """A location that a new external table or volume may have."""
        place = locations.canonical(location)
        if locations.without_glob(place) != place:
            raise InvalidArgument(f"The location '{location[:200]}' holds a pattern character; name one directory.")
        if not principal.is_admin or self._leads_to_private(place):
            raise _out_of_reach(principal, location)
        if locations.is_link(place):
            raise InvalidArgument(f"'{location[:200]}' is a symbolic link; name the directory that it leads to.")
        return place

    def _leads_to_private(self, location: str) -> bool:
        """Whether a location, with its symbolic links followed, touches a place that is only the server's."""
        if self._is_private(location):
            return True
        if not locations.is_local(location):
            return False
        real = os.path.realpath(locations.local_path(location))
        return self._is_private(locations.canonical(real))


def _allows_files(principal: Principal, container: Table | Volume, *, write: bool) -> bool:
    """Whether files may be touched in place; whoever can write them so can read them too."""
    reads = allows(principal, Act.READ, container.securable)
    return reads and (not write or allows(principal, Act.WRITE, container.securable))


def _own_places(connection: Connection, principal: Principal, home: str) -> Sequence[str]:
    """The home, or what in it may be written where that is not all; what was dropped there counts too."""
    found: list[str] = []
    mine: list[str] = []
    for kind, table in (("table", tables), ("table", dropped_tables), ("volume", volumes)):
        reads, writes = (Reach(principal=principal, kind=kind, act=act) for act in (Act.READ, Act.WRITE))
        found += objects.locations_below(connection, table, home)
        mine += objects.locations_below(connection, table, home, reads, writes)
    guarded = [table_of(row) for row in objects.guarded_rows_below(connection, home)]
    kept = kept_from(connection, principal, guarded)
    hidden = {table.storage_location for table in guarded if table.id in kept}
    mine = [place for place in mine if place not in hidden]
    return mine if len(mine) < len(found) else [home]


def _refuse_links(location: str, *, below: str) -> None:
    """Refuse a local path that a symbolic link leads elsewhere: the container itself, or one below it."""
    if not locations.is_local(location):
        return
    if locations.is_link(below):
        raise PermissionDenied("The directory of the table or volume is a symbolic link, which is not followed.")
    path, root = locations.local_path(location), locations.local_path(below)
    expected = os.path.join(os.path.realpath(root), path.relative_to(root))
    if os.path.realpath(path) != os.path.normpath(expected):
        raise PermissionDenied(
            f"The path '{path.relative_to(root)}' goes through a symbolic link, which is not followed."
        )


def _out_of_reach(principal: Principal, url: str) -> PermissionDenied:
    acts.denied(principal, "reach", "path", url[:200])
    return PermissionDenied(
        f"{principal.name} may not reach the path '{url[:200]}'; use a table's name, or a file of a volume "
        "(/Volumes/catalog/schema/volume/...)."
    )
