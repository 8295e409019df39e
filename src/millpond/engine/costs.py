"""Whose engines are, for the meter: what an engine uses is its user's, on a cluster a part of the cluster's slice."""

from collections.abc import Callable, Iterable, Iterator

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


def spent_alone(engine: Engine) -> Callable[[], int | None]:
    """Told when a call begins on an engine, gives at its end the milliseconds of processor time that it took; None
    where something else ran there too, which ended meanwhile or goes on."""
    before_s, used = _processor_s(engine), engine.last_used
    alone = engine.running == 1

    def spent_ms() -> int | None:
        if before_s is None or not alone or engine.running != 1 or engine.last_used != used:
            return None
        return max(0, round(1000 * ((_processor_s(engine) or 0.0) - before_s)))

    return spent_ms


def _processor_s(engine: Engine) -> float | None:
    return engine.child.processor_s() if engine.child is not None else None
