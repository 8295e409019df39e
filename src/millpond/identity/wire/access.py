"""The JSON of explanations of access."""

from collections.abc import Mapping, Sequence
from typing import Any

from millpond.identity.access import Securable
from millpond.identity.grants import Explanation, Lack, Reason, unity_name


def explanation_json(told: Explanation, narrowed: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Whether, by what, and what is missing; `narrowed` says what one then does not see."""
    return {
        "principal": told.subject.name,
        "privilege": told.privilege.value,
        **_place(told.securable),
        "allowed": told.allowed,
        "reasons": [_reason(reason) for reason in told.reasons],
        "missing": [_lack(lack) for lack in told.lacks],
        "narrowed_by": list(narrowed),
    }


def _reason(reason: Reason) -> dict[str, Any]:
    shown = {"by": reason.by, "principal": unity_name(reason.grantee), **_place(reason.on)}
    return shown | ({"privilege": reason.privilege.value} if reason.privilege else {})


def _lack(lack: Lack) -> dict[str, Any]:
    return {"privilege": lack.privilege.value, "grantable_on": [_place(place) for place in lack.on]}


def _place(securable: Securable) -> dict[str, str]:
    return {"securable_type": securable.kind, "name": securable.name}
