"""What one can do with clusters. What is to be done is written into their rows; `runtime.py` does it."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from millpond.compute import pools as pool_rules
from millpond.compute.costs import ClusterQuotas, Take
from millpond.compute.domain import Cluster, Event, Source, State, Why
from millpond.compute.machine import Machine
from millpond.compute.policies import PolicyService
from millpond.compute.pools import PoolService
from millpond.compute.specs import check_single_user, completed, read
from millpond.compute.store import clusters as rows
from millpond.compute.store import contexts
from millpond.identity import acts, grants
from millpond.identity.access import Act, Securable, allows, require, require_admin
from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import Conflict, FailedPrecondition, InvalidArgument, LimitExceeded, NotFound

ALIVE = timedelta(seconds=30)
"""So long a server is thought to live after it has said so."""
_ACTS = {"STARTING": "start", "RESTARTING": "restart", "RESIZING": "resize"}
"""What users do, by the event that tells of it."""
ASKED_BESIDE = ("idempotency_token", "apply_policy_default_values", "cluster_id")
"""Fields of requests that are no attributes of a cluster."""


@dataclass(frozen=True, kw_only=True)
class EventsAsked:
    """Which events of a cluster."""

    types: Sequence[str] = ()
    start: datetime | None = None
    end: datetime | None = None
    ascending: bool = False
    offset: int = 0
    limit: int = 50


class ClusterService:
    """Clusters, for users. Every method blocks."""

    def __init__(
        self, database: Database, *, server: str, machine: Machine, policies: PolicyService, pools: PoolService,
        check_secrets: Callable[[Principal, str], None], kind_of: Callable[[str], PrincipalKind | None],
        quotas: ClusterQuotas, wake: Callable[[], None],
    ) -> None:  # fmt: skip
        """`check_secrets` raises for a text with references that somebody may not use."""
        self._database = database
        self._server = server
        self.machine = machine
        self._policies = policies
        self._pools = pools
        self._check_secrets = check_secrets
        self._kind_of = kind_of
        self._quotas = quotas
        self._wake = wake

    # -- making and changing --------------------------------------------------------------------------------------

    def create(
        self, principal: Principal, asked: Mapping[str, Any], *, source: Source = Source.API, run_id: int | None = None,
        token: str | None = None,
    ) -> Cluster:  # fmt: skip
        """Make a cluster, and start it; the one that was made with the same idempotency token, if there is one.

        Raises InvalidArgument, PermissionDenied, NotFound, LimitExceeded, NotImplementedHere.
        """
        given = str(asked.get("idempotency_token") or "")
        token = token or (f"{principal.id}:{given}" if given else None)
        if token and (known := self._made_with(token)):
            return known
        spec = self.checked(principal, asked, cluster_type=source.cluster_type)
        now = utc_now()
        cluster = Cluster(
            id=f"{now:%m%d-%H%M%S}-{secrets.token_hex(4)}", name=spec.get("cluster_name") or "", source=source,
            creator=principal.name, spec=spec, state=State.PENDING, message="Starting.", server=self._server,
            run_id=run_id, created_at=now, used_at=now, workers=_fewest(spec), alive_until=now + ALIVE,
        )  # fmt: skip
        take = self._quotas.admit(cluster)
        try:
            self._add(principal, cluster, token, take)
        except (Conflict, LimitExceeded):  # perhaps as somebody else was sooner with the same token
            known = self._made_with(token) if token else None
            if known is None:
                raise
            return known
        self._wake()
        return cluster

    def _add(self, principal: Principal, cluster: Cluster, token: str | None, take: Take | None) -> None:
        with self._database.write() as connection:
            if cluster.source is not Source.JOB:
                self._policies.check_count(connection, principal.name, cluster.spec.get("policy_id"))
            if take is not None:
                take(connection)
            rows.add(connection, cluster, token)
            rows.note(connection, cluster.id, "CREATING", user=principal.name, attributes=dict(cluster.spec))
            acts.changed(connection, principal.name, "create", "cluster", cluster.name, object_id=cluster.id)

    def checked(self, principal: Principal, asked: Mapping[str, Any], *, cluster_type: str) -> dict[str, Any]:
        """The attributes that a cluster would have. Raises what `create` does."""
        defaults = bool(asked.get("apply_policy_default_values"))
        attributes = read({name: value for name, value in asked.items() if name not in ASKED_BESIDE})
        allowed = self._policies.apply(principal, attributes, cluster_type=cluster_type, defaults=defaults)
        spec = completed(
            read(allowed), self.machine, lambda pool_id: self._pools.node_type(principal, pool_id),
            creator=principal.name,
        )  # fmt: skip
        for text in spec.get("spark_env_vars", {}).values():
            self._check_secrets(principal, text)
        return spec

    def edit(
        self, principal: Principal, cluster_id: str, asked: Mapping[str, Any], *, fields: Sequence[str] | None = None
    ) -> Cluster:
        """Give a cluster other attributes, all of them or some `fields`; one that runs is started anew.

        Raises as `create`, and FailedPrecondition.
        """
        cluster = self.require(principal, cluster_id, Act.MANAGE)
        cluster.require("edit")
        wanted = dict(asked) if fields is None else _updated(cluster.spec, asked, fields)
        spec = self.checked(principal, wanted, cluster_type=cluster.source.cluster_type)
        changed = replace(cluster, spec=spec, name=spec.get("cluster_name") or "")
        take = None if cluster.state.ended else self._quotas.admit(changed, instead_of=cluster)
        with self._database.write() as connection:
            _keep_as(connection, cluster)
            if spec.get("policy_id") != cluster.spec.get("policy_id"):
                self._policies.check_count(connection, cluster.creator, spec.get("policy_id"))
            if take is not None:
                take(connection)
            runs = cluster.state is State.RUNNING
            values = {"spec": spec, "name": changed.name, "workers": _fewest(spec)}
            rows.move(connection, cluster, State.RESTARTING if runs else cluster.state, **values)
            told = {"attributes": spec, "previous_attributes": dict(cluster.spec)}
            rows.note(connection, cluster_id, "EDITED", user=principal.name, **told)
            acts.changed(connection, principal.name, "update", "cluster", changed.name, object_id=cluster_id)
        self._wake()
        return changed

    def start(self, principal: Principal, cluster_id: str) -> None:
        """Start a cluster that has ended. Raises NotFound, FailedPrecondition."""
        cluster = self.require(principal, cluster_id, Act.RESTART)
        cluster.require("start")
        take = self._quotas.admit(cluster)
        now = utc_now()
        self._order(
            principal, cluster, State.PENDING, "STARTING", take=take, message="Starting.", server=self._server,
            termination={}, used_at=now, workers=_fewest(cluster.spec), alive_until=now + ALIVE,
        )  # fmt: skip

    def restart(self, principal: Principal, cluster_id: str) -> None:
        """End and start a cluster that runs. Raises NotFound, FailedPrecondition."""
        cluster = self.require(principal, cluster_id, Act.RESTART)
        cluster.require("restart")
        self._order(principal, cluster, State.RESTARTING, "RESTARTING", message="Starting anew.", used_at=utc_now())

    def terminate(self, principal: Principal, cluster_id: str) -> None:
        """End a cluster; harmless when it has ended. Its row stays. Raises NotFound."""
        cluster = self.require(principal, cluster_id, Act.RESTART)
        self._end(principal.name, cluster, Why.USER_REQUEST, username=principal.name)

    def finish(self, cluster: Cluster) -> None:
        """End a cluster that was made for a run, which is over."""
        self._end("system", cluster, Why.JOB_FINISHED)

    def remove(self, principal: Principal, cluster_id: str) -> None:
        """End a cluster, and remove it. Raises NotFound."""
        cluster = self.require(principal, cluster_id, Act.MANAGE)
        self._end(principal.name, cluster, Why.USER_REQUEST, username=principal.name)
        with self._database.write() as connection:
            rows.change(connection, cluster_id, removed=True, pinned=False)
            grants.forget(connection, cluster.securable.ids)
            acts.changed(connection, principal.name, "delete", "cluster", cluster.name, object_id=cluster_id)
        self._wake()

    def resize(self, principal: Principal, cluster_id: str, asked: Mapping[str, Any]) -> None:
        """Give a cluster that runs other workers. Raises NotFound, InvalidArgument, FailedPrecondition."""
        cluster = self.require(principal, cluster_id, Act.MANAGE)
        cluster.require("resize")
        kept = {name: each for name, each in cluster.spec.items() if name not in ("num_workers", "autoscale")}
        given = {name: asked[name] for name in ("num_workers", "autoscale") if asked.get(name) is not None}
        spec = self.checked(principal, kept | given, cluster_type=cluster.source.cluster_type)
        changed = replace(cluster, spec=spec)
        least, most = changed.bounds
        target = min(max(cluster.workers, least), most)
        take = self._quotas.admit(changed, instead_of=cluster)
        details = {"current_num_workers": cluster.workers, "target_num_workers": target, "cause": "USER_REQUEST"}
        self._order(principal, cluster, State.RESIZING, "RESIZING", details, take=take, spec=spec, message="Resizing.")

    def pin(self, principal: Principal, cluster_id: str, *, pinned: bool) -> None:
        """Keep a cluster's row for good, or not. Raises NotFound, PermissionDenied."""
        cluster = self.require(principal, cluster_id, Act.SEE)
        require_admin(principal, "pin and unpin clusters")
        with self._database.write() as connection:
            rows.change(connection, cluster_id, pinned=pinned)
            rows.note(connection, cluster_id, "PINNED" if pinned else "UNPINNED", user=principal.name)
            act = "pin" if pinned else "unpin"
            acts.changed(connection, principal.name, act, "cluster", cluster.name, object_id=cluster_id)

    def change_owner(self, principal: Principal, cluster_id: str, owner: str) -> None:
        """Give a cluster that has ended to somebody. Raises NotFound, PermissionDenied, InvalidArgument."""
        cluster = self.require(principal, cluster_id, Act.SEE)
        require_admin(principal, "change the owner of a cluster")
        cluster.require("give to somebody")
        if self._kind_of(owner) not in (PrincipalKind.USER, PrincipalKind.SERVICE_PRINCIPAL):
            raise InvalidArgument(f"'{owner[:80]}' is no user or service principal, which an owner is.")
        with self._database.write() as connection:
            rows.change(connection, cluster_id, creator=owner)
            acts.changed(connection, principal.name, "give", "cluster", cluster.name, new_owner=owner)

    # -- looking --------------------------------------------------------------------------------------------------

    def get(self, principal: Principal, cluster_id: str) -> Cluster:
        """A cluster. Raises NotFound."""
        return self.require(principal, cluster_id, Act.SEE)

    def list_all(self, principal: Principal) -> list[Cluster]:
        """The clusters that the principal may see, those made last first."""
        with self._database.read() as connection:
            found = rows.every(connection)
        return [cluster for cluster in found if allows(principal, Act.SEE, cluster.securable)]

    def events(self, principal: Principal, cluster_id: str, asked: EventsAsked) -> tuple[list[Event], int]:
        """Some of what happened to a cluster, and how much there is. Raises NotFound."""
        self.require(principal, cluster_id, Act.SEE)
        with self._database.read() as connection:
            return rows.events_of(connection, cluster_id, **vars(asked))

    def require(self, principal: Principal, cluster_id: str, act: Act) -> Cluster:
        """A cluster to which the principal may do this. Raises NotFound, PermissionDenied."""
        with self._database.read() as connection:
            cluster = find(connection, cluster_id)
        require(principal, act, cluster.securable)
        return cluster

    def require_use(self, principal: Principal, cluster_id: str) -> Cluster:
        """A cluster on which the principal may run code. Raises NotFound, PermissionDenied."""
        cluster = self.require(principal, cluster_id, Act.USE)
        check_single_user(cluster.spec, cluster_id, principal.name)
        return cluster

    def require_running(self, principal: Principal, cluster_id: str) -> Cluster:
        """One that runs, besides. Raises FailedPrecondition too."""
        cluster = self.require_use(principal, cluster_id)
        if cluster.state not in (State.RUNNING, State.RESIZING):
            raise FailedPrecondition(f"Cluster '{cluster_id}' is {cluster.state}, not RUNNING; start it first.")
        return cluster

    # -- compliance -----------------------------------------------------------------------------------------------

    def compliance(self, principal: Principal, cluster_id: str) -> Mapping[str, str]:
        """What a cluster breaks of its policy as that is now, by path. Raises NotFound, FailedPrecondition."""
        cluster = self.require(principal, cluster_id, Act.SEE)
        policy_id = cluster.spec.get("policy_id")
        if not policy_id:
            raise FailedPrecondition(f"Cluster '{cluster_id}' has no policy.")
        verdict = self._policies.judge(policy_id, cluster.spec, cluster_type=cluster.source.cluster_type)
        changed = {path: f"{path} is fixed to {value}" for path, value in verdict.applied.items()}
        return changed | {each.path: each.message for each in verdict.violations}

    def of_policy(self, principal: Principal, policy_id: str) -> list[Cluster]:
        """The clusters of a policy that the principal may see."""
        return [each for each in self.list_all(principal) if each.spec.get("policy_id") == policy_id]

    # -- moving on ------------------------------------------------------------------------------------------------

    def _made_with(self, token: str) -> Cluster | None:
        with self._database.read() as connection:
            known = rows.with_token(connection, token)
        if known is not None and known.removed:
            raise NotFound("The cluster that was made with this idempotency_token was deleted; use another token.")
        return known

    def _order(
        self, principal: Principal, cluster: Cluster, to: State, event: str, details: Mapping[str, Any] | None = None,
        *, take: Take | None = None, **values: Any,
    ) -> None:  # fmt: skip
        with self._database.write() as connection:
            _keep_as(connection, cluster)
            if take is not None:
                take(connection)
            rows.move(connection, cluster, to, **values)
            rows.note(connection, cluster.id, event, user=principal.name, **(details or {}))
            acts.changed(connection, principal.name, _ACTS[event], "cluster", cluster.name, object_id=cluster.id)
        self._wake()

    def _end(self, actor: str, cluster: Cluster, why: Why, **parameters: str) -> None:
        """End a cluster, in whatever state it is by now."""
        with self._database.write() as connection:
            now = rows.find(connection, cluster.id, lock=True)
            if now is None or not order_end(connection, now, why, **parameters):
                return
            acts.changed(connection, actor, "terminate", "cluster", cluster.name, object_id=cluster.id)
        self._wake()


