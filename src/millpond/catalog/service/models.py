"""The catalog's side of registered models, kept by the tracking room in its own transactions."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Select

from millpond.catalog.domain import Model, ObjectName, SchemaName
from millpond.catalog.service.base import clean_comment, new_values, races, touched
from millpond.catalog.service.undropping import Undropping
from millpond.catalog.store import objects
from millpond.catalog.store.reach import Reach
from millpond.catalog.store.rows import model_of
from millpond.catalog.store.schema import models
from millpond.identity import acts
from millpond.identity.access import Act, allows, require
from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.kernel.paging import Page


class Models(Undropping):
    """Rows of models. Methods that take a Connection are part of the caller's write transaction on this database."""

    def get_model(self, principal: Principal, name: ObjectName) -> Model:
        """The model with a name. Raises NotFound."""
        with self.database.read() as connection:
            return self.model_in(connection, principal, name, act=Act.SEE)

    def list_models(
        self,
        principal: Principal,
        schema: SchemaName,
        *,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> Page[Model]:
        """Models of a schema that the principal may see, by name. Raises NotFound for the schema."""
        return self._list_in_schema(
            principal, schema, "model", models, model_of, max_results=max_results, page_token=page_token
        )

    def model_in(self, connection: Connection, principal: Principal, name: ObjectName, *, act: Act) -> Model:
        """The model with a name, to which the principal may do `act`. Raises NotFound, PermissionDenied."""
        model = self.find_model_in(connection, name)
        if model is None:
            raise NotFound(f"Model '{name}' does not exist.")
        require(principal, act, model.securable)
        return model

    def find_model_in(self, connection: Connection, name: ObjectName) -> Model | None:
        """The model with a name, without a check of rights, or None."""
        row = objects.find_row(connection, models, name)
        return None if row is None else model_of(row)

    def find_models_by_id(self, principal: Principal, ids: Collection[str]) -> dict[str, Model]:
        """Those of some models that the principal may see, by id."""
        with self.database.read() as connection:
            found = [model_of(row) for row in objects.rows_with_ids(connection, models, sorted(ids))]
        return {model.id: model for model in found if allows(principal, Act.SEE, model.securable)}

    def find_model_by_id(self, connection: Connection, model_id: str) -> Model | None:
        """The model with an id whoever asks, for the caller to check, or None."""
        row = objects.find_row_by_id(connection, models, model_id)
        return None if row is None else model_of(row)

    def model_names(self, principal: Principal, act: Act) -> Select[tuple[str]]:
        """Full names of the models to which a principal may do `act`, for use inside a query."""
        return objects.select_full_names(models, Reach(principal=principal, kind="model", act=act))

    def find_model_names(
        self, connection: Connection, principal: Principal, *, catalog: str | None, after: str | None, limit: int
    ) -> Sequence[str]:
        """Full names, in their order, of the models that a principal may see: of one catalog or of all."""
        query = self.model_names(principal, Act.SEE)
        return objects.page_of_full_names(connection, query, catalog=catalog, after=after, limit=limit)

    def create_model_in(
        self, connection: Connection, principal: Principal, name: ObjectName, *, comment: str | None = None
    ) -> Model:
        """A new row. Raises NotFound for the schema, AlreadyExists, PermissionDenied."""
        schema = self._schema_for(connection, principal, name, Act.CREATE_MODEL)
        taken, gone = f"Model '{name}' already exists.", f"Schema '{name.schema_name}' does not exist."
        with races(taken, gone):
            values = new_values(principal, name.name, comment) | {"schema_id": schema.id}
            objects.insert_row(connection, models, values)
        acts.changed(connection, principal.name, "create", "model", str(name))
        return self.model_in(connection, principal, name, act=Act.SEE)

    def update_model_in(
        self,
        connection: Connection,
        principal: Principal,
        name: ObjectName,
        *,
        new_name: ObjectName | None = None,
        comment: str | None = None,
        owner: str | None = None,
    ) -> Model:
        """The row after a change of what is not None. Raises NotFound, AlreadyExists, PermissionDenied."""
        model = self.model_in(connection, principal, name, act=Act.MANAGE)
        values: dict[str, Any] = {}
        if comment is not None:
            values["comment"] = clean_comment(comment)
        if owner is not None:
            values["owner"] = self._new_owner(owner)
        if new_name is not None and new_name != name:
            if new_name.catalog != name.catalog:
                raise InvalidArgument(f"Model '{name}' cannot move to catalog '{new_name.catalog}'.")
            values["name"] = new_name.name
            values["schema_id"] = self._schema_for(connection, principal, new_name, Act.CREATE_MODEL).id
        target = new_name or name
        with races(f"Model '{target}' already exists.", f"Schema '{target.schema_name}' does not exist."):
            objects.update_row(connection, models, model.id, touched(principal, values))
        self._updated(connection, principal, "model", name, values)
        return self.model_in(connection, principal, target, act=Act.SEE)

    def delete_model_in(self, connection: Connection, principal: Principal, name: ObjectName) -> Model:
        """Remove the row and return what it was. Raises NotFound, PermissionDenied."""
        model = self.model_in(connection, principal, name, act=Act.MANAGE)
        self._delete(connection, models, model.id)
        acts.changed(connection, principal.name, "delete", "model", str(name))
        return model

    def remove_files_later(self, connection: Connection, location: str, what: str) -> None:
        """Let the janitor remove files of a deleted version when their time has come, unless another uses them."""
        self._purge_later(connection, location, what)

    def is_used_by_models(self, connection: Connection, location: str) -> bool:
        """Whether files at a location are those of a model's version."""
        return self._model_hooks is not None and self._model_hooks.uses(connection, location)
