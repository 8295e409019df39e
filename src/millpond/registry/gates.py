"""Gates: what is asked before a version gets to a guarded target, by whichever client.

Quick checks are looked at when somebody moves the version; slow ones run in the background, once for a version, a
policy's version and the champion of the moment, and whoever moves waits for them a while. In the transaction of the
move it is looked at again whether what let the version pass still holds.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, select

from millpond.identity import acts
from millpond.identity.access import Act, Securable, require, require_admin
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from millpond.kernel.work import Item, enqueue
from millpond.registry import gate_runs, policies, store
from millpond.registry.bench import Bench
from millpond.registry.built_in import check_named, examine
from millpond.registry.checks import Finding, Subject
from millpond.registry.domain import Request, clean_text
from millpond.registry.gate_runs import GateRun
from millpond.registry.policies import REVIEWERS, CheckSpec, Policy
from millpond.registry.recorder import FindModel
from millpond.tracking.domain import canonical_model_name
from millpond.tracking.watch import Target, because

WORK = "registry.gate"
_LOOK_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Admission:
    """A version was let pass."""

    key: str
    version: int
    target: Target
    policies: tuple[tuple[str, int], ...]
    last_move: int
    """The last move of the target until then: another since makes another champion."""
    evidence: Mapping[str, Any] = field(default_factory=dict)


_admission: ContextVar[Admission | None] = ContextVar("millpond_admission", default=None)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is known of a version that is about to move."""

    securable: Securable
    model: str
    version: int
    target: Target
    champion: int | None
    policies: Sequence[Policy]
    last_move: int
    author: str
    description: str
    tags: Mapping[str, str]


