"""Destinations as `w.notification_destinations` writes them.

Source: databricks-sdk 0.156, `databricks/sdk/service/settings.py`. What was put in is never given out: a field NAME is
answered as NAME_set.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from millpond.kernel.errors import InvalidArgument, NotImplementedHere
from millpond.notifications.domain import Destination, Kind
from millpond.notifications.service import Given

_FIELDS = {"email": Kind.EMAIL, "generic_webhook": Kind.WEBHOOK, "slack": Kind.SLACK}
_SECRETS = {Kind.WEBHOOK: ("url", "username", "password"), Kind.SLACK: ("url",)}


class DestinationInput(BaseModel):
    """Create or change one."""

    model_config = ConfigDict(extra="allow")

    display_name: str | None = Field(default=None, max_length=256)
    config: dict[str, dict[str, Any] | None] | None = None

    @property
    def given(self) -> Given:
        """What it says. Raises InvalidArgument, NotImplementedHere for kinds and fields that are not here."""
        parts = {name: part for name, part in (self.config or {}).items() if part is not None}
        if not parts:
            return Given(name=self.display_name)
        if len(parts) > 1:
            raise InvalidArgument(f"config takes exactly one of {', '.join(_FIELDS)}.")
        [(name, part)] = parts.items()
        if name not in _FIELDS:
            raise NotImplementedHere(f"This Millpond has no destinations of {name[:60]}; it has {', '.join(_FIELDS)}.")
        kind = _FIELDS[name]
        known = _SECRETS.get(kind, ("addresses",))
        for field, value in part.items():
            if field not in known and not field.endswith("_set") and value:
                raise NotImplementedHere(f"config.{name} has {field[:60]}; here it has {', '.join(known)}.")
        if kind is Kind.EMAIL:
            addresses = part.get("addresses")
            return Given(name=self.display_name, kind=kind, addresses=_texts(addresses))
        secrets = {field: str(part[field]) for field in known if part.get(field) is not None}
        return Given(name=self.display_name, kind=kind, secrets=secrets)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidArgument("config.email.addresses is a list of addresses.")
    return tuple(value)


def destination_json(destination: Destination, *, whole: bool) -> dict[str, Any]:
    """A destination; `whole` with its config, for administrators."""
    told: dict[str, Any] = {
        "id": destination.id, "display_name": destination.name, "destination_type": destination.kind.value,
    }  # fmt: skip
    if whole:
        name = next(field for field, kind in _FIELDS.items() if kind is destination.kind)
        email = destination.kind is Kind.EMAIL
        known = _SECRETS.get(destination.kind, ())
        set_ones = {f"{field}_set": field in destination.sealed for field in known}
        told["config"] = {name: {"addresses": list(destination.addresses)} if email else set_ones}
    return told
