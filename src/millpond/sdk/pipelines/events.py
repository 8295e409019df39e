"""What an update tells of itself, in the words of Databricks' event log."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from millpond.sdk.pipelines.domain import Dataset, Flow

if TYPE_CHECKING:
    from millpond.sdk.pipelines.graph import Graph

Emit = Callable[[dict[str, Any]], None]
_LONGEST = 8000


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How many rows met an expectation."""

    name: str
    dataset: str
    passed: int
    failed: int


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Of the rows of one batch."""

    written: int
    dropped: int = 0
    qualities: tuple[Quality, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.written or self.dropped or self.qualities)


class Events:
    """Tells them, one at a time."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._lock = Lock()

    def update(self, state: str, *, error: str | None = None) -> None:
        """The update's state."""
        level = "ERROR" if state == "FAILED" else "INFO"
        message = f"Update is {state}." if error is None else f"Update has failed: {error}"
        self._tell("update_progress", level, message, {"state": state}, error=error)

    def warn(self, message: str, *, dataset: str | None = None) -> None:
        """Something that is no error."""
        self._tell("update_progress", "WARN", message, {}, dataset=dataset)

    def graph(self, graph: "Graph") -> None:
        """What the sources declare."""
        nodes = [{"name": each.name, "type": each.kind.value} for each in graph.datasets.values()]
        edges = [
            {"from": read, "to": node.flow.target, "flow": node.flow.name}
            for node in graph.nodes.values()
            for read in node.inputs
        ]
        self._tell("graph_created", "INFO", f"The graph has {len(nodes)} datasets.", {"nodes": nodes, "edges": edges})
        for dataset in graph.datasets.values():
            self._dataset(dataset, graph)
        for node in graph.nodes.values():
            self._tell("flow_definition", "INFO", f"Flow '{node.flow.name}' is defined.", {
                "output_dataset": node.flow.target,
                "input_datasets": [{"name": name, "streaming": streaming} for name, streaming in node.inputs.items()],
                "flow_type": _type(node.flow, streaming=bool(node.streams)),
                "source_code_location": {"path": node.flow.location.path, "line": node.flow.location.line},
            }, flow=node.flow)  # fmt: skip

    def _dataset(self, dataset: Dataset, graph: "Graph") -> None:
        schema = graph.schemas.get(dataset.name)
        self._tell("dataset_definition", "INFO", f"Dataset '{dataset.name}' is defined.", {
            "dataset_type": dataset.kind.value,
            "num_flows": len(graph.into(dataset.name)),
            "comment": dataset.comment,
            "expectations": [{"name": each.name, "action": each.action.value} for each in dataset.expectations],
            "schema": [] if schema is None else [
                {"name": field.name, "data_type": field.dataType.simpleString()} for field in schema.fields
            ],
        }, dataset=dataset.name)  # fmt: skip

    def flow(
        self, flow: Flow, status: str, *, counts: Counts | None = None, error: str | None = None,
        because: str = "",
    ) -> None:  # fmt: skip
        """Where a flow is."""
        told: dict[str, Any] = {"status": status}
        if counts is not None:
            told["metrics"] = {"num_output_rows": counts.written}
            if counts.qualities:
                told["data_quality"] = {
                    "dropped_records": counts.dropped,
                    "expectations": [_quality(each) for each in counts.qualities],
                }
        level = {"FAILED": "ERROR", "SKIPPED": "WARN"}.get(status, "INFO")
        message = f"Flow '{flow.name}' is {status}." + (f" {because}" if because else "")
        if error is not None:
            message = f"Flow '{flow.name}' has FAILED: {error}"
        self._tell("flow_progress", level, message, told, flow=flow, error=error)

    def _tell(
        self, event_type: str, level: str, message: str, details: Mapping[str, Any], *, flow: Flow | None = None,
        dataset: str | None = None, error: str | None = None,
    ) -> None:  # fmt: skip
        origin: dict[str, str] = {}
        if flow is not None:
            origin = {"dataset_name": flow.target, "flow_name": flow.name}
        elif dataset is not None:
            origin = {"dataset_name": dataset}
        event: dict[str, Any] = {
            "event_type": event_type, "level": level, "message": message[:_LONGEST], "maturity_level": "STABLE",
            "origin": origin, "details": {event_type: dict(details)},
        }  # fmt: skip
        if error is not None:
            event["error"] = {"fatal": True, "exceptions": [{"message": error[:_LONGEST]}]}
        with self._lock:
            self._emit(event)


def _quality(found: Quality) -> dict[str, Any]:
    return {
        "name": found.name, "dataset": found.dataset, "passed_records": found.passed, "failed_records": found.failed,
    }  # fmt: skip


def _type(flow: Flow, *, streaming: bool) -> str:
    if flow.changes is not None:
        return "CHANGE"
    return "APPEND" if streaming or flow.once else "COMPLETE"


def added(counts: Sequence[Counts]) -> Counts:
    """The counts of several batches as one."""
    sums: dict[tuple[str, str], list[int]] = {}
    for each in counts:
        for one in each.qualities:
            found = sums.setdefault((one.dataset, one.name), [0, 0])
            found[0] += one.passed
            found[1] += one.failed
    return Counts(
        written=sum(each.written for each in counts),
        dropped=sum(each.dropped for each in counts),
        qualities=tuple(
            Quality(name=name, dataset=dataset, passed=passed, failed=failed)
            for (dataset, name), (passed, failed) in sums.items()
        ),
    )