class Gates:
    """Who lets versions pass (`recorder.Gate`)."""

    def __init__(self, database: Database, find_model: FindModel, bench: Bench, *, wait_s: float) -> None:
        """`wait_s` is how long whoever moves a version waits for slow checks."""
        self._database = database
        self._find_model = find_model
        self._bench = bench
        self._wait_s = wait_s

    # Letting pass

    @contextmanager
    def admitted(self, principal: Principal, model: str, version: int, target: Target) -> Iterator[None]:
        """A block in which the version may be moved there. Raises FailedPrecondition naming what failed."""
        reset = _admission.set(self._examined(principal, model, version, target))
        try:
            yield
        finally:
            _admission.reset(reset)

    def proof(self, connection: Connection, securable: Securable, version: int, target: Target) -> Mapping[str, Any]:
        """What let the version pass, in the transaction of the move. Raises Conflict when nothing did."""
        guards = policies.guarding(connection, securable.ids, target)
        if not guards:
            return {}
        found = _admission.get()
        now = (securable.ids[0], version, target, _named(guards), _last_move(connection, securable.ids[0], target))
        if found is None or now != (found.key, found.version, found.target, found.policies, found.last_move):
            raise Conflict(
                f"{target} of model '{securable.name}' is guarded by the policy of {guards[0].scope}, and something "
                "changed while its checks were looked at; move the version again."
            )
        return found.evidence

    def require_unguarded(self, connection: Connection, securable: Securable, model: str) -> None:
        """Pass unless the model, under its new name, has what another schema than its own before guards.

        Its own policy and those that held before let its versions pass; which those are, evidence tells. Raises
        FailedPrecondition.
        """
        for policy in policies.in_force(connection, securable.ids[1:]):
            for target in policy.rules.targets:
                holder = store.holder(connection, model, target)
                if holder is not None and not _has_passed(connection, securable.ids[0], holder, target, policy):
                    raise FailedPrecondition(
                        f"The policy of {policy.scope} guards {target}, which version {holder} of the model has "
                        "without having passed it; take it away, move the model, and set it again."
                    )

    def _examined(self, principal: Principal, model: str, version: int, target: Target) -> Admission | None:
        asked = self._asked(model, version, target)
        if asked is None or not asked.policies:
            return None
        if because().override:
            require_admin(principal, "move a version past its gates")
            return self._admission(asked, {"overridden": True, "gates": self._known(asked)})
        if because().rollback and (former := self._former(asked)) is not None:
            return self._admission(asked, {"gates": former})
        findings = self._findings(principal, asked)
        failed = [finding for _, found in findings for finding in found if not finding.passed]
        told = [_told(policy, found) for policy, found in findings]
        if failed:
            self._keep_refusal(principal, asked, findings)
            raise FailedPrecondition(_refusal(asked, failed))
        return self._admission(asked, {"gates": told})

    def _asked(self, model: str, version: int, target: Target) -> _Asked | None:
        """None where there is no such version: whoever moves it will be told."""
        with self._database.read() as connection:
            try:
                securable = self._find_model(connection, model)
            except NotFound:
                return None
            row = store.find_version(connection, model, version)
            guards = policies.guarding(connection, securable.ids, target) if row else []
            if row is None or not guards:
                return None
            holder = store.holder(connection, model, target)
            return _Asked(
                securable=securable,
                model=model,
                version=version,
                target=target,
                champion=holder if holder != version else None,
                policies=guards,
                last_move=_last_move(connection, securable.ids[0], target),
                author=row.user_id or "",
                description=row.description or "",
                tags=store.version_tags(connection, model, version),
            )

    def _findings(self, principal: Principal, asked: _Asked) -> list[tuple[Policy, list[Finding]]]:
        """Quick checks of all policies first: while one of them fails, nothing is tried out."""
        quick = [(policy, self._look(asked, policy, slow=False)) for policy in asked.policies]
        if any(not finding.passed for _, found in quick for finding in found):
            return quick
        runs = {policy.scope_key: self._run_for(principal, asked, policy) for policy in asked.policies}
        deadline = time.monotonic() + self._wait_s
        return [(policy, [*found, *self._awaited(runs[policy.scope_key], deadline)]) for policy, found in quick]

    def _look(self, asked: _Asked, policy: Policy, *, slow: bool) -> list[Finding]:
        checks = [check for check in policy.rules.checks if check_named(check.name).slow is slow]
        if not checks:
            return []
        with self._database.read() as connection:
            missing = self._missing(connection, asked, policy)
        subject = Subject(
            model=asked.model,
            version=asked.version,
            target=asked.target,
            author=asked.author,
            description=asked.description,
            tags=asked.tags,
            approvals_missing=missing,
            champion=asked.champion,
            tools=self._bench.tools(asked.model, policy),
        )
        return [examine(check.name, check.params, subject) for check in checks]

    def _run_for(self, principal: Principal, asked: _Asked, policy: Policy) -> str | None:
        """The id of the run of the policy's slow checks, begun where there is none; None without slow checks."""
        if not any(check_named(check.name).slow for check in policy.rules.checks):
            return None
        with self._database.write() as connection:
            return self._begun(connection, principal, asked, policy, again=False)

    def _begun(
        self, connection: Connection, principal: Principal, asked: _Asked, policy: Policy, *, again: bool
    ) -> str:
        found = gate_runs.find_last(
            connection,
            key=asked.securable.ids[0],
            version=asked.version,
            target=asked.target,
            champion=asked.champion,
            policy=policy,
        )
        if found is not None and found.state in gate_runs.UNDER_WAY:
            return found.id
        if found is not None and not again and _counts(connection, found, policy):
            return found.id
        run_id = self._noted(connection, principal, asked, policy, gate_runs.QUEUED)
        enqueue(connection, WORK, {"run_id": run_id})
        return run_id

    def _noted(
        self,
        connection: Connection,
        principal: Principal,
        asked: _Asked,
        policy: Policy,
        state: str,
        findings: Sequence[Finding] = (),
    ) -> str:
        return gate_runs.insert(
            connection,
            key=asked.securable.ids[0],
            model=asked.model,
            version=asked.version,
            target=asked.target,
            champion=asked.champion,
            policy=policy,
            state=state,
            requested_by=principal.name,
            findings=findings,
        )

    def _awaited(self, run_id: str | None, deadline: float) -> Sequence[Finding]:
        if run_id is None:
            return ()
        while True:
            with self._database.read() as connection:
                run = gate_runs.get(connection, run_id)
            if run.state not in gate_runs.UNDER_WAY:
                return run.findings
            if time.monotonic() > deadline:
                return (Finding(check="gate run", passed=False, message=f"run {run_id} still works; "
                                "move the version again when it is done"),)  # fmt: skip
            time.sleep(_LOOK_S)

    def _admission(self, asked: _Asked, evidence: Mapping[str, Any]) -> Admission:
        return Admission(
            key=asked.securable.ids[0],
            version=asked.version,
            target=asked.target,
            policies=_named(asked.policies),
            last_move=asked.last_move,
            evidence=evidence,
        )

    def _known(self, asked: _Asked) -> list[dict[str, Any]]:
        """What is known without trying anything out, for whoever overrides it."""
        return [_told(policy, self._look(asked, policy, slow=False)) for policy in asked.policies]

    def _former(self, asked: _Asked) -> list[Any] | None:
        """What let a version pass that had the target before: a rollback must not wait."""
        with self._database.read() as connection:
            moves = store.list_activities(connection, asked.securable.ids[0], version=asked.version, limit=1000)
        put = [m for m in moves if (m.target_kind, m.target) == (asked.target.kind.value, asked.target.name)
               and m.type in {"ALIAS_SET", "APPLIED_TRANSITION"}]  # fmt: skip
        return list(put[0].evidence.get("gates", [])) if put else None

    def _keep_refusal(
        self, principal: Principal, asked: _Asked, findings: Sequence[tuple[Policy, Sequence[Finding]]]
    ) -> None:
        """What kept the version stays with it."""
        with self._database.write() as connection:
            for policy, found in findings:
                if any(not finding.passed for finding in found):
                    self._noted(connection, principal, asked, policy, gate_runs.REFUSED, found)
            acts.changed(connection, principal.name, "refuse to move", asked.securable.kind, asked.model,
                         version=asked.version, target=str(asked.target))  # fmt: skip

    # Reviewers

    def approvals_missing(
        self, connection: Connection, securable: Securable, model: str, version: int, target: Target
    ) -> int:
        """How many more approvals policies want before a version moves."""
        guards = policies.guarding(connection, securable.ids, target)
        row = store.find_version(connection, model, version)
        author = row.user_id if row else ""
        counts = [_missing_of(connection, securable.ids[0], version, target, author, each) for each in guards]
        return max(counts, default=0)

    def require_may_approve(
        self,
        connection: Connection,
        principal: Principal,
        securable: Securable,
        model: str,
        version: int,
        target: Target,
        asked: Sequence[Request],
    ) -> None:
        """Pass unless a policy wants somebody else than who made the version or asks. Raises PermissionDenied."""
        row = store.find_version(connection, model, version)
        for policy in policies.guarding(connection, securable.ids, target):
            params = _reviewers_of(policy)
            if params is None:
                continue
            excluded = _excluded(params, row.user_id if row else "", asked)
            if principal.name in excluded:
                acts.denied(principal, "approve a move of", securable.kind, model)
                raise PermissionDenied(
                    f"The policy of {policy.scope} wants somebody else to approve than who made version {version} "
                    "or asks for its move."
                )

    def _missing(self, connection: Connection, asked: _Asked, policy: Policy) -> int:
        return _missing_of(connection, asked.securable.ids[0], asked.version, asked.target, asked.author, policy)

    # Slow checks, in the background

    def run_item(self, item: Item) -> None:
        """Look at a version with the slow checks of a policy. Harmless when repeated."""
        run_id = str(item.payload["run_id"])
        with self._database.write() as connection:
            run = gate_runs.find(connection, run_id)
            if run is None or run.state not in gate_runs.UNDER_WAY:
                return
            policy = policies.get(connection, run.scope_key, run.policy_version)
            gate_runs.write(connection, run_id, state=gate_runs.RUNNING)
        asked = self._asked(run.model, run.version, run.target)
        try:
            found = self._look(asked, policy, slow=True) if asked is not None else []
        except Exception as error:
            if item.is_last:
                self._end(run_id, gate_runs.ERROR, [Finding(check="gate run", passed=False, message=str(error)[:500])])
            raise
        passed = asked is not None and all(finding.passed for finding in found)
        self._end(run_id, gate_runs.PASSED if passed else gate_runs.FAILED, found)

    def _end(self, run_id: str, state: str, findings: Sequence[Finding]) -> None:
        with self._database.write() as connection:
            gate_runs.write(connection, run_id, state=state, findings=findings)

    def begin(self, principal: Principal, name: str, version: str, target: Target) -> list[GateRun]:
        """Let slow checks look at a version, again where they have. Raises NotFound, PermissionDenied."""
        model = canonical_model_name(name)
        number = int(version) if version.isdecimal() and len(version) < 10 else 0
        with self._database.write() as connection:
            securable = self._find_model(connection, model)
            require(principal, Act.READ, securable)
            require(principal, Act.CREATE_VERSION, securable)
            if store.find_version(connection, model, number) is None:
                raise NotFound(f"Version '{version[:80]}' of model '{model}' does not exist.")
            acts.changed(connection, principal.name, "run gates of", securable.kind, model, version=number)
        asked = self._asked(model, number, target)
        if asked is None:
            return []
        with self._database.write() as connection:
            ids = [
                self._begun(connection, principal, asked, policy, again=True)
                for policy in asked.policies
                if any(check_named(check.name).slow for check in policy.rules.checks)
            ]
            return [gate_runs.get(connection, run_id) for run_id in ids]

    def list_runs(self, principal: Principal, name: str, version: str | None = None) -> list[GateRun]:
        """What gates found about a version, or all of a model, newest first. Raises NotFound."""
        number = int(version) if version and version.isdecimal() and len(version) < 10 else None
        with self._database.read() as connection:
            securable = self._find_model(connection, canonical_model_name(name))
            require(principal, Act.READ, securable)
            return gate_runs.list_of(connection, securable.ids[0], number)

    # Policies

    def put_policy(
        self,
        principal: Principal,
        securable: Securable,
        body: str,
        *,
        comment: str | None = None,
        tables_may_follow: bool = False,
    ) -> Policy:
        """The next version of the policy of a model, schema or catalog; an empty body takes it away.

        Its tables are read as whom it is from: with `tables_may_follow`, those that are not there yet are found then.
        Raises NotFound, PermissionDenied, InvalidArgument naming what is wrong.
        """
        require(principal, Act.MANAGE, securable)
        clean = clean_text(comment, "comment")
        for check in policies.parse(body).checks:
            check_named(check.name).prepare(check.params)
            for table in filter(None, map(check.params.get, ("table", "baseline", "keys"))):
                with suppress(*((NotFound,) if tables_may_follow else ())):
                    self._bench.require_readable(principal, str(table))
        with self._database.write() as connection:
            made = policies.put(connection, scope_key=securable.ids[0], scope=securable.name, body=body.strip(),
                                author=principal.name, comment=clean)  # fmt: skip
            acts.changed(connection, principal.name, "set the policy of", securable.kind, securable.name,
                         object_id=securable.ids[0], version=made.version)  # fmt: skip
        return made

    def list_policies(self, principal: Principal, securable: Securable, *, limit: int = 100) -> list[Policy]:
        """The versions of a policy, newest first. Raises NotFound."""
        require(principal, Act.SEE, securable)
        with self._database.read() as connection:
            return policies.versions(connection, securable.ids[0], limit)

    def in_force(self, principal: Principal, name: str) -> list[Policy]:
        """The policies that hold for a model: its own, its schema's, its catalog's. Raises NotFound."""
        with self._database.read() as connection:
            securable = self._find_model(connection, canonical_model_name(name))
            require(principal, Act.READ, securable)
            return policies.in_force(connection, securable.ids)


