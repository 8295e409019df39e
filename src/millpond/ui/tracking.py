"""What pages ask of MLflow's stores, as the principal who asks, with our errors.

The stores see whoever `current_principal` names, so each call runs inside `acting_as`. MLflow is imported by the
tracking room in the background; this module imports it only when it is called.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from millpond.identity.domain import Principal
from millpond.identity.middleware import acting_as
from millpond.kernel.errors import InvalidArgument
from millpond.kernel.paging import Page
from millpond.tracking.translation import millpond_errors

_PAGE = 50
_MOST_PAGES = 20


class Stores(Protocol):
    """MLflow's tracking store and registry store."""

    @property
    def tracking(self) -> Any:
        """Experiments and runs."""

    @property
    def registry(self) -> Any:
        """Registered models."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment as pages show it."""

    id: str
    name: str
    updated_ms: int | None
    created_ms: int | None
    owner: str
    note: str
    artifact_location: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as pages show it."""

    id: str
    name: str
    experiment_id: str
    status: str
    started_ms: int | None
    ended_ms: int | None
    user: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    inputs: tuple[tuple[str, str], ...]
    """Datasets that it read: name, and where it is from."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version of a registered model."""

    version: str
    stage: str
    description: str
    run_id: str
    user: str
    created_ms: int | None
    status: str
    source: str
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """A registered model as pages show it."""

    name: str
    description: str
    created_ms: int | None
    updated_ms: int | None
    tags: Mapping[str, str]
    aliases: Mapping[str, str]
    """Version by alias."""
    latest: str | None

    def aliases_of(self, version: str) -> tuple[str, ...]:
        """The aliases that point to a version, by name."""
        return tuple(sorted(alias for alias, pointed in self.aliases.items() if pointed == version))


class Tracking:
    """Experiments, runs and registered models for pages."""

    def __init__(self, stores: Callable[[], Stores]) -> None:
        """`stores` raises Unavailable while MLflow is being loaded."""
        self._stores = stores

    def list_experiments(
        self, principal: Principal, *, text: str = "", page_token: str | None = None
    ) -> Page[Experiment]:
        """Experiments whose name holds the text, last changed first."""
        with _as(principal):
            found = self._stores().tracking.search_experiments(
                max_results=_PAGE,
                filter_string=f"name ILIKE {_pattern(text)}" if text else None,
                order_by=["last_update_time DESC"],
                page_token=page_token,
            )
            return Page(items=tuple(_experiment(item) for item in found), next_page_token=found.token or None)

    def get_experiment(self, principal: Principal, experiment_id: str) -> Experiment:
        """The experiment with an id. Raises NotFound."""
        with _as(principal):
            return _experiment(self._stores().tracking.get_experiment(experiment_id))

    def search_runs(
        self,
        principal: Principal,
        experiment_ids: list[str],
        *,
        filter_text: str = "",
        order: str = "attributes.start_time DESC",
        limit: int = _PAGE,
        page_token: str | None = None,
    ) -> Page[Run]:
        """Runs of experiments that pass MLflow's filter. Raises InvalidArgument for a filter that is none."""
        from mlflow.entities import ViewType

        with _as(principal):
            found = self._stores().tracking.search_runs(
                experiment_ids,
                filter_text,
                ViewType.ACTIVE_ONLY,
                max_results=limit,
                order_by=[order],
                page_token=page_token,
            )
            return Page(items=tuple(_run(item) for item in found), next_page_token=found.token or None)

    def recent_runs(self, principal: Principal, *, limit: int) -> tuple[Run, ...]:
        """The runs started last, among the experiments changed last."""
        experiments = self.list_experiments(principal).items
        return self.search_runs(principal, [item.id for item in experiments], limit=limit).items if experiments else ()

    def runs_tagged(self, principal: Principal, tag: str, value: str) -> tuple[Run, ...]:
        """The last runs with a tag, of those experiments that one may see, of the thousand changed last."""
        ids: list[str] = []
        token = None
        for _ in range(_MOST_PAGES):
            page = self.list_experiments(principal, page_token=token)
            ids += [item.id for item in page.items]
            if (token := page.next_page_token) is None:
                break
        return self.search_runs(principal, ids, filter_text=f"tags.`{tag}` = {_literal(value)}").items if ids else ()

    def list_models(
        self, principal: Principal, *, text: str = "", limit: int = _PAGE, page_token: str | None = None
    ) -> Page[RegisteredModel]:
        """Registered models whose name holds the text, last changed first."""
        with _as(principal):
            found = self._stores().registry.search_registered_models(
                filter_string=f"name ILIKE {_pattern(text)}" if text else None,
                max_results=limit,
                order_by=["last_updated_timestamp DESC"],
                page_token=page_token,
            )
            return Page(items=tuple(_model(item) for item in found), next_page_token=found.token or None)

    def get_model(self, principal: Principal, name: str) -> RegisteredModel:
        """The registered model with a name. Raises NotFound."""
        with _as(principal):
            return _model(self._stores().registry.get_registered_model(name))

    def list_versions(self, principal: Principal, name: str, *, page_token: str | None = None) -> Page[Version]:
        """Versions of a model, newest first."""
        with _as(principal):
            found = self._stores().registry.search_model_versions(
                f"name = {_literal(name)}", max_results=_PAGE, order_by=["version_number DESC"], page_token=page_token
            )
            return Page(items=tuple(_version(item) for item in found), next_page_token=found.token or None)

    def get_version(self, principal: Principal, name: str, version: str) -> Version:
        """One version of a model. Raises NotFound."""
        with _as(principal):
            return _version(self._stores().registry.get_model_version(name, version))

    def get_run(self, principal: Principal, run_id: str) -> Run:
        """The run with an id. Raises NotFound."""
        with _as(principal):
            return _run(self._stores().tracking.get_run(run_id))

    def describe_model(self, principal: Principal, name: str, description: str) -> None:
        """Change a model's description."""
        with _as(principal):
            self._stores().registry.update_registered_model(name, description)

    def describe_version(self, principal: Principal, name: str, version: str, description: str) -> None:
        """Change a version's description."""
        with _as(principal):
            self._stores().registry.update_model_version(name, version, description)

    def set_alias(self, principal: Principal, name: str, alias: str, version: str) -> None:
        """Let an alias point to a version; it leaves the version that it pointed to."""
        with _as(principal):
            self._stores().registry.set_registered_model_alias(name, alias, version)

    def remove_alias(self, principal: Principal, name: str, alias: str) -> None:
        """Remove an alias from a model."""
        with _as(principal):
            self._stores().registry.delete_registered_model_alias(name, alias)


