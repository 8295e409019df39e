"""What one can do with cluster policies."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from millpond.compute.domain import Policy
from millpond.compute.families import FAMILIES, Family
from millpond.compute.policy_rules import Verdict, evaluate, merged, parse
from millpond.compute.store import clusters
from millpond.compute.store import policies as rows
from millpond.identity import acts, grants
from millpond.identity.access import Act, Securable, allows, require, require_admin
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, LimitExceeded, NotFound, PermissionDenied
from millpond.kernel.ids import new_id

FREELY = "allow-cluster-create"
"""The entitlement of who may make clusters without a policy."""


@dataclass(frozen=True, kw_only=True)
class PolicyDraft:
    """What a policy is asked to be."""

    name: str
    definition: str | None = None
    family_id: str = ""
    overrides: str = ""
    description: str = ""
    max_clusters: int | None = None
    libraries: Sequence[Mapping[str, Any]] = ()

    def whole_definition(self) -> str:
        """With what the family says. Raises InvalidArgument, NotFound, NotImplementedHere."""
        if not self.family_id:
            if self.overrides:
                raise InvalidArgument("policy_family_definition_overrides go with a policy_family_id.")
            parse(self.definition or "{}")
            return self.definition or "{}"
        if self.definition:
            raise InvalidArgument("A policy of a family has policy_family_definition_overrides, and no definition.")
        return json.dumps(merged(family(self.family_id).definition, self.overrides))


def family(family_id: str) -> Family:
    """A family. Raises NotFound."""
    if family_id not in FAMILIES:
        raise NotFound(f"Policy family '{family_id[:80]}' does not exist; there are {', '.join(FAMILIES)}.")
    return FAMILIES[family_id]


class PolicyService:
    """Cluster policies, for users. Administrators make them."""

    def __init__(self, database: Database, entitled: Callable[[Principal, str], bool]) -> None:
        self._database = database
        self._entitled = entitled

    def create(self, principal: Principal, draft: PolicyDraft) -> Policy:
        """Make a policy. Raises PermissionDenied, InvalidArgument, AlreadyExists, NotFound."""
        require_admin(principal, "create a cluster policy")
        policy = _filled(
            Policy(id=_short_id(), name="", creator=principal.name, definition="{}", created_at=utc_now()), draft
        )
        with self._database.write() as connection:
            rows.put_policy(connection, policy, new=True)
            acts.changed(connection, principal.name, "create", "cluster policy", policy.name, object_id=policy.id)
        return policy

    def edit(self, principal: Principal, policy_id: str, draft: PolicyDraft) -> Policy:
        """Give a policy other contents; clusters that are there stay as they are. Raises as `create`, and NotFound."""
        policy = self._require(principal, policy_id, Act.MANAGE)
        changed = _filled(policy, draft)
        with self._database.write() as connection:
            rows.put_policy(connection, changed, new=False)
            acts.changed(connection, principal.name, "update", "cluster policy", changed.name, object_id=policy.id)
        return changed

    def delete(self, principal: Principal, policy_id: str) -> None:
        """Remove a policy; its clusters go on, and cannot be edited until they have another. Raises NotFound."""
        policy = self._require(principal, policy_id, Act.MANAGE)
        with self._database.write() as connection:
            rows.remove_policy(connection, policy_id)
            grants.forget(connection, policy.securable.ids)
            acts.changed(connection, principal.name, "delete", "cluster policy", policy.name, object_id=policy.id)

    def get(self, principal: Principal, policy_id: str) -> Policy:
        """A policy. Raises NotFound."""
        return self._require(principal, policy_id, Act.SEE)

    def list_all(self, principal: Principal) -> list[Policy]:
        """The policies that the principal may use, by name."""
        with self._database.read() as connection:
            found = rows.all_policies(connection)
        return [policy for policy in found if allows(principal, Act.SEE, policy.securable)]

    def may_do_without(self, principal: Principal) -> bool:
        """Whether the principal may make clusters without a policy."""
        return principal.is_admin or self._entitled(principal, FREELY)

    def apply(
        self, principal: Principal, attributes: Mapping[str, Any], *, cluster_type: str, defaults: bool
    ) -> Mapping[str, Any]:
        """The attributes with what their policy fills in. Raises PermissionDenied, NotFound, InvalidArgument."""
        policy_id = attributes.get("policy_id")
        if not policy_id:
            if not self.may_do_without(principal):
                raise PermissionDenied(
                    f"{principal.name} may make clusters under a policy only: give a policy_id, or ask an "
                    f"administrator for the entitlement {FREELY}."
                )
            return attributes
        policy = self._require(principal, policy_id, Act.USE)
        verdict = evaluate(parse(policy.definition), attributes, cluster_type=cluster_type, defaults=defaults)
        verdict.require(policy.name)
        return verdict.attributes

    def judge(self, policy_id: str, attributes: Mapping[str, Any], *, cluster_type: str) -> Verdict:
        """How a cluster that is there stands to its policy as that is now. Raises NotFound."""
        with self._database.read() as connection:
            policy = find(connection, policy_id)
        return evaluate(parse(policy.definition), attributes, cluster_type=cluster_type, defaults=False)

    def check_count(self, connection: Connection, creator: str, policy_id: str | None) -> None:
        """Raises LimitExceeded where somebody has as many clusters under a policy as it allows."""
        policy = rows.find_policy(connection, policy_id, lock=True) if policy_id else None
        if policy is None or policy.max_clusters is None:
            return
        if clusters.count_of(connection, creator, policy.id) >= policy.max_clusters:
            raise LimitExceeded(
                f"Policy '{policy.name}' allows {policy.max_clusters} clusters of each user (max_clusters_per_user), "
                f"and {creator} has as many; permanently delete one."
            )

    def libraries_of(self, policy_id: str | None) -> tuple[Mapping[str, Any], ...]:
        """What is installed on each cluster of a policy."""
        with self._database.read() as connection:
            policy = rows.find_policy(connection, policy_id) if policy_id else None
        return policy.libraries if policy else ()

    def _require(self, principal: Principal, policy_id: str, act: Act) -> Policy:
        with self._database.read() as connection:
            policy = find(connection, policy_id)
        require(principal, act, policy.securable)
        return policy


def find(connection: Connection, policy_id: str) -> Policy:
    """A policy, without a check of rights. Raises NotFound."""
    policy = rows.find_policy(connection, policy_id)
    if policy is None:
        raise NotFound(f"Cluster policy '{policy_id[:80]}' does not exist.")
    return policy


def securable_of(connection: Connection, policy_id: str) -> Securable:
    """For permissions. Raises NotFound."""
    return find(connection, policy_id).securable


def _filled(policy: Policy, draft: PolicyDraft) -> Policy:
    if not 1 <= len(draft.name) <= 100 or "\0" in draft.name:
        raise InvalidArgument("A policy's name has 1 to 100 characters.")
    if draft.max_clusters is not None and draft.max_clusters < 1:
        raise InvalidArgument("max_clusters_per_user is a positive number.")
    return replace(
        policy, name=draft.name, definition=draft.whole_definition(), description=draft.description[:4000],
        family_id=draft.family_id, overrides=draft.overrides, max_clusters=draft.max_clusters,
        libraries=tuple(draft.libraries),
    )  # fmt: skip


def _short_id() -> str:
    return new_id().replace("-", "")[-16:].upper()
