"""The model registry of a process that reproduces a run: it reads from the server, and registers nothing.

MLflow finds it by the scheme of `MLFLOW_REGISTRY_URI`. What the code registers or moves is said on standard error, and
the code goes on as if it had been done.
"""

import sys
from functools import partial
from typing import Any

from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.store.model_registry.rest_store import RestStore
from mlflow.tracking._tracking_service.utils import _get_store

URI = "millpond-reproduction://registry"
_READY = "READY"


class QuietRegistry(RestStore):  # type: ignore[misc]  # MLflow ships no types
    """Writes are not carried out."""

    def __init__(self, store_uri: str, tracking_uri: str | None = None) -> None:
        del store_uri
        super().__init__(partial(_creds, tracking_uri))
        self._made: dict[tuple[str, str], ModelVersion] = {}

    def create_registered_model(self, name: str, *args: Any, **values: Any) -> RegisteredModel:
        """A model that is not made."""
        del args, values
        _say(f"model {name} is not made")
        return RegisteredModel(name=name)

    def create_model_version(
        self, name: str, source: str, run_id: str | None = None, *args: Any, **values: Any
    ) -> ModelVersion:
        """A version that is not made."""
        del args, values
        _say(f"a version of model {name} is not registered")
        version = ModelVersion(
            name=name, version="0", creation_timestamp=0, source=source, run_id=run_id, status=_READY
        )
        self._made[name, "0"] = version
        return version

    def get_model_version(self, name: str, version: str) -> ModelVersion:
        """A version that was not made, or one of the server."""
        return self._made.get((name, str(version))) or super().get_model_version(name, version)

    def _not_done(self, name: str, *args: Any, **values: Any) -> None:
        del args, values
        _say(f"model {name} is not changed")

    update_registered_model = rename_registered_model = delete_registered_model = _not_done
    set_registered_model_tag = delete_registered_model_tag = _not_done
    update_model_version = delete_model_version = transition_model_version_stage = _not_done
    set_model_version_tag = delete_model_version_tag = _not_done
    set_registered_model_alias = delete_registered_model_alias = _not_done


def _creds(tracking_uri: str | None) -> Any:
    return _get_store(tracking_uri).get_host_creds()


def _say(what: str) -> None:
    print(f"millpond: this is a reproduction; {what}.", file=sys.stderr)