def _last_move(connection: Connection, key: str, target: Target) -> int:
    moved = store.activities
    query = select(func.max(moved.c.sequence)).where(
        moved.c.model_key == key,
        moved.c.type.in_(["ALIAS_SET", "ALIAS_REMOVED", "APPLIED_TRANSITION", "SYSTEM_TRANSITION"]),
        moved.c.target_kind == target.kind.value,
        moved.c.target == target.name,
    )
    return int(connection.execute(query).scalar() or 0)


def _has_passed(connection: Connection, key: str, version: int, target: Target, policy: Policy) -> bool:
    """Whether the move that brought a version to a target was let pass by a policy, in any version of it."""
    moves = store.list_activities(connection, key, version=version, limit=1000)
    last = next((m for m in moves if (m.target_kind, m.target) == (target.kind.value, target.name)), None)
    gates = last.evidence.get("gates", []) if last else []
    return any(gate.get("policy") == policy.scope for gate in gates)


def _counts(connection: Connection, run: GateRun, policy: Policy) -> bool:
    """Whether what a run found still says something: of what may change, a refusal is told once, a pass is not old."""
    if not run.is_a_verdict or run.ended_at is None:
        return False
    good_for_s = min(getattr(check_named(check.name), "good_for_s", math.inf) for check in policy.rules.checks)
    if good_for_s == math.inf:
        return True
    if run.state == gate_runs.FAILED and gate_runs.was_held_against(connection, run):
        return False
    return (utc_now() - run.ended_at).total_seconds() <= good_for_s


