"""One update: flows are carried out after what they read, two at a time, and what cannot be is said in events."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from pyspark.sql.connect.session import SparkSession

from millpond.engine.streaming.requests import interval_s
from millpond.sdk.pipelines import cdc
from millpond.sdk.pipelines.domain import Dataset, Kind, PipelineFailed, Spec
from millpond.sdk.pipelines.events import Counts, Events
from millpond.sdk.pipelines.graph import Analysis, Graph, Node, where
from millpond.sdk.pipelines.reading import hooks
from millpond.sdk.pipelines.registry import Registry
from millpond.sdk.pipelines.sources import read_sources
from millpond.sdk.pipelines.tables import Tables
from millpond.sdk.pipelines.writing import Flows

_AT_ONCE = 2
_RETRIES = "pipelines.maxFlowRetryAttempts"
_INTERVAL = "pipelines.trigger.interval"
_BACK_OFF_S = 2.0


class Update:
    """An update of a pipeline. To be run once."""

    def __init__(self, spec: Spec, spark: Any, tables: Tables, events: Events) -> None:
        self._spec = spec
        self._spark = spark
        self._tables = tables
        self._events = events
        self._pause = threading.Event()
        self._seen: dict[str, Mapping[str, int]] = {}

    def run(self) -> None:
        """Carry it out. Raises PipelineFailed."""
        try:
            with hooks(self._spark):
                self._carry_out()
        except PipelineFailed as error:
            self._events.update("FAILED", error=str(error))
            raise
        except Exception as error:
            self._events.update("FAILED", error=f"{type(error).__name__}: {error}")
            raise PipelineFailed(f"{type(error).__name__}: {error}") from error

    def _carry_out(self) -> None:
        spec, events = self._spec, self._events
        events.update("INITIALIZING")
        home = (spec.catalog, spec.schema)
        registry = Registry(*home)
        read_sources(spec, registry, self._spark, events)
        if not registry.datasets:
            raise PipelineFailed("The sources declare no dataset.")
        graph = Analysis(registry, home).run()
        chosen, full = _chosen(spec, registry, graph)
        for dataset in graph.tables():
            self._tables.check(dataset)
        for node in graph.nodes.values():
            for stream in node.streams:
                if stream.files is None and stream.table not in graph.datasets:
                    self._tables.check_stream(node.flow, stream)
        events.graph(graph)
        for name in self._tables.left(graph):
            events.warn(f"'{name}' is inactive: no source declares it any more. Its rows stay.", dataset=name)
        if not spec.validate_only:
            self._make(registry, graph, chosen, full)
        events.update("COMPLETED")

    def _make(self, registry: Registry, graph: Graph, chosen: set[str], full: set[str]) -> None:
        self._events.update("SETTING_UP_TABLES")
        self._tables.sweep(graph)
        for name in reversed(graph.in_order(chosen)):  # what streams a table begins anew before that is emptied
            self._tables.prepare(graph.datasets[name], graph.schemas[name], full=name in full)
        self._events.update("RUNNING")
        flows = Flows(registry, (self._spec.catalog, self._spec.schema), graph, self._tables, self._spark)
        self._round(flows, graph, chosen)
        while self._spec.continuous:
            self._pause.wait(interval_s(self._spec.configuration.get(_INTERVAL, "5 seconds")))
            self._round(flows, graph, chosen)

    # -- order --------------------------------------------------------------------------------------------------

    def _round(self, flows: Flows, graph: Graph, chosen: set[str]) -> None:
        """Bring all to where they should be. Raises PipelineFailed for the first that failed, after all others."""
        waiting = {name: graph.needs(name) & chosen for name in sorted(chosen)}
        running: dict[Future[None], str] = {}
        failed: dict[str, BaseException] = {}
        if not self._spec.continuous or not self._seen:
            for node in (each for name in graph.in_order(chosen) for each in graph.into(name)):
                self._events.flow(node.flow, "QUEUED")
        alone = any(node.flow.settings for node in graph.nodes.values())  # they are the session's, which all share
        with ThreadPoolExecutor(1 if alone else _AT_ONCE, initializer=self._begin_thread) as threads:
            while waiting or running:
                for name in [name for name, needs in waiting.items() if not needs]:
                    del waiting[name]
                    running[threads.submit(self._dataset, flows, graph, graph.datasets[name])] = name
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    name = running.pop(done)
                    error = done.exception()
                    if error is not None:
                        failed[name] = error
                        self._skip(graph, waiting, name)
                    for needs in waiting.values():
                        needs.discard(name)
        if failed:
            first = next(iter(failed.values()))
            raise first if isinstance(first, PipelineFailed) else PipelineFailed(str(first))

    def _begin_thread(self) -> None:
        SparkSession._active_session.session = self._spark

    def _skip(self, graph: Graph, waiting: dict[str, set[str]], failed: str) -> None:
        """Leave out what needs a dataset that failed."""
        for name in [name for name, needs in waiting.items() if failed in needs]:
            if name not in waiting:
                continue
            del waiting[name]
            for node in graph.into(name):
                self._events.flow(node.flow, "SKIPPED", because=f"'{failed}', which it reads, has failed.")
            self._skip(graph, waiting, name)

    # -- a dataset ----------------------------------------------------------------------------------------------

    def _dataset(self, flows: Flows, graph: Graph, dataset: Dataset) -> None:
        for node in graph.into(dataset.name):
            if self._spec.continuous and not self._is_due(graph, node):
                continue
            self._flow(flows, node, dataset)

    def _is_due(self, graph: Graph, node: Node) -> bool:
        """Whether something that a flow reads has changed since it last ran."""
        tables = [*(stream.table for stream in node.streams)] or sorted(graph.reads(node))
        if any(stream.files for stream in node.streams) or not all(map(self._tables.is_delta, tables)):
            return True  # nobody says when a view or a file has changed
        now = {name: self._tables.newest(name) for name in tables}
        is_due = self._seen.get(node.flow.name) != now
        self._seen[node.flow.name] = now
        return is_due

    def _flow(self, flows: Flows, node: Node, dataset: Dataset) -> None:
        attempts = 1 + self._retries()
        for attempt in range(1, attempts + 1):
            try:
                self._events.flow(node.flow, "STARTING" if attempt == 1 else "RUNNING")
                with self._settings(node):
                    counts = _work(dataset, node)(flows, node)
                break
            except PipelineFailed as error:
                self._events.flow(node.flow, "FAILED", error=str(error))
                raise
            except Exception as error:  # the boundary of a flow
                text = f"{where(node.flow)}: {type(error).__name__}: {error}"
                if attempt == attempts:
                    self._events.flow(node.flow, "FAILED", error=text)
                    raise PipelineFailed(text) from error
                self._events.flow(node.flow, "RUNNING", because=f"Attempt {attempt} of {attempts} has failed: {text}")
                self._pause.wait(_BACK_OFF_S * attempt)
        self._events.flow(node.flow, "RUNNING", counts=counts)
        self._events.flow(node.flow, "IDLE" if self._spec.continuous else "COMPLETED")

    def _retries(self) -> int:
        given = self._spec.configuration.get(_RETRIES, "0" if self._spec.development else "2")
        if not given.isdecimal():
            raise PipelineFailed(f"The configuration's {_RETRIES} is a number, not '{given}'.")
        return int(given)

    @contextmanager
    def _settings(self, node: Node) -> Iterator[None]:
        """The flow's own settings are the session's meanwhile; no other flow runs then."""
        given = node.flow.settings
        if not given:
            yield
            return
        conf = self._spark.conf
        before = {key: conf.get(key, None) for key in given}
        for key, value in given.items():
            conf.set(key, value)
        try:
            yield
        finally:
            for key, old in before.items():
                conf.unset(key) if old is None else conf.set(key, old)


def _work(dataset: Dataset, node: Node) -> Callable[[Flows, Node], Counts]:
    if node.flow.changes is not None:
        return cdc.apply
    if node.flow.once:
        return Flows.run_once
    return Flows.replace if dataset.kind is Kind.MATERIALIZED_VIEW else Flows.advance


def _chosen(spec: Spec, registry: Registry, graph: Graph) -> tuple[set[str], set[str]]:
    """The tables that are refreshed, and those of them that are in full. Raises PipelineFailed for unknown names."""
    every = {each.name for each in graph.tables()}
    full, some = _named(spec.full, registry), _named(spec.refresh, registry)
    chosen = full | some if spec.full or spec.refresh else every
    return chosen, every & chosen if spec.full_refresh else full


def _named(given: tuple[str, ...], registry: Registry) -> set[str]:
    found = set()
    for name in given:
        dataset = registry.find(name)
        if dataset is None or dataset.kind is Kind.VIEW:
            raise PipelineFailed(f"'{name}' is selected to be refreshed, and is no table of the pipeline.")
        found.add(dataset.name)
    return found
