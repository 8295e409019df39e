"""The JSON of what can be set on an endpoint while its configuration stays.

Source: databricks-sdk 0.156, `RateLimit`, `AiGatewayRateLimit`, `AiGatewayConfig`, `EmailNotifications`.
"""

from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, Field

from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import InvalidArgument, NotImplementedHere
from millpond.serving.domain import Endpoint, Event, Notifications, Shadow
from millpond.serving.limits import LimitKey, RateLimit
from millpond.serving.shadowing import Tally


class RateLimitInput(BaseModel):
    """RateLimit, and AiGatewayRateLimit."""

    renewal_period: Literal["minute"]
    calls: int | None = None
    key: LimitKey = LimitKey.ENDPOINT
    principal: str | None = Field(default=None, max_length=255, pattern=r"^[^\x00]*$")
    tokens: int | None = None

    def limit(self) -> RateLimit:
        """The limit. Raises NotImplementedHere, InvalidArgument."""
        if self.tokens is not None:
            raise NotImplementedHere("rate_limits: tokens are not counted by this Millpond; give calls.")
        if self.calls is None:
            raise InvalidArgument("rate_limits: calls is missing.")
        return RateLimit(key=self.key, calls=self.calls, principal=self.principal or "")


class RateLimitsInput(BaseModel):
    """The body of put."""

    rate_limits: list[RateLimitInput] = []

    def limits(self) -> list[RateLimit]:
        """The limits asked for."""
        return [each.limit() for each in self.rate_limits]


class GatewayInput(RateLimitsInput):
    """AiGatewayConfig: of it Millpond has the rate limits. What is switched off may be named."""

    fallback_config: dict[str, Any] | None = None
    guardrails: dict[str, Any] | None = None
    inference_table_config: dict[str, Any] | None = None
    usage_tracking_config: dict[str, Any] | None = None

    def limits(self) -> list[RateLimit]:
        """The limits asked for. Raises NotImplementedHere for the rest."""
        for name in ("fallback_config", "guardrails", "inference_table_config", "usage_tracking_config"):
            asked = getattr(self, name)
            if asked and asked != {"enabled": False}:
                raise NotImplementedHere(f"ai_gateway: {name} is not supported by this Millpond; leave it out.")
        return super().limits()


class EmailNotifications(BaseModel):
    """EmailNotifications."""

    on_update_success: list[str] = []
    on_update_failure: list[str] = []


class NotificationsInput(BaseModel):
    """The body of update_notifications."""

    email_notifications: EmailNotifications | None = None

    def notifications(self) -> Notifications:
        """Who gets mail; nobody where none are given."""
        asked = self.email_notifications or EmailNotifications()
        return Notifications(
            on_update_success=tuple(asked.on_update_success), on_update_failure=tuple(asked.on_update_failure)
        )


class ShadowInput(BaseModel):
    """A served entity that gets copies, and of how many of the requests."""

    served_entity_name: str
    percentage: int = 100


class ShadowsInput(BaseModel):
    """Our own."""

    shadows: list[ShadowInput] = []

    def asked(self) -> list[Shadow]:
        """The shadows asked for."""
        return [Shadow(entity=each.served_entity_name, percent=each.percentage) for each in self.shadows]


def shadow_json(shadow: Shadow, tally: Tally) -> dict[str, Any]:
    """A shadow, and how its answers compare."""
    return {"served_entity_name": shadow.entity, "percentage": shadow.percent, **asdict(tally)}


def rate_limits(endpoint: Endpoint) -> list[dict[str, Any]]:
    """AiGatewayRateLimit of each limit."""
    return [
        {
            "key": limit.key.value,
            "calls": limit.calls,
            "renewal_period": "minute",
            **({"principal": limit.principal} if limit.principal else {}),
        }
        for limit in endpoint.rate_limits
    ]


def email_notifications(endpoint: Endpoint) -> dict[str, list[str]]:
    """EmailNotifications."""
    told = endpoint.notifications
    return {"on_update_success": list(told.on_update_success), "on_update_failure": list(told.on_update_failure)}


def event_json(event: Event) -> dict[str, Any]:
    """An event."""
    return {
        "timestamp": epoch_ms(event.at),
        "served_entity_name": event.entity,
        "type": event.kind,
        "message": event.message,
    }


def options_json(endpoint: Endpoint) -> dict[str, Any]:
    """What ServingEndpointDetailed says of it; nothing about what is not set."""
    found: dict[str, Any] = {}
    if endpoint.rate_limits:
        found["ai_gateway"] = {"rate_limits": rate_limits(endpoint)}
    if endpoint.notifications != Notifications():
        found["email_notifications"] = email_notifications(endpoint)
    return found
