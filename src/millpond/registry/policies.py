"""Policies: which targets are guarded, and by which checks. Written in YAML, kept with all their versions.

```yaml
targets: [alias:production, stage:Production]
checks:
  - reviewers: {approvals: 1}
  - tags: {required: [team, dataset]}
  - metric: {table: main.eval.churn, table_version: 3, label: churned, name: accuracy, minimum: 0.8}
```
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Integer, String, Table, Text, insert, select

from millpond.kernel.clock import utc_now
from millpond.kernel.database import UtcDateTime, metadata
from millpond.kernel.errors import InvalidArgument
from millpond.registry.domain import target_of
from millpond.tracking.watch import Target

MAX_BODY = 64_000
REVIEWERS = "reviewers"
SERVER, OWN = "server", "own"
"""The packages with which a version is tried out: those that the server has, or those that it requires itself."""

policies = Table(
    "registry_policies",
    metadata,
    Column("scope_key", String(300), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("scope", String(256), nullable=False),
    Column("body", Text, nullable=False),
    Column("author", String(255), nullable=False),
    Column("comment", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class CheckSpec:
    """One check of a policy: its name and what it is told."""

    name: str
    params: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a policy says."""

    targets: tuple[Target, ...]
    checks: tuple[CheckSpec, ...]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One version of the policy of a model, schema or catalog."""

    scope_key: str
    scope: str
    """The name of what it is the policy of, then."""
    version: int
    body: str
    """YAML; empty where the policy was taken away."""
    author: str
    comment: str
    created_at: datetime

    @property
    def environment(self) -> str:
        """With which packages it lets versions be tried out."""
        asked = (check.params.get("environment") for check in self.rules.checks)
        return OWN if OWN in asked else SERVER

    @property
    def rules(self) -> Rules:
        """What it says."""
        return parse(self.body)


def parse(body: str) -> Rules:
    """The rules that a text in YAML writes. Raises InvalidArgument naming what is wrong."""
    if not body.strip():
        return Rules(targets=(), checks=())
    if len(body) > MAX_BODY:
        raise InvalidArgument(f"The policy has {len(body)} characters; at most {MAX_BODY}.")
    import yaml  # type: ignore[import-untyped]  # ships no types; only where policies are, and mlflow brings it

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(body, Loader=yaml.SafeLoader)):
            raise InvalidArgument("A policy has no YAML aliases (*name).")
        said = yaml.safe_load(body)
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidArgument(f"The policy is not YAML: {error}") from error
    if not isinstance(said, dict) or set(said) - {"targets", "checks"}:
        raise InvalidArgument("A policy has the keys 'targets' and 'checks', and no others.")
    targets, checks = said.get("targets"), said.get("checks")
    if not isinstance(targets, list) or not isinstance(checks, list) or not targets or not checks:
        raise InvalidArgument("A policy has a list of 'targets' (alias:NAME, stage:NAME) and a list of 'checks'.")
    return Rules(targets=tuple(map(_target, targets)), checks=tuple(map(_check, checks)))


def _target(text: Any) -> Target:
    kind, separator, name = str(text).partition(":")
    if not separator:
        raise InvalidArgument(f"Target '{str(text)[:60]}' is neither alias:NAME nor stage:NAME.")
    return target_of(kind.strip(), name.strip())


def _check(entry: Any) -> CheckSpec:
    if isinstance(entry, str):
        return CheckSpec(name=entry, params={})
    if isinstance(entry, dict) and len(entry) == 1:
        name, params = next(iter(entry.items()))
        if isinstance(name, str) and isinstance(params, dict | None):
            return CheckSpec(name=name, params=params or {})
    raise InvalidArgument(f"A check is a name, or a name with what it is told; '{str(entry)[:80]}' is neither.")


def put(connection: Connection, *, scope_key: str, scope: str, body: str, author: str, comment: str) -> Policy:
    """The next version of a policy."""
    last = select(policies.c.version).where(policies.c.scope_key == scope_key).order_by(policies.c.version.desc())
    version = (connection.execute(last.limit(1)).scalar() or 0) + 1
    made = Policy(scope_key=scope_key, scope=scope, version=version, body=body, author=author, comment=comment,
                  created_at=utc_now())  # fmt: skip
    connection.execute(insert(policies).values(vars(made)))
    return made


def versions(connection: Connection, scope_key: str, limit: int) -> list[Policy]:
    """The versions of a policy, newest first."""
    query = select(policies).where(policies.c.scope_key == scope_key).order_by(policies.c.version.desc()).limit(limit)
    return [Policy(**row._mapping) for row in connection.execute(query)]


def get(connection: Connection, scope_key: str, version: int) -> Policy:
    """One version of a policy, which is known to be there."""
    query = select(policies).where(policies.c.scope_key == scope_key, policies.c.version == version)
    return Policy(**connection.execute(query).one()._mapping)


def in_force(connection: Connection, scope_keys: Sequence[str]) -> list[Policy]:
    """The newest versions of the policies of these, without those that were taken away."""
    query = select(policies).where(policies.c.scope_key.in_(scope_keys)).order_by(policies.c.version)
    newest = {row.scope_key: Policy(**row._mapping) for row in connection.execute(query)}
    return [newest[key] for key in scope_keys if key in newest and newest[key].body]


def guarding(connection: Connection, scope_keys: Sequence[str], target: Target) -> list[Policy]:
    """The policies in force that guard a target."""
    return [policy for policy in in_force(connection, scope_keys) if target in policy.rules.targets]
