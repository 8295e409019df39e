"""What endpoints, and versions that are asked by their URI, use, and the quotas that bind who asks them."""

from collections.abc import Iterator, Mapping

from millpond.billing.domain import Product, Resource, Subject, Used
from millpond.billing.metering import Counts, Meter, Tracked
from millpond.billing.quotas import QuotaService
from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.serving import store
from millpond.serving.controller import LiveEndpoint
from millpond.serving.domain import ModelVersion
from millpond.serving.runtime import ServingRuntime


class EndpointCosts:
    """Counts requests and tells the meter whose the replicas are. Thread-safe."""

    def __init__(self, database: Database, runtime: ServingRuntime, meter: Meter, quotas: QuotaService) -> None:
        self._database = database
        self._runtime = runtime
        self._quotas = quotas
        self._asked = Counts[tuple[str, str, str]]()
        self._versions_asked = Counts[tuple[str, str]]()
        self._tags: Mapping[str, Mapping[str, str]] = {}
        meter.watch(self.replicas)
        meter.count(self.requests)

    def check(self, principal: Principal, tags: Mapping[str, str] | None) -> None:
        """Pass where somebody may use more. Blocks. Raises LimitExceeded."""
        self._quotas.check(principal, tags=tags)

    def admit(self, principal: Principal) -> None:
        """The same for a request, without waiting. Raises LimitExceeded."""
        self._quotas.check_lately(principal)

    def count(self, live: LiveEndpoint, principal: Principal) -> None:
        """A request was let in."""
        self._asked.add((live.id, live.name, principal.name))

    def count_version(self, model: ModelVersion, principal: Principal) -> None:
        """A request to a version was let in."""
        self._versions_asked.add((f"{model.name}/{model.version}", principal.name))

    def replicas(self) -> Iterator[Tracked]:
        """The processes of endpoints, whose owners they run for; and of versions, for who asked them last."""
        self._look_at_tags()
        seen: set[int] = set()
        for live in self._runtime.live():
            for pool in live.pools.values():
                for pid in set(filter(None, pool.pids.values())) - seen:
                    seen.add(pid)
                    subject = self._subject(live.id, live.name, live.creator)
                    yield Tracked(key=("replica", live.id, pid), subject=subject, pids=(pid,))
        for each in self._runtime.by_uri.all():
            subject = _version_subject(f"{each.model.name}/{each.model.version}", each.asker)
            for pid in set(filter(None, each.pool.pids.values())):
                yield Tracked(key=("by URI", each.model.key, pid), subject=subject, pids=(pid,))

    def requests(self) -> Iterator[tuple[Subject, Used]]:
        """Requests since the last time, by who asked."""
        for (endpoint_id, name, who), number in self._asked.taken().items():
            yield self._subject(endpoint_id, name, who), {Resource.REQUEST: float(number)}
        for (version, who), number in self._versions_asked.taken().items():
            yield _version_subject(version, who), {Resource.REQUEST: float(number)}

    def _look_at_tags(self) -> None:
        with self._database.read() as connection:
            self._tags = {each.id: each.tags for each in store.list_endpoints(connection)}

    def _subject(self, endpoint_id: str, name: str, run_as: str) -> Subject:
        return Subject(
            product=Product.SERVING, run_as=run_as, kind="endpoint", object_id=endpoint_id, object_name=name,
            tags=Subject.tagged(self._tags.get(endpoint_id)),
        )  # fmt: skip


def _version_subject(version: str, run_as: str) -> Subject:
    return Subject(product=Product.SERVING, run_as=run_as, kind="model", object_id=version[:255], object_name=version)
