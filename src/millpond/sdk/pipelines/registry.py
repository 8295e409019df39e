"""Collects what sources declare."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from millpond.sdk.pipelines import names
from millpond.sdk.pipelines.domain import Dataset, Expectation, Flow, Kind, PipelineFailed

EXPECTATIONS = "_pipeline_expectations"
"""The attribute of a query's function that has what its decorators expect."""


class Registry:
    """Datasets and flows by their names."""

    def __init__(self, catalog: str, schema: str) -> None:
        self._home = (catalog, schema)
        self.datasets: dict[str, Dataset] = {}
        self.flows: dict[str, Flow] = {}
        self._functions: dict[str, Any] = {}

    def name_of(self, name: str, kind: Kind) -> str:
        """The name by which a dataset is kept."""
        if kind is not Kind.VIEW:
            return names.full(name, *self._home)
        parts = names.without_live(names.split(name))
        if len(parts) != 1:
            raise PipelineFailed(f"The view '{name}' is temporary: its name has one part.")
        return parts[0].lower()

    def find(self, name: str) -> Dataset | None:
        """The dataset that a name means, as users write it or as it is kept, if it is one of the pipeline's."""
        if name in self.datasets:
            return self.datasets[name]
        parts = names.without_live(names.split(name))
        if len(parts) == 1 and parts[0].lower() in self.datasets:
            return self.datasets[parts[0].lower()]
        return self.datasets.get(names.full(name, *self._home)) if len(parts) <= 3 else None

    def add_dataset(self, dataset: Dataset) -> str:
        """Add one; the name by which it is kept. Raises PipelineFailed for one that is there."""
        if any("." in part for part in names.split(dataset.name)):
            raise PipelineFailed(
                f"The name {dataset.name} ({dataset.location}) has a dot within a part; names have none."
            )
        name = self.name_of(dataset.name, dataset.kind)
        own = ".".join(self._home).lower()
        others = [f"{own}.{name}"] if dataset.kind is Kind.VIEW else [name.removeprefix(f"{own}.")]
        twin = next((self.datasets[each] for each in (name, *others) if each in self.datasets), None)
        if twin is not None:
            raise PipelineFailed(
                f"The dataset '{name}' is declared twice: at {twin.location} and at {dataset.location}. Rename one."
            )
        self.datasets[name] = replace(dataset, name=name)
        return name

    def add_flow(self, flow: Flow) -> None:
        """Add one. Raises PipelineFailed for one that is there."""
        target = self.find(flow.target)
        kept = replace(flow, target=target.name if target else names.full(flow.target, *self._home))
        name = flow.name.lower()
        name = kept.target if name == flow.target.lower() else name
        if name in self.flows:
            raise PipelineFailed(
                f"The flow '{flow.name}' is declared twice: at {self.flows[name].location} and at {flow.location}. "
                "Give one of them a name."
            )
        self.flows[name] = replace(kept, name=name)

    def add_table(self, dataset: Dataset, function: Any, settings: Mapping[str, str]) -> None:
        """Add a dataset with the function that is its query."""
        name = self.add_dataset(dataset)
        self._functions[name] = function
        self.add_flow(
            Flow(name=name, target=name, location=dataset.location, query=function, settings=dict(settings or {}))
        )

    def finish(self) -> None:
        """All sources have been read: what decorators expect is known, and targets are. Raises PipelineFailed."""
        for name, function in self._functions.items():
            expected: tuple[Expectation, ...] = tuple(getattr(function, EXPECTATIONS, ()))
            if expected:
                self.datasets[name] = replace(
                    self.datasets[name], expectations=(*self.datasets[name].expectations, *expected)
                )
        for name, flow in self.flows.items():
            target = self.find(flow.target)
            if target is None:
                raise PipelineFailed(
                    f"The flow '{name}' ({flow.location}) writes to '{flow.target}', which no source declares: "
                    "create_streaming_table makes it."
                )
            self.flows[name] = replace(flow, target=target.name)
        for dataset in self.datasets.values():
            self._check(dataset)

    def _check(self, dataset: Dataset) -> None:
        into = [flow for flow in self.flows.values() if flow.target == dataset.name]
        if not into:
            raise PipelineFailed(f"No flow writes to the dataset '{dataset.name}' ({dataset.location}).")
        twice = {one.name for one in dataset.expectations}
        if len(twice) != len(dataset.expectations):
            raise PipelineFailed(f"Two expectations of '{dataset.name}' ({dataset.location}) have one name.")
        if len(into) > 1 and dataset.kind in {Kind.MATERIALIZED_VIEW, Kind.VIEW}:
            raise PipelineFailed(
                f"Several flows write to '{dataset.name}' ({dataset.location}), which is no streaming table: "
                + ", ".join(f"{flow.name} ({flow.location})" for flow in into)
            )
        if len(into) > 1 and any(flow.changes for flow in into):
            raise PipelineFailed(
                f"Several flows write to '{dataset.name}' ({dataset.location}), and one applies changes."
            )


_current: ContextVar[Registry | None] = ContextVar("pipeline_registry", default=None)


def current() -> Registry:
    """The registry of the source that is read now. Raises PipelineFailed outside of any."""
    found = _current.get()
    if found is None:
        raise PipelineFailed("Datasets are declared while a pipeline's sources are read, not within a query.")
    return found


@contextmanager
def collecting(registry: Registry) -> Iterator[None]:
    """What is declared meanwhile is the registry's, whichever of the modules declares it."""
    token = _current.set(registry)
    try:
        yield
    finally:
        _current.reset(token)


def check_format(name: str | None, dataset: str) -> None:
    """Raises PipelineFailed for tables that are not Delta."""
    if name not in {None, "delta"}:
        raise PipelineFailed(f"The format '{name}' of '{dataset}': tables of a pipeline are Delta tables.")


def columns_of(given: Any) -> tuple[str, ...]:
    """Names of columns, given as texts or Columns."""
    return tuple(each if isinstance(each, str) else _column_name(each) for each in given or ())


def _column_name(column: Any) -> str:
    parsed = getattr(getattr(column, "_expr", None), "_unparsed_identifier", None)
    if parsed is None:
        raise PipelineFailed(f"{column} is no name of a column.")
    return ".".join(names.split(str(parsed)))