def _named(guards: Sequence[Policy]) -> tuple[tuple[str, int], ...]:
    return tuple((policy.scope_key, policy.version) for policy in guards)


def _told(policy: Policy, findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "policy": policy.scope,
        "policy_version": policy.version,
        "findings": [gate_runs.finding_json(finding) for finding in findings],
    }


def _refusal(asked: _Asked, failed: Sequence[Finding]) -> str:
    told = "; ".join(f"{finding.check}: {finding.message.rstrip('.')}" for finding in failed)
    return f"Version {asked.version} of model '{asked.model}' may not become {asked.target}. {told[:3000]}."


def _reviewers_of(policy: Policy) -> Mapping[str, Any] | None:
    found: CheckSpec | None = next((check for check in policy.rules.checks if check.name == REVIEWERS), None)
    return None if found is None else found.params


def _excluded(params: Mapping[str, Any], author: str | None, asked: Sequence[Request]) -> set[str]:
    excluded = set() if params.get("author_may_approve") else {author or ""}
    return excluded if params.get("requester_may_approve") else excluded | {request.creator for request in asked}


def _missing_of(
    connection: Connection, key: str, version: int, target: Target, author: str | None, policy: Policy
) -> int:
    params = _reviewers_of(policy)
    if params is None:
        return 0
    asked = store.open_requests(connection, key, version=version, target=target)
    approved = {approver for request in asked for approver in request.approvers}
    return max(0, int(params.get("approvals", 1)) - len(approved - _excluded(params, author, asked)))


def check_scope(kind: str) -> None:
    """Raises InvalidArgument for what has no policy."""
    if kind not in {"model", "schema", "catalog"}:
        raise InvalidArgument(f"'{kind[:60]}' has no policy; a model, a schema or a catalog has.")