def _keep_as(connection: Connection, cluster: Cluster) -> None:
    """Have nobody change a cluster until the transaction ends. Comes before quotas are asked, as whoever changed it
    meanwhile may have taken what is left of them. Raises FailedPrecondition where it is not as it was seen."""
    now = rows.find(connection, cluster.id, lock=True)
    if now is None or (now.state, now.starts, now.spec) != (cluster.state, cluster.starts, cluster.spec):
        raise FailedPrecondition(f"Cluster '{cluster.id}' was changed at the same time; look at it and try again.")


def order_end(connection: Connection, cluster: Cluster, why: Why, **parameters: str) -> bool:
    """A cluster is to end; False where it has, is to already, or is not as it was seen any more."""
    if cluster.state.ended or cluster.state is State.TERMINATING:
        return False
    reason = {"code": why.value, "type": why.type, "parameters": parameters}
    told = {"message": why_words(why, parameters), "termination": reason}
    if not rows.move(connection, cluster, State.TERMINATING, **told):
        return False
    rows.note(connection, cluster.id, "TERMINATING", reason=reason)
    return True


def has_ended(connection: Connection, cluster: Cluster, why: Why, message: str, *, event: str = "TERMINATING") -> None:
    """A cluster has ended by itself."""
    reason = {"code": why.value, "type": why.type, "parameters": {"error_message": message}}
    ended = {"terminated_at": utc_now(), "termination": reason, "message": message}
    if rows.move(connection, cluster, State.TERMINATED, **ended):
        rows.note(connection, cluster.id, event, reason=reason)


