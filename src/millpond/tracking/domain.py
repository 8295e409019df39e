"""Names and places of tracking, and the pure rules about them."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from millpond.catalog.names import ObjectName
from millpond.identity.access import Securable
from millpond.identity.domain import Principal
from millpond.identity.privileges import Privilege
from millpond.kernel.errors import InvalidArgument, PermissionDenied

DEFAULT_EXPERIMENT_ID = "0"
"""Where clients log when no experiment was chosen: everybody signed in reads it and logs runs of their own into it."""

ARTIFACT_SCHEME = "mlflow-artifacts"
REGISTRY_FOLDER = "registry"
"""Below the artifact root, `registry/<id>` holds the files of one model version whose client brought them."""


class Owned(Enum):
    """Kinds of objects whose owner this room keeps; a run's owner is its `user_id`."""

    EXPERIMENT = "experiment"
    MODEL = "model"
    """A registered model of the workspace registry; three-level models have their owner in the catalog."""
    LOGGED_MODEL = "logged model"
    """Only in the default experiment; elsewhere the experiment's owner owns it."""
    TRACE = "trace"
    """Only in the default experiment."""


def experiment_securable(experiment_id: str, owner: str | None) -> Securable:
    """An experiment as the permission rule sees it."""
    shared = experiment_id == DEFAULT_EXPERIMENT_ID
    return Securable(
        kind="experiment",
        name=experiment_id,
        owners=(owner,) if owner else (),
        ids=(experiment_key(experiment_id),),
        public=shared,
        open_to_all=shared,
    )


def model_securable(name: str, owner: str | None) -> Securable:
    """A registered model of the workspace registry as the permission rule sees it."""
    return Securable(kind="registered model", name=name, owners=(owner,) if owner else (), ids=(model_key(name),))


def item_securable(kind: str, item_id: str, *, experiment_id: str, owners: tuple[str, ...]) -> Securable:
    """A run, logged model or trace: readable by all in the default experiment, writable by its owners.

    What was granted on the experiment holds for what is in it.
    """
    ids = (experiment_key(experiment_id),)
    return Securable(kind=kind, name=item_id, owners=owners, ids=ids, public=experiment_id == DEFAULT_EXPERIMENT_ID)


def run_securable(run: Any) -> Securable:
    """A run (its row, with the experiment's `owner`): its user's in the default experiment, elsewhere the owner's."""
    shared = str(run.experiment_id) == DEFAULT_EXPERIMENT_ID
    owners = (run.user_id,) if shared else (run.owner,)
    return item_securable(
        "run",
        run.run_uuid,
        experiment_id=str(run.experiment_id),
        owners=tuple(owner for owner in owners if owner),
    )


_EXPERIMENT_KEY, _MODEL_KEY = "experiment/", "registered model/"


def experiment_key(experiment_id: str) -> str:
    """The id under which an experiment has grants."""
    return _EXPERIMENT_KEY + experiment_id


def model_key(name: str) -> str:
    """The id under which a model of the workspace registry has grants."""
    return _MODEL_KEY + name


def granted_experiments(principal: Principal, privilege: Privilege) -> list[int]:
    """The ids of the experiments on which a principal has a permission level."""
    return [int(key.removeprefix(_EXPERIMENT_KEY)) for key in principal.grants.ids("experiment", privilege)]


def granted_models(principal: Principal, privilege: Privilege) -> list[str]:
    """The names of the workspace's models on which a principal has a permission level."""
    return [key.removeprefix(_MODEL_KEY) for key in principal.grants.ids("registered model", privilege)]


def check_experiment_name(principal: Principal, name: str) -> None:
    """Experiment names may be workspace paths; `/Users/<somebody>/...` belongs to that somebody.

    Raises PermissionDenied for another user's folder, unless an administrator asks.
    """
    parts = name.split("/")
    if principal.is_admin or len(parts) < 3 or parts[0] != "" or parts[1].lower() != "users":
        return
    if parts[2].lower() != principal.name.lower():
        raise PermissionDenied(
            f"The folder /Users/{parts[2]} is not yours; name the experiment /Users/{principal.name}/... instead."
        )


def is_three_level(name: str) -> bool:
    """Whether a registered model's name is a catalog object's: `catalog.schema.model`."""
    parts = name.split(".")
    return len(parts) == 3 and all(parts)


