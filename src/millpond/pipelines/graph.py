"""What an update does, as its events say it: datasets, what each is made of, and how far it has come. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from millpond.pipelines.domain import Event

DEFINING = ("dataset_definition", "flow_definition")
PROGRESS = ("flow_progress",)
"""The events that say it."""
_REPLACED = "MATERIALIZED_VIEW"
"""What each go writes anew, so its last counts are those of its rows; all else adds to what was there."""
_OVER = ("COMPLETED", "FAILED", "SKIPPED", "STOPPED", "EXCLUDED", "IDLE")


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A rule of a dataset's rows, and how many met it."""

    name: str
    passed: int = 0
    failed: int = 0


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A table or view of a pipeline, as an update has it."""

    name: str
    kind: str = ""
    """As MATERIALIZED_VIEW, STREAMING_TABLE, VIEW."""
    needs: tuple[str, ...] = ()
    """Datasets of the pipeline, and tables outside, that it is made of."""
    status: str = ""
    """As flows have it: QUEUED, STARTING, RUNNING, COMPLETED, FAILED, SKIPPED; empty before."""
    rows: int | None = None
    """Written by this update; None where that is not told."""
    dropped: int = 0
    """Rows that were not written, as they broke a rule."""
    expectations: tuple[Expectation, ...] = ()
    message: str = ""
    """Why it failed."""
    defined: bool = False
    """Whether the pipeline makes it; else it is a table outside."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """All of them, in the order in which they were told of."""

    datasets: Sequence[Dataset]

    @property
    def made(self) -> list[Dataset]:
        """Those that the pipeline makes."""
        return [each for each in self.datasets if each.defined]


@dataclass
class _Going:
    """Flows of one dataset."""

    dataset: Dataset
    statuses: dict[str, str] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    expectations: dict[tuple[str, str], Expectation] = field(default_factory=dict)

    def shown(self) -> Dataset:
        rules: dict[str, Expectation] = {}
        for (_, name), each in self.expectations.items():
            before = rules.get(name, Expectation(name=name))
            rules[name] = replace(before, passed=before.passed + each.passed, failed=before.failed + each.failed)
        return replace(
            self.dataset,
            status=_worst(self.statuses.values()),
            rows=sum(self.rows.values()) if self.rows else None,
            dropped=sum(self.dropped.values()),
            expectations=tuple(rules.values()),
        )


def graph_of(events: Iterable[Event]) -> Graph:
    """The graph of one update. Its counts are sums over what each of its flows told, batch after batch."""
    going: dict[str, _Going] = {}
    for event in events:
        match event.event_type:
            case "dataset_definition":
                _define(going, event)
            case "flow_definition":
                _connect(going, event)
            case "flow_progress":
                _progress(going, event)
    outside = {need for each in going.values() for need in each.dataset.needs} - set(going)
    found = [each.shown() for each in going.values()]
    return Graph(datasets=(*(Dataset(name=name) for name in sorted(outside)), *found))


def acyclic(datasets: Sequence[Dataset]) -> list[Dataset]:
    """The same without what leads back to a dataset from itself, which no picture can show."""
    needs = {each.name: [need for need in each.needs if need != each.name] for each in datasets}
    done: set[str] = set()
    for start in needs:
        _cut_back(start, needs, done)
    return [replace(each, needs=tuple(needs[each.name])) for each in datasets]


def _cut_back(start: str, needs: dict[str, list[str]], done: set[str]) -> None:
    """Walk from a dataset to all that it is made of, and drop each step to one on the way."""
    way: dict[str, list[str]] = {start: list(needs.get(start, ()))}
    while way:
        name, left = next(reversed(way.items()))
        if not left:
            done.add(name)
            way.pop(name)
            continue
        need = left.pop()
        if need in way:
            needs[name].remove(need)
        elif need not in done:
            way[need] = list(needs.get(need, ()))


def rows_of(event: Event) -> int | None:
    """How many rows an event says that were written, if it does."""
    return _number(_object(event.details.get("metrics")).get("num_output_rows"))


def _define(going: dict[str, _Going], event: Event) -> None:
    details = event.details
    name = event.dataset or str(details.get("name") or "")
    if not name:
        return
    each = going.setdefault(name, _Going(Dataset(name=name)))
    kind = str(details.get("dataset_type") or details.get("table_type") or details.get("kind") or "")
    each.dataset = replace(each.dataset, kind=kind.upper(), defined=True)


def _connect(going: dict[str, _Going], event: Event) -> None:
    details = event.details
    name = str(details.get("output_dataset") or event.dataset)
    if not name:
        return
    each = going.setdefault(name, _Going(Dataset(name=name)))
    needs = [_name(need) for need in _list(details.get("input_datasets"))]
    each.dataset = replace(
        each.dataset, defined=True, needs=tuple(dict.fromkeys([*each.dataset.needs, *filter(None, needs)]))
    )


def _progress(going: dict[str, _Going], event: Event) -> None:
    origin, details = event.body.get("origin") or {}, event.details
    name = event.dataset or str(origin.get("flow_name") or "")
    if not name:
        return
    flow = str(origin.get("flow_name") or name)
    each = going.setdefault(name, _Going(Dataset(name=name, defined=True)))
    if details.get("status"):
        each.statuses[flow] = str(details["status"])
    if details.get("status") == "FAILED":
        each.dataset = replace(each.dataset, message=event.message)
    rows = rows_of(event)
    if rows is None:
        return
    anew = each.dataset.kind == _REPLACED
    each.rows[flow] = rows + (0 if anew else each.rows.get(flow, 0))
    quality = _object(details.get("data_quality"))
    dropped = _number(quality.get("dropped_records")) or 0
    each.dropped[flow] = dropped + (0 if anew else each.dropped.get(flow, 0))
    for told in _list(quality.get("expectations")):
        if isinstance(told, Mapping):
            _expect(each, flow, told, anew=anew)


def _expect(each: _Going, flow: str, told: Mapping[str, Any], *, anew: bool) -> None:
    name = str(told.get("name") or "")
    known = each.expectations.get((flow, name))
    before = Expectation(name=name) if anew or known is None else known
    passed, failed = (_number(told.get(key)) or 0 for key in ("passed_records", "failed_records"))
    each.expectations[flow, name] = replace(before, passed=before.passed + passed, failed=before.failed + failed)


def _worst(statuses: Iterable[str]) -> str:
    """How a dataset stands whose flows stand like this."""
    found = list(statuses)
    for status in ("FAILED", "RUNNING", "STARTING", "PLANNING", "QUEUED"):
        if status in found:
            return status
    return next((status for status in _OVER if status in found), found[-1] if found else "")


def _name(need: Any) -> str:
    return str(need.get("name") or "") if isinstance(need, Mapping) else str(need or "")


def _object(value: Any) -> Mapping[str, Any]:
    """What users' code told in place of an object."""
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
