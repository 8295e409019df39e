"""Observations for tests that need no gateway."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from millpond.lineage.domain import Act, ColumnFlow, Known, Node, NodeKind, Observation


def table(name: str) -> Node:
    """A table as a node; its name stands for its id."""
    return Node(kind=NodeKind.TABLE, key=name, name=name)


def inserted(
    what: str, source: str, target: str, columns: Sequence[tuple[str, str]] = (), *, replaces: bool = False
) -> Observation:
    """An INSERT from one table into another; `what` tells it from others."""
    flows = [ColumnFlow(source=table(source), source_column=a, target_column=b) for a, b in columns]
    return Observation(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, what)),
        act=Act(actor="ada", time=datetime.now(UTC), operation="INSERT", known=Known.OBSERVED),
        sources=(table(source),),
        target=table(target),
        columns=tuple(flows),
        replaces=replaces,
    )