def why_words(why: Why, parameters: Mapping[str, str]) -> str:
    """A reason, for people."""
    match why:
        case Why.USER_REQUEST:
            return f"Ended by {parameters.get('username', 'a user')}."
        case Why.INACTIVITY:
            return f"Ended after {parameters.get('inactivity_duration_min', '')} minutes without use."
        case Why.JOB_FINISHED:
            return "Ended with the run that it was made for."
        case _:
            return parameters.get("error_message", why.value)


def find(connection: Connection, cluster_id: str) -> Cluster:
    """A cluster that is not to go, without a check of rights. Raises NotFound."""
    cluster = rows.find(connection, cluster_id)
    if cluster is None or cluster.removed:
        raise NotFound(f"Cluster '{cluster_id[:80]}' does not exist.")
    return cluster


def securable_of(connection: Connection, cluster_id: str) -> Securable:
    """For permissions. Raises NotFound."""
    return find(connection, cluster_id).securable


def pool_lacks(connection: Connection, cluster: Cluster, workers: int) -> str:
    """Why its instance pool has none left for it; empty where it has, or it has no pool. Raises NotFound."""
    pool_id = cluster.spec.get("instance_pool_id")
    if not pool_id:
        return ""
    pool = pool_rules.find(connection, pool_id)
    used = pool_rules.used_by(connection, pool_id, but=cluster.id)
    if pool.max_capacity is None or used + 1 + workers <= pool.max_capacity:
        return ""
    return f"instance pool '{pool.name}' has {pool.max_capacity} instances at most, of which {used} are used"


def forget(connection: Connection, cluster: Cluster) -> None:
    """Remove a cluster that has no processes, and all that hangs on it."""
    for context in contexts.of_clusters(connection, [cluster.id]):
        contexts.remove(connection, context.id)
    rows.remove(connection, cluster.id)
    grants.forget(connection, cluster.securable.ids)


def _fewest(spec: Mapping[str, Any]) -> int:
    return int(spec["autoscale"]["min_workers"] if "autoscale" in spec else spec.get("num_workers") or 0)


def _updated(spec: Mapping[str, Any], asked: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """The attributes with some fields (`num_workers`, `spark_conf.x`) replaced, or removed where nothing is given."""
    wanted = dict(spec)
    for field in fields:
        if field == "*":
            return dict(asked)
        if field in ("num_workers", "autoscale"):
            wanted.pop("autoscale" if field == "num_workers" else "num_workers", None)
        head, _, key = field.partition(".")
        given = asked.get(head)
        if key:
            inner = dict(wanted.get(head) or {})
            inner.pop(key, None)
            given = inner | ({key: given[key]} if isinstance(given, Mapping) and key in given else {})
        wanted.pop(head, None)
        if given is not None:
            wanted[head] = given
    return wanted
