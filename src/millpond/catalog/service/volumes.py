"""Volumes: directories of files under a name."""

from dataclasses import replace
from typing import Any

from millpond.catalog import locations
from millpond.catalog.domain import ObjectName, SchemaName, Volume, VolumeType
from millpond.catalog.service.base import new_values, races, touched
from millpond.catalog.service.models import Models
from millpond.catalog.store import housekeeping, objects
from millpond.catalog.store.rows import volume_of
from millpond.catalog.store.schema import volumes
from millpond.identity import acts
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.kernel.ids import new_id
from millpond.kernel.paging import Page


class Volumes(Models):
    """What one can do with volumes. The files in them are `catalog.files`."""

    def create_volume(
        self,
        principal: Principal,
        name: ObjectName,
        *,
        volume_type: VolumeType = VolumeType.MANAGED,
        location: str | None = None,
        comment: str | None = None,
    ) -> Volume:
        """A new volume, empty (managed) or over the files at `location` (external).

        Raises NotFound for the schema, AlreadyExists, InvalidArgument, PermissionDenied.
        """
        if (volume_type is VolumeType.EXTERNAL) != bool(location):
            raise InvalidArgument(
                f"Volume '{name}': an EXTERNAL volume has a storage_location, a MANAGED one has none."
            )
        volume_id = new_id()
        place = self._external_place(principal, location) if location else None
        values = new_values(principal, name.name, comment) | {"id": volume_id, "volume_type": volume_type.value}
        taken, gone = f"Volume '{name}' already exists.", f"Schema '{name.schema_name}' does not exist."
        with races(taken, gone), self.database.write() as connection:
            schema = self._schema_for(connection, principal, name, Act.CREATE_VOLUME)
            if place is not None and housekeeping.location_in_use(connection, place):
                raise InvalidArgument(f"The location '{place}' overlaps that of another table or volume.")
            root = place or locations.join(self._root_for(connection, schema), "volumes", principal.id, volume_id)
            objects.insert_row(connection, volumes, values | {"schema_id": schema.id, "storage_location": root})
            acts.changed(connection, principal.name, "create", "volume", str(name))
            created = self._volume(connection, name)
        if place is None:
            self.storages.tree(root, shown=f"volume {name}").make_directory(())
        return created

    def get_volume(self, principal: Principal, name: ObjectName) -> Volume:
        """The volume with a name. Raises NotFound."""
        with self.database.read() as connection:
            volume = self._volume(connection, name)
        require(principal, Act.SEE, volume.securable)
        return volume

    def get_volume_by_id(self, principal: Principal, volume_id: str) -> Volume:
        """The volume with an id. Raises NotFound."""
        with self.database.read() as connection:
            row = objects.find_row_by_id(connection, volumes, volume_id)
        if row is None:
            raise NotFound(f"Volume '{volume_id}' does not exist.")
        volume = volume_of(row)
        require(principal, Act.SEE, replace(volume.securable, name=volume_id))
        return volume

    def list_volumes(
        self,
        principal: Principal,
        schema: SchemaName,
        *,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> Page[Volume]:
        """Volumes of a schema that the principal may see, by name. Raises NotFound for the schema."""
        return self._list_in_schema(
            principal, schema, "volume", volumes, volume_of, max_results=max_results, page_token=page_token
        )

    def update_volume(
        self,
        principal: Principal,
        name: ObjectName,
        *,
        new_name: str | None = None,
        comment: str | None = None,
        owner: str | None = None,
    ) -> Volume:
        """The volume after a change of what is not None; its files stay where they are.

        Raises NotFound, AlreadyExists, InvalidArgument, PermissionDenied.
        """
        values: dict[str, Any] = self._changes(comment=comment, owner=owner, properties=None)
        renamed = ObjectName(name.catalog, name.schema, new_name) if new_name is not None else name
        with races(f"Volume '{renamed}' already exists.", ""), self.database.write() as connection:
            volume = self._volume(connection, name, lock=True)
            require(principal, Act.MANAGE, volume.securable)
            values["name"] = renamed.name
            objects.update_row(connection, volumes, volume.id, touched(principal, values))
            self._updated(connection, principal, "volume", name, values)
            return self._volume(connection, renamed)

    def drop_volume(self, principal: Principal, name: ObjectName) -> Volume:
        """Remove a volume and return what it was; a managed one's files go later, an external one's stay.

        Raises NotFound, PermissionDenied.
        """
        with self.database.write() as connection:
            volume = self._volume(connection, name, lock=True)
            require(principal, Act.MANAGE, volume.securable)
            self._delete(connection, volumes, volume.id)
            if volume.volume_type is VolumeType.MANAGED:
                self._purge_later(connection, volume.storage_location, f"volume {name}")
            acts.changed(connection, principal.name, "drop", "volume", str(name))
        return volume
