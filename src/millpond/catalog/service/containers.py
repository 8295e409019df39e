"""Catalogs and schemas."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.exc import IntegrityError

from millpond.catalog import locations
from millpond.catalog.domain import (
    BUILT_IN_CATALOGS,
    INFORMATION_SCHEMA,
    MAIN,
    SYSTEM_CATALOG,
    Catalog,
    ObjectName,
    Schema,
    SchemaName,
    TableType,
    VolumeType,
)
from millpond.catalog.information import information_schema
from millpond.catalog.names import RESERVED_CATALOGS, RESERVED_SCHEMAS, fold_name
from millpond.catalog.service.base import (
    Base,
    ModelHooks,
    clean_comment,
    clean_properties,
    due,
    new_values,
    races,
    touched,
    visible_page,
)
from millpond.catalog.service.usage import refuse_in_use
from millpond.catalog.store import containers, dropped, housekeeping, objects, policies, tags
from millpond.catalog.store import schema as store_schema
from millpond.catalog.store.reach import Reach
from millpond.identity import acts, grants
from millpond.identity.access import METASTORE, Act, require, require_admin
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import Conflict, FailedPrecondition, InvalidArgument
from millpond.kernel.ids import new_id
from millpond.kernel.paging import Page

DEFAULT_SCHEMA = "default"


class Containers(Base):
    """What one can do with catalogs and schemas."""

    def create_catalog(
        self,
        principal: Principal,
        *,
        name: str,
        comment: str | None = None,
        properties: Mapping[str, str] | None = None,
        storage_root: str | None = None,
    ) -> Catalog:
        """A new catalog with an empty schema `default`; only an administrator may give it a storage root.

        Raises AlreadyExists, InvalidArgument, PermissionDenied.
        """
        name = fold_name(name, "catalog")
        if name in RESERVED_CATALOGS:
            raise InvalidArgument(f"The catalog name '{name}' is reserved; choose another.")
        require(principal, Act.CREATE_CATALOG, METASTORE)
        root = self._chosen_root(principal, storage_root)
        values = new_values(principal, name, comment)
        values |= {"properties": clean_properties(properties), "storage_root": root}
        default = new_values(principal, DEFAULT_SCHEMA, None)
        default |= {"catalog_id": values["id"], "properties": {}, "storage_root": None}
        with races(f"Catalog '{name}' already exists.", ""), self.database.write() as connection:
            containers.insert_catalog(connection, values)
            containers.insert_schema(connection, default)
            acts.changed(connection, principal.name, "create", "catalog", name)
            return self._catalog(connection, name)

    def get_catalog(self, principal: Principal, name: str) -> Catalog:
        """The catalog with a name. Raises NotFound."""
        with self.database.read() as connection:
            catalog = self._catalog(connection, fold_name(name, "catalog"))
        require(principal, Act.SEE, catalog.securable)
        return catalog

    def list_catalogs(
        self, principal: Principal, *, max_results: int | None = None, page_token: str | None = None
    ) -> Page[Catalog]:
        """Catalogs that the principal may see, by name."""
        reach = Reach(principal=principal, kind="catalog")
        with self.database.read() as connection:
            return visible_page(
                principal,
                lambda after, limit: containers.list_catalogs(connection, after, limit, reach),
                lambda catalog: catalog.name,
                max_results=max_results,
                page_token=page_token,
            )

    def update_catalog(
        self,
        principal: Principal,
        name: str,
        *,
        new_name: str | None = None,
        comment: str | None = None,
        owner: str | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> Catalog:
        """The catalog after a change of what is not None. A rename keeps everything in it.

        Raises NotFound, AlreadyExists, InvalidArgument, PermissionDenied.
        """
        name = fold_name(name, "catalog")
        values = self._changes(comment=comment, owner=owner, properties=properties)
        renamed = fold_name(new_name, "catalog") if new_name is not None else name
        with races(f"Catalog '{renamed}' already exists.", ""), self.database.write() as connection:
            catalog = self._catalog(connection, name, lock=True)
            require(principal, Act.MANAGE, catalog.securable)
            if renamed != name:
                _refuse_built_in(catalog, "renamed")
                if renamed in RESERVED_CATALOGS:
                    raise InvalidArgument(f"The catalog name '{renamed}' is reserved; choose another.")
                values["name"] = renamed
            schemas = containers.list_schemas(connection, catalog.id, None, _EVERY)  # by their names before
            containers.update_catalog(connection, catalog.id, touched(principal, values))
            self._updated(connection, principal, "catalog", name, values)
            if renamed != name:
                for schema in schemas:
                    self._models_moved(connection, schema, SchemaName(renamed, schema.name.schema))
            return self._catalog(connection, renamed)

    def delete_catalog(self, principal: Principal, name: str, *, force: bool = False) -> None:
        """Remove a catalog that holds nothing but an empty `default`; with `force`, with everything in it.

        Raises NotFound, FailedPrecondition when not empty, PermissionDenied.
        """
        name = fold_name(name, "catalog")
        try:
            with self.database.write() as connection:
                catalog = self._catalog(connection, name, lock=True)
                require(principal, Act.MANAGE, catalog.securable)
                _refuse_built_in(catalog, "deleted")
                found = containers.list_schemas(connection, catalog.id, None, _EVERY)
                for schema in found:
                    if not force and (schema.name.schema != DEFAULT_SCHEMA or len(found) > 1):
                        raise FailedPrecondition(
                            f"Catalog '{name}' is not empty: it has {len(found)} schema(s). Drop them first, or delete "
                            "with force=true (CASCADE)."
                        )
                    self._delete_schema(
                        connection, schema, force=force, going={catalog.id, *(each.id for each in found)}
                    )
                containers.delete_catalog(connection, catalog.id)
                self._forget(connection, [catalog.id])
                acts.changed(connection, principal.name, "delete", "catalog", name, force=force)
        except IntegrityError as error:
            raise Conflict(f"Something was created in catalog '{name}' while it was deleted; try again.") from error

    def create_schema(
        self,
        principal: Principal,
        *,
        catalog: str,
        name: str,
        comment: str | None = None,
        properties: Mapping[str, str] | None = None,
        storage_root: str | None = None,
    ) -> Schema:
        """A new empty schema; only an administrator may give it a storage root.

        Raises NotFound for the catalog, AlreadyExists, InvalidArgument, PermissionDenied.
        """
        full_name = SchemaName(catalog, name)
        _refuse_reserved(full_name)
        root = self._chosen_root(principal, storage_root)
        values = new_values(principal, full_name.schema, comment)
        values |= {"properties": clean_properties(properties), "storage_root": root}
        gone = f"Catalog '{full_name.catalog}' does not exist."
        with races(f"Schema '{full_name}' already exists.", gone), self.database.write() as connection:
            parent = self._catalog(connection, full_name.catalog)
            require(principal, Act.CREATE_SCHEMA, parent.securable)
            _refuse_system(parent.name)
            containers.insert_schema(connection, values | {"catalog_id": parent.id})
            acts.changed(connection, principal.name, "create", "schema", str(full_name))
            return self._schema(connection, full_name)

    def get_schema(self, principal: Principal, name: SchemaName) -> Schema:
        """The schema with a name. Raises NotFound."""
        if name.schema == INFORMATION_SCHEMA:
            return information_schema(self.get_catalog(principal, name.catalog))
        with self.database.read() as connection:
            schema = self._schema(connection, name)
        require(principal, Act.SEE, schema.securable)
        return schema

    def list_schemas(
        self, principal: Principal, catalog: str, *, max_results: int | None = None, page_token: str | None = None
    ) -> Page[Schema]:
        """Schemas of a catalog that the principal may see, by name. Raises NotFound for the catalog."""
        with self.database.read() as connection:
            parent = self._catalog(connection, fold_name(catalog, "catalog"))
            require(principal, Act.SEE, parent.securable)
            reach = Reach(principal=principal, kind="schema")
            return visible_page(
                principal,
                lambda after, limit: containers.list_schemas(connection, parent.id, after, limit, reach),
                lambda schema: schema.name.schema,
                max_results=max_results,
                page_token=page_token,
            )

    def update_schema(
        self,
        principal: Principal,
        name: SchemaName,
        *,
        new_name: str | None = None,
        comment: str | None = None,
        owner: str | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> Schema:
        """The schema after a change of what is not None. A rename keeps everything in it.

        Raises NotFound, AlreadyExists, InvalidArgument, PermissionDenied.
        """
        values = self._changes(comment=comment, owner=owner, properties=properties)
        renamed = SchemaName(name.catalog, new_name) if new_name is not None else name
        with races(f"Schema '{renamed}' already exists.", ""), self.database.write() as connection:
            schema = self._schema(connection, name, lock=True)
            require(principal, Act.MANAGE, schema.securable)
            if renamed != name:
                _refuse_reserved(renamed)
                _refuse_default_of_main(name, "renamed")
                values["name"] = renamed.schema
            containers.update_schema(connection, schema.id, touched(principal, values))
            self._updated(connection, principal, "schema", name, values)
            if renamed != name:
                self._models_moved(connection, schema, renamed)
            return self._schema(connection, renamed)

    def delete_schema(self, principal: Principal, name: SchemaName, *, force: bool = False) -> None:
        """Remove an empty schema; with `force`, with everything in it.

        Raises NotFound, FailedPrecondition when not empty, PermissionDenied.
        """
        try:
            with self.database.write() as connection:
                schema = self._schema(connection, name, lock=True)
                require(principal, Act.MANAGE, schema.securable)
                _refuse_default_of_main(name, "deleted")
                self._delete_schema(connection, schema, force=force)
                acts.changed(connection, principal.name, "delete", "schema", str(name), force=force)
        except IntegrityError as error:
            raise Conflict(f"Something was created in schema '{name}' while it was deleted; try again.") from error

    def _delete_schema(
        self, connection: Connection, schema: Schema, *, force: bool, going: Collection[str] = ()
    ) -> None:
        """`going` are the ids of the catalog and the schemas that go with it, if it does not go alone."""
        containers.find_schema(connection, schema.name, lock=True)
        held = containers.kinds_in_schema(connection, schema.id)
        if held and not force:
            raise FailedPrecondition(
                f"Schema '{schema.name}' is not empty: it holds {' and '.join(f'{kind}s' for kind in held)}. Drop them "
                "first, or delete with force=true (CASCADE)."
            )
        if held:
            self._empty_schema(connection, schema, going or {schema.id})
        gone = dropped.forget_in(connection, schema.id)
        containers.delete_schema(connection, schema.id)
        self._forget(connection, [schema.id, *gone])

    def _empty_schema(self, connection: Connection, schema: Schema, going: Collection[str]) -> None:
        for table, managed in ((store_schema.tables, TableType.MANAGED), (store_schema.volumes, VolumeType.MANAGED)):
            kind = "table_type" if table is store_schema.tables else "volume_type"
            for row in objects.list_rows(connection, table, schema.id, None, _EVERY):
                if getattr(row, kind) == managed.value:
                    self._purge_later(connection, row.storage_location, f"{schema.name}.{row.name}")
        functions = objects.list_rows(connection, store_schema.functions, schema.id, None, _EVERY)
        refuse_in_use(connection, {row.id for row in functions}, "dropped", going=going)
        models = objects.list_rows(connection, store_schema.models, schema.id, None, _EVERY)
        if models:
            names = [ObjectName(schema.name.catalog, schema.name.schema, row.name) for row in models]
            self._hooks_for(names).deleted(connection, names)
        self._forget(connection, objects.delete_rows_in(connection, schema.id))

    def _delete(self, connection: Connection, table: Table, object_id: str) -> None:
        """Remove an object of a schema with its grants and tags."""
        objects.delete_row(connection, table, object_id)
        self._forget(connection, [object_id])

    def _forget(self, connection: Connection, object_ids: Sequence[str]) -> None:
        """Remove what hangs on objects that are gone."""
        grants.forget(connection, object_ids)
        tags.forget(connection, object_ids)
        policies.forget(connection, object_ids)

    def _models_moved(self, connection: Connection, schema: Schema, renamed: SchemaName) -> None:
        rows = objects.list_rows(connection, store_schema.models, schema.id, None, _EVERY)
        if rows:
            old = [ObjectName(schema.name.catalog, schema.name.schema, row.name) for row in rows]
            new = [ObjectName(renamed.catalog, renamed.schema, row.name) for row in rows]
            self._hooks_for(old).renamed(connection, list(zip(old, new, strict=True)))

    def _purge_later(self, connection: Connection, location: str, what: str, *, purge_id: str | None = None) -> None:
        housekeeping.insert_purge(
            connection, purge_id=purge_id or new_id(), location=location, what=what, due_at=due(self._purge_after)
        )

    def _purge_now(self, connection: Connection, location: str, what: str) -> None:
        housekeeping.insert_purge(connection, purge_id=new_id(), location=location, what=what, due_at=utc_now())

    def _hooks_for(self, names: list[ObjectName]) -> ModelHooks:
        """The hooks for models; without them models must not go or move, or their versions would be orphans."""
        if self._model_hooks is None:
            raise FailedPrecondition(
                f"There are {len(names)} model(s) such as '{names[0]}' in it, and this process does not keep models; "
                "do it through the REST API."
            )
        return self._model_hooks

    def _changes(
        self, *, comment: str | None, owner: str | None, properties: Mapping[str, str] | None
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if comment is not None:
            values["comment"] = clean_comment(comment)
        if owner is not None:
            values["owner"] = self._new_owner(owner)
        if properties is not None:
            values["properties"] = clean_properties(properties)
        return values

    def _chosen_root(self, principal: Principal, storage_root: str | None) -> str | None:
        if not storage_root:
            return None
        require_admin(principal, "choose a managed location")
        root = locations.canonical(storage_root)
        if self._is_private(root):
            raise InvalidArgument(
                f"The managed location '{root}' overlaps the server's own directories; choose another."
            )
        return root


_EVERY = 1_000_000


def _refuse_reserved(name: SchemaName) -> None:
    if name.schema in RESERVED_SCHEMAS:
        raise InvalidArgument(f"The schema name '{name.schema}' is reserved in every catalog; choose another.")


def _refuse_system(catalog: str) -> None:
    if catalog == SYSTEM_CATALOG:
        raise InvalidArgument("The catalog 'system' belongs to the server; create schemas in another catalog.")


def _refuse_built_in(catalog: Catalog, act: str) -> None:
    if catalog.name in BUILT_IN_CATALOGS:
        raise InvalidArgument(f"Catalog '{catalog.name}' is built in and cannot be {act}.")


def _refuse_default_of_main(name: SchemaName, act: str) -> None:
    if name == SchemaName(MAIN, DEFAULT_SCHEMA) or name.catalog == SYSTEM_CATALOG:
        raise InvalidArgument(f"Schema '{name}' is built in and cannot be {act}.")
