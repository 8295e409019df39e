"""The JSON of rule sets: who has which role on a tag policy. Source: `databricks/sdk/service/iam.py`."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from millpond.identity.domain import PrincipalKind
from millpond.identity.grants import Assignment, Change
from millpond.identity.privileges import Privilege
from millpond.kernel.errors import InvalidArgument, NotImplementedHere

ROLES = {"roles/tagPolicy.manager": Privilege.MANAGE, "roles/tagPolicy.assigner": Privilege.ASSIGN}
_ROLE_OF = {privilege: role for role, privilege in ROLES.items()}
_PREFIXES = {
    PrincipalKind.USER: "users", PrincipalKind.GROUP: "groups", PrincipalKind.SERVICE_PRINCIPAL: "servicePrincipals",
}  # fmt: skip
_KINDS = {prefix: kind for kind, prefix in _PREFIXES.items()}
_RESOURCE = re.compile(r"accounts/[^/]+/tagPolicies/(?P<id>[^/]+)(?:/ruleSets/default)?")


class GrantRule(BaseModel):
    """A role and who has it."""

    model_config = ConfigDict(extra="ignore")
    role: str
    principals: list[str] = []

    @property
    def changes(self) -> tuple[Change, ...]:
        """The same as grants. Raises InvalidArgument."""
        if self.role not in ROLES:
            raise InvalidArgument(f"A tag policy has no role '{self.role[:80]}'; it has {', '.join(ROLES)}.")
        return tuple(_change(principal, ROLES[self.role]) for principal in self.principals)


class RuleSet(BaseModel):
    """RuleSetUpdateRequest."""

    model_config = ConfigDict(extra="ignore")
    etag: str = ""
    grant_rules: list[GrantRule] = []


class UpdateRuleSet(BaseModel):
    """UpdateRuleSetRequest."""

    name: str
    rule_set: RuleSet


def policy_id_of(name: str) -> str:
    """The tag policy whose rule set, or which as a resource, has this name."""
    found = _RESOURCE.fullmatch(name)
    if found is None:
        raise NotImplementedHere(f"Millpond has rule sets for tag policies only, not for '{name[:120]}'.")
    return found["id"]


def rule_set_json(name: str, found: Sequence[Assignment]) -> dict[str, Any]:
    """RuleSetResponse."""
    rules: dict[str, list[str]] = {}
    for assignment in found:
        for granted in assignment.granted:
            principal = f"{_PREFIXES[assignment.kind]}/{assignment.grantee}"
            rules.setdefault(_ROLE_OF[granted.privilege], []).append(principal)
    listed = [{"role": role, "principals": sorted(rules[role])} for role in sorted(rules)]
    return {"name": name, "etag": hashlib.sha256(repr(listed).encode()).hexdigest()[:32], "grant_rules": listed}


def _change(principal: str, privilege: Privilege) -> Change:
    prefix, _, name = principal.partition("/")
    if prefix not in _KINDS or not name:
        raise InvalidArgument(
            f"'{principal[:80]}' is no principal; write users/NAME, groups/NAME or servicePrincipals/ID."
        )
    return Change(grantee=name, kind=_KINDS[prefix], add=frozenset({privilege}))
