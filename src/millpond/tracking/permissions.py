"""Experiments and the workspace's models as objects with permission levels."""

from sqlalchemy import Connection, text

from millpond.identity.access import Securable
from millpond.identity.permissions import ObjectType
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.tracking import store
from millpond.tracking.domain import Owned, experiment_securable, is_three_level, model_securable

_EXPERIMENT = text("SELECT 1 FROM experiments WHERE experiment_id = :experiment_id")
_MODEL = text("SELECT 1 FROM registered_models WHERE name = :name")
_MAX_DIGITS = 18


def permission_types() -> tuple[ObjectType, ...]:
    """The types of this room."""
    return (
        ObjectType(path="experiments", name="mlflowExperiment", kind="experiment", find=_find_experiment),
        ObjectType(path="registered-models", name="registered-model", kind="registered model", find=find_model),
    )


def _find_experiment(connection: Connection, experiment_id: str) -> Securable:
    is_id = experiment_id.isascii() and experiment_id.isdecimal() and len(experiment_id) <= _MAX_DIGITS
    if not is_id or connection.execute(_EXPERIMENT, {"experiment_id": int(experiment_id)}).first() is None:
        raise NotFound(f"Experiment '{experiment_id}' does not exist.")
    number = str(int(experiment_id))
    return experiment_securable(number, store.find_owner(connection, Owned.EXPERIMENT, number))


def find_model(connection: Connection, name: str) -> Securable:
    """A model of the workspace; its id is its name, as `registered_model_databricks.id` says. Raises NotFound."""
    if is_three_level(name):
        raise InvalidArgument(f"Model '{name}' is the catalog's; use grants (GRANT EXECUTE ON MODEL) instead.")
    if "\0" in name or connection.execute(_MODEL, {"name": name}).first() is None:
        raise NotFound(f"Registered model '{name}' does not exist.")
    return model_securable(name, store.find_owner(connection, Owned.MODEL, name))
