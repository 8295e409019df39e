"""Whose engines are, for the meter: what an engine uses is its user's, on a cluster a part of the cluster's slice."""

from collections.abc import Iterable, Iterator

from millpond.billing.domain import Product, Subject
from millpond.billing.metering import Tracked
from millpond.engine.engines import Engine


def tracked(engines: Iterable[Engine]) -> Iterator[Tracked]:
    """The processes of engines that run here for somebody."""
    for engine in engines:
        if engine.child is None or engine.user is None:
            continue
        cluster_id = engine.slice.id.partition(":")[0] if engine.slice else ""
        subject = Subject(
            product=Product.SQL, run_as=engine.user, cluster_id=cluster_id, included=engine.slice is not None
        )
        pids = [child.pid for child in (engine.child, engine.relay) if child is not None]
        yield Tracked(key=("engine", engine.id), subject=subject, pids=pids)