@contextmanager
def _as(principal: Principal) -> Iterator[None]:
    """Be the principal, and turn MLflow's errors into ours."""
    with acting_as(principal), millpond_errors():
        yield


def _literal(text: str) -> str:
    """A string in MLflow's filter language, which has no escape: quoted with what the text does not hold."""
    for quote in ("'", '"'):
        if quote not in text:
            return f"{quote}{text}{quote}"
    raise InvalidArgument("A text with both kinds of quotes cannot be searched for.")


def _pattern(text: str) -> str:
    return _literal(f"%{text}%")


def _experiment(item: Any) -> Experiment:
    tags = item.tags
    return Experiment(
        id=str(item.experiment_id),
        name=item.name,
        updated_ms=item.last_update_time,
        created_ms=item.creation_time,
        owner=tags.get("mlflow.ownerEmail", ""),
        note=tags.get("mlflow.note.content", ""),
        artifact_location=item.artifact_location,
    )


def _run(item: Any) -> Run:
    info, data = item.info, item.data
    datasets = item.inputs.dataset_inputs if item.inputs else []
    return Run(
        id=info.run_id,
        name=info.run_name or info.run_id[:8],
        experiment_id=str(info.experiment_id),
        status=info.status,
        started_ms=info.start_time,
        ended_ms=info.end_time,
        user=info.user_id or "",
        metrics=dict(data.metrics),
        params=dict(data.params),
        tags=dict(data.tags),
        inputs=tuple((entry.dataset.name, entry.dataset.source) for entry in datasets),
    )


def _model(item: Any) -> RegisteredModel:
    aliases = item.aliases if isinstance(item.aliases, dict) else {alias.alias: alias.version for alias in item.aliases}
    latest = [int(version.version) for version in item.latest_versions or []]
    return RegisteredModel(
        name=item.name,
        description=item.description or "",
        created_ms=item.creation_timestamp,
        updated_ms=item.last_updated_timestamp,
        tags=dict(item.tags),
        aliases={name: str(version) for name, version in aliases.items()},
        latest=str(max(latest)) if latest else None,
    )


def _version(item: Any) -> Version:
    return Version(
        version=str(item.version),
        stage=item.current_stage or "None",
        description=item.description or "",
        run_id=item.run_id or "",
        user=item.user_id or "",
        created_ms=item.creation_timestamp,
        status=item.status,
        source=item.source or "",
        tags=dict(item.tags),
    )
