"""Gate runs: one look of a policy's slow checks at a version, or what refused a move; their table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Index, Integer, Row, String, Table, select, update
from sqlalchemy import insert as insert_into

from millpond.kernel.clock import utc_now
from millpond.kernel.database import Json, UtcDateTime, metadata
from millpond.kernel.ids import new_id
from millpond.registry.checks import Finding
from millpond.registry.policies import Policy
from millpond.tracking.watch import Target, TargetKind

QUEUED, RUNNING, PASSED, FAILED, ERROR, REFUSED = "queued", "running", "passed", "failed", "error", "refused"
UNDER_WAY = frozenset({QUEUED, RUNNING})
_SHOWN = 200

gate_runs = Table(
    "registry_gate_runs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("model_key", String(300), nullable=False),
    Column("model", String(256), nullable=False),
    Column("version", Integer, nullable=False),
    Column("target_kind", String(10), nullable=False),
    Column("target", String(256), nullable=False),
    Column("champion", Integer),
    Column("scope_key", String(300), nullable=False),
    Column("policy_version", Integer, nullable=False),
    Column("state", String(20), nullable=False),
    Column("findings", Json, nullable=False),
    Column("requested_by", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index("ix_registry_gate_runs_model_key_version", "model_key", "version"),
)


@dataclass(frozen=True, kw_only=True)
class GateRun:
    """One look."""

    id: str
    model: str
    version: int
    target: Target
    champion: int | None
    scope_key: str
    policy_version: int
    state: str
    findings: tuple[Finding, ...]
    requested_by: str
    created_at: datetime
    ended_at: datetime | None

    @property
    def is_a_verdict(self) -> bool:
        """Whether the checks could look: an error of ours is no reason to keep a version for good."""
        return self.state in {PASSED, FAILED}


def insert(
    connection: Connection,
    *,
    key: str,
    model: str,
    version: int,
    target: Target,
    champion: int | None,
    policy: Policy,
    state: str,
    requested_by: str,
    findings: Sequence[Finding] = (),
) -> str:
    """One more; its id."""
    now = utc_now()
    values = {
        "id": new_id(), "model_key": key, "model": model, "version": version, "target_kind": target.kind.value,
        "target": target.name, "champion": champion, "scope_key": policy.scope_key, "policy_version": policy.version,
        "state": state, "findings": [finding_json(finding) for finding in findings], "requested_by": requested_by,
        "created_at": now, "ended_at": None if state in UNDER_WAY else now,
    }  # fmt: skip
    connection.execute(insert_into(gate_runs).values(values))
    return str(values["id"])


def write(connection: Connection, run_id: str, *, state: str, findings: Sequence[Finding] = ()) -> None:
    """How a run goes on or ends."""
    values = {
        "state": state,
        "findings": [finding_json(finding) for finding in findings],
        "ended_at": None if state in UNDER_WAY else utc_now(),
    }
    connection.execute(update(gate_runs).where(gate_runs.c.id == run_id).values(values))


def find(connection: Connection, run_id: str) -> GateRun | None:
    """The run with an id."""
    row = connection.execute(select(gate_runs).where(gate_runs.c.id == run_id)).first()
    return None if row is None else _run(row)


def get(connection: Connection, run_id: str) -> GateRun:
    """The run with an id, which is known to be there."""
    return _run(connection.execute(select(gate_runs).where(gate_runs.c.id == run_id)).one())


def find_last(
    connection: Connection, *, key: str, version: int, target: Target, champion: int | None, policy: Policy
) -> GateRun | None:
    """The newest look of a policy's slow checks at a version, against the same champion."""
    query = select(gate_runs).where(
        gate_runs.c.model_key == key,
        gate_runs.c.version == version,
        gate_runs.c.target_kind == target.kind.value,
        gate_runs.c.target == target.name,
        gate_runs.c.champion.is_(None) if champion is None else gate_runs.c.champion == champion,
        gate_runs.c.scope_key == policy.scope_key,
        gate_runs.c.policy_version == policy.version,
        gate_runs.c.state != REFUSED,
    )
    row = connection.execute(query.order_by(gate_runs.c.id.desc()).limit(1)).first()
    return None if row is None else _run(row)


def was_held_against(connection: Connection, run: GateRun) -> bool:
    """Whether somebody was kept from moving the version after a run had ended."""
    query = select(gate_runs.c.id).where(
        gate_runs.c.id > run.id,
        gate_runs.c.model == run.model,
        gate_runs.c.version == run.version,
        gate_runs.c.target_kind == run.target.kind.value,
        gate_runs.c.target == run.target.name,
        gate_runs.c.scope_key == run.scope_key,
        gate_runs.c.state == REFUSED,
        gate_runs.c.created_at >= run.ended_at,
    )
    return connection.execute(query.limit(1)).first() is not None


def list_of(connection: Connection, key: str, version: int | None) -> list[GateRun]:
    """Runs of a model or of a version, newest first."""
    query = select(gate_runs).where(gate_runs.c.model_key == key)
    if version is not None:
        query = query.where(gate_runs.c.version == version)
    return [_run(row) for row in connection.execute(query.order_by(gate_runs.c.id.desc()).limit(_SHOWN))]


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding as it is kept and shown."""
    return asdict(finding)


def _run(row: Row[Any]) -> GateRun:
    return GateRun(
        id=row.id,
        model=row.model,
        version=row.version,
        target=Target(TargetKind(row.target_kind), row.target),
        champion=row.champion,
        scope_key=row.scope_key,
        policy_version=row.policy_version,
        state=row.state,
        findings=tuple(Finding(**finding) for finding in row.findings),
        requested_by=row.requested_by,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )
