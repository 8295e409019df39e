"""The JSON of canaries: all our own."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from millpond.kernel.clock import epoch_ms
from millpond.serving.canary.domain import Asked, Guardrails, Seen
from millpond.serving.canary.service import Report


class GuardrailsInput(BaseModel):
    """How much worse the canary may be; null leaves a measure out."""

    model_config = ConfigDict(extra="forbid")

    min_requests: int = Guardrails.min_requests
    max_error_increase: float | None = Guardrails.max_error_increase
    max_p50_factor: float | None = Guardrails.max_p50_factor
    max_p99_factor: float | None = Guardrails.max_p99_factor
    latency_slack_ms: float = Guardrails.latency_slack_ms
    max_different: float | None = Guardrails.max_different


class CanaryInput(BaseModel):
    """What takes over, and how."""

    model_config = ConfigDict(extra="forbid")

    served_entity_name: str
    steps: list[int] = list(Asked.steps)
    step_minutes: float = Asked.step_minutes
    guardrails: GuardrailsInput = GuardrailsInput()

    def asked(self) -> Asked:
        """As the service takes it. Raises InvalidArgument."""
        return Asked(
            entity=self.served_entity_name,
            steps=tuple(self.steps),
            step_minutes=self.step_minutes,
            guardrails=Guardrails(**self.guardrails.model_dump()),
        )


def canary_json(report: Report) -> dict[str, Any]:
    """A canary as it is now."""
    canary = report.canary
    return {
        "served_entity_name": canary.entity,
        "baseline_name": canary.baseline,
        "state": canary.state.value,
        "message": report.outlook,
        "traffic_percentage": canary.percent,
        "step": canary.step + 1,
        "steps": list(canary.steps),
        "step_minutes": canary.step_minutes,
        "guardrails": dict(vars(canary.guardrails)),
        "seen": {
            "canary": _seen(canary.counts.canary),
            "baseline": _seen(canary.counts.baseline),
            "compared": canary.counts.compared,
            "different": canary.counts.different,
        },
        "routes_before": [
            {"served_entity_name": route.entity, "traffic_percentage": route.percent} for route in canary.before
        ],
        "creator": canary.creator,
        "created_at": epoch_ms(canary.created_at),
        "step_at": epoch_ms(canary.step_at),
        "ended_at": None if canary.ended_at is None else epoch_ms(canary.ended_at),
    }


def _seen(seen: Seen) -> dict[str, Any]:
    p50, p99 = (seen.latency_s.quantile(share) for share in (0.5, 0.99))
    return {
        "requests": seen.requests,
        "errors": seen.errors,
        "p50_ms": None if p50 is None else round(p50 * 1000, 3),
        "p99_ms": None if p99 is None else round(p99 * 1000, 3),
    }