def canonical_model_name(name: str) -> str:
    """The name as it is stored: the catalog folds its names, others stay as they are.

    Raises InvalidArgument for three levels that the catalog does not allow as names.
    """
    return str(ObjectName.of_full_name(name)) if isinstance(name, str) and is_three_level(name) else name


_SOURCE_SCHEMES = ("mlflow-artifacts:", "runs:", "models:")
_PROMPT_SOURCES = frozenset({"dummy-source", "prompt-template"})
_ARTIFACT_ROUTE = "/api/2.0/mlflow-artifacts/artifacts/"


def check_model_source(source: str) -> None:
    """A model version's files are artifacts of this server: the server would read any other place in its own name.

    MLflow's handlers have checked that the source belongs to the run or model that the request names. Raises
    InvalidArgument for other places.
    """
    own_address = source.startswith(("http:", "https:")) and _ARTIFACT_ROUTE in source
    if not (source.startswith(_SOURCE_SCHEMES) or source in _PROMPT_SOURCES or own_address):
        raise InvalidArgument(
            f"Model source '{source[:200]}' is not kept by this server; log the model to a run and register "
            "runs:/<run_id>/<path> or models:/<model_id>."
        )


def run_of_source(source: str) -> str | None:
    """The run that a source `runs:/<run_id>/<path>` names."""
    return source.removeprefix("runs:").strip("/").split("/")[0] if source.startswith("runs:") else None


_LOGGED_MODEL = re.compile(r"(?:models:/|.*/models/)(m-[0-9a-f]+)(?:/.*)?")


def logged_model_of_source(source: str) -> str | None:
    """The logged model that a version's source names, as `models:/<id>` or by its artifacts' place."""
    found = _LOGGED_MODEL.fullmatch(source)
    return found[1] if found else None


class VersionPlace(NamedTuple):
    """Where a model version's files are, and whether they are all there."""

    uri: str
    status: str
    """As MLflow has it: PENDING_REGISTRATION, FAILED_REGISTRATION or READY."""
    maker: str
    """Name of who made the version."""


def registry_uri(place_id: str) -> str:
    """The location of a version whose client brings the files; opaque, so that no rename moves it."""
    return f"{ARTIFACT_SCHEME}:/{REGISTRY_FOLDER}/{place_id}"


@dataclass(frozen=True, kw_only=True)
class ArtifactPath:
    """A place below the artifact root: `<experiment>/<run>/artifacts/...`, `<experiment>/models/<id>/...`,
    `<experiment>/traces/<id>/...`, or `registry/<id>/...`.
    """

    path: str
    experiment_id: str
    """Empty for a model version's files, which belong to none."""
    kind: str
    """run, logged model, trace or model version; empty for the experiment's directory itself."""
    item_id: str


_ITEM_FOLDERS = {"models": "logged model", "traces": "trace"}


def parse_artifact_path(path: str) -> ArtifactPath:
    """Where a path of the artifact proxy points to.

    Raises InvalidArgument for anything that is absolute, climbs (`..`), hides a separator or names no experiment.
    """
    parts = check_relative_path(path).split("/")
    if parts[0] == REGISTRY_FOLDER and len(parts) > 1:
        return ArtifactPath(path="/".join(parts), experiment_id="", kind="model version", item_id=parts[1])
    if not parts[0].isdigit() or len(parts[0]) > 18:
        raise InvalidArgument(f"Artifact path '{path[:200]}' does not start with an experiment id.")
    experiment_id = str(int(parts[0]))
    if experiment_id != parts[0]:
        raise InvalidArgument(f"Artifact path '{path[:200]}' does not start with an experiment id.")
    kind = item_id = ""
    if len(parts) > 1:
        folder = _ITEM_FOLDERS.get(parts[1])
        if folder is None:
            kind, item_id = "run", parts[1]
        elif len(parts) > 2:
            kind, item_id = folder, parts[2]
    return ArtifactPath(path="/".join(parts), experiment_id=experiment_id, kind=kind, item_id=item_id)


def check_relative_path(path: str) -> str:
    """The path without a trailing slash.

    Raises InvalidArgument unless it is a plain relative POSIX path.
    """
    trimmed = path.rstrip("/")
    bad = any(part in {"", ".", ".."} or len(part.encode()) > 255 for part in trimmed.split("/"))
    if not trimmed or bad or any(character in trimmed for character in "\\\0\r\n") or "%2f" in trimmed.lower():
        raise InvalidArgument(f"Artifact path '{path[:200]}' is not a plain relative path.")
    return trimmed
