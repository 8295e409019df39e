"""Canaries, and what is decided from what was counted."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from millpond.kernel.errors import FailedPrecondition, InvalidArgument
from millpond.serving.domain import Config, Deployment, Endpoint, Route, Update
from millpond.serving.sketch import Sketch

MAX_STEPS = 20
MAX_STEP_MINUTES = 7 * 24 * 60.0
_EARLY_REQUESTS = 10
"""Before a step has ended, nothing is decided on fewer."""
_FALSE_ALARMS = 0.01
"""Before a step has ended, chance takes back at most so large a share of the versions that are within a guardrail."""
_PROBABLE_Z = 2.0
_PATIENCE = 10
"""So many times its requests a step lasts at most while it is not clear which version is worse."""
Bounds = Callable[[int, int], tuple[float, float]]
"""Between which shares the true one is, where so many of all were counted."""


class State(StrEnum):
    """How a canary is doing."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    """It takes no further step, and is rolled back all the same."""
    COMPLETED = "COMPLETED"
    ROLLED_BACK = "ROLLED_BACK"
    ABORTED = "ABORTED"
    """Somebody ended it, and the traffic is as it was before."""
    SUPERSEDED = "SUPERSEDED"
    """Somebody changed the endpoint's configuration, which stays as they made it."""


UNDER_WAY = frozenset({State.RUNNING, State.PAUSED})


@dataclass(frozen=True, kw_only=True)
class Guardrails:
    """How much worse than the baseline a canary may be; None leaves a measure out."""

    min_requests: int = 100
    """So many requests of a step it has to answer before the next one."""
    max_error_increase: float | None = 0.01
    """The share of its requests that fail (status 400 and above), beyond the baseline's share."""
    max_p50_factor: float | None = None
    max_p99_factor: float | None = 2.0
    """A quantile of its latency, as a multiple of the baseline's."""
    latency_slack_ms: float = 5.0
    """A quantile may be so much larger in any case."""
    max_different: float | None = None
    """The share of the copies that it gets as a shadow to which it answers otherwise."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a served entity answered."""

    requests: int = 0
    errors: int = 0
    latency_s: Sketch = field(default_factory=Sketch)
    """Of what was no error."""

    def plus(self, other: "Seen") -> "Seen":
        """Both together."""
        return Seen(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            latency_s=self.latency_s.plus(other.latency_s),
        )

    @property
    def error_share(self) -> float:
        """Of all its requests; 0 of none."""
        return self.errors / self.requests if self.requests else 0.0


@dataclass(frozen=True, kw_only=True)
class Counts:
    """All that a canary is judged by."""

    canary: Seen = field(default_factory=Seen)
    """In this step."""
    baseline: Seen = field(default_factory=Seen)
    """In this step; at 100 %, where it gets nothing, in the one before."""
    compared: int = 0
    """Copies that the canary answered as a shadow, since it began."""
    different: int = 0

    def plus(self, other: "Counts") -> "Counts":
        """Both together."""
        return Counts(
            canary=self.canary.plus(other.canary),
            baseline=self.baseline.plus(other.baseline),
            compared=self.compared + other.compared,
            different=self.different + other.different,
        )


@dataclass(frozen=True, kw_only=True)
class Canary:
    """A served entity on its way to an endpoint's whole traffic."""

    endpoint_id: str
    entity: str
    baseline: str
    models: tuple[str, str]
    """The keys of the versions of both, which have to stay the same."""
    steps: tuple[int, ...]
    """Shares of the traffic in percent, the last one 100."""
    step_minutes: float
    """A step lasts so long at least."""
    guardrails: Guardrails
    before: tuple[Route, ...]
    """The routes to go back to."""
    state: State
    step: int
    """The place of the present step."""
    message: str
    creator: str
    created_at: datetime
    step_at: datetime
    """When the present step began."""
    ended_at: datetime | None = None
    counts: Counts = field(default_factory=Counts)

    @property
    def percent(self) -> int:
        """The share of the traffic that the canary has in this step."""
        return self.steps[self.step]

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes of this step."""
        shares = {self.baseline: 100 - self.percent, self.entity: self.percent}
        rest = [route.entity for route in self.before if route.entity not in shares]
        return tuple(Route(entity=name, percent=shares.get(name, 0)) for name in (*shares, *rest))

    def at_step(self, step: int, now: datetime) -> "Canary":
        """The same at another step, which begins now."""
        ahead = replace(self, step=step, step_at=now, message="")
        kept = self.counts.baseline if ahead.percent == 100 else Seen()
        return replace(ahead, counts=replace(self.counts, canary=Seen(), baseline=kept))


# What a client asks for


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A canary as a client asks for it."""

    entity: str
    steps: tuple[int, ...] = (5, 25, 50, 100)
    step_minutes: float = 10.0
    guardrails: Guardrails = Guardrails()

    def __post_init__(self) -> None:
        """Raises InvalidArgument naming what is wrong."""
        _check_steps(self.steps)
        if not 0 <= self.step_minutes <= MAX_STEP_MINUTES:
            raise InvalidArgument(f"step_minutes is {self.step_minutes:g}; give 0 to {MAX_STEP_MINUTES:g}.")
        rails = self.guardrails
        if not 1 <= rails.min_requests <= 10_000_000:
            raise InvalidArgument(f"min_requests is {rails.min_requests}; give 1 to 10,000,000.")
        for name in ("max_error_increase", "max_different"):
            share = getattr(rails, name)
            if share is not None and not 0 <= share <= 1:
                raise InvalidArgument(f"{name} is {share:g}; give a share of 0 to 1.")
        for name in ("max_p50_factor", "max_p99_factor"):
            factor = getattr(rails, name)
            if factor is not None and not 0 < factor < math.inf:
                raise InvalidArgument(f"{name} is {factor:g}; give a factor of more than 0, such as 1.5.")
        if not 0 <= rails.latency_slack_ms < math.inf:
            raise InvalidArgument(f"latency_slack_ms is {rails.latency_slack_ms:g}; give 0 or more.")


def _check_steps(steps: Sequence[int]) -> None:
    rising = all(one < other for one, other in zip((0, *steps), steps, strict=False))
    if not 2 <= len(steps) <= MAX_STEPS or not rising or steps[-1] != 100:
        raise InvalidArgument(
            f"steps are {list(steps)[:MAX_STEPS]}; give 2 to {MAX_STEPS} rising percentages, the last one 100: there "
            "nobody answers beside the canary."
        )


def begun(endpoint: Endpoint, asked: Asked, creator: str, now: datetime) -> Canary:
    """A canary in its first step. Raises InvalidArgument, FailedPrecondition where the endpoint serves nothing yet."""
    config = endpoint.active
    if config is None:
        raise FailedPrecondition(f"Endpoint '{endpoint.name}' does not answer yet; wait until it is ready.")
    entity = config.entity(asked.entity)
    if entity is None:
        raise InvalidArgument(
            f"No served entity is named '{asked.entity[:80]}'; add it to the configuration, with 0 % of the traffic."
        )
    shares = _shares(config.routes)
    others = [name for name in shares if name != asked.entity]
    if len(others) != 1:
        raise InvalidArgument(
            f"A canary takes over from one served entity; beside '{asked.entity}', {len(others)} have traffic"
            + (f": {', '.join(others)}." if others else ".")
        )
    if shares.get(asked.entity, 0) >= asked.steps[0]:
        raise InvalidArgument(
            f"'{asked.entity}' has {shares[asked.entity]} % of the traffic already; begin with a larger step."
        )
    if asked.guardrails.max_different is not None and asked.entity not in {each.entity for each in endpoint.shadows}:
        raise InvalidArgument(
            f"max_different compares what '{asked.entity}' answers to copies of requests; let it be a shadow first."
        )
    baseline = config.entity(others[0])
    assert baseline is not None, "routes name entities"
    return Canary(
        endpoint_id=endpoint.id,
        entity=entity.name,
        baseline=baseline.name,
        models=(entity.model.key, baseline.model.key),
        steps=asked.steps,
        step_minutes=asked.step_minutes,
        guardrails=asked.guardrails,
        before=config.routes,
        state=State.RUNNING,
        step=0,
        message="",
        creator=creator,
        created_at=now,
        step_at=now,
    )


# What to do next


class Move(StrEnum):
    """What becomes of a canary."""

    WAIT = "wait"
    ADVANCE = "advance"
    COMPLETE = "complete"
    ROLL_BACK = "roll back"
    GIVE_WAY = "give way"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What to do, and why."""

    move: Move
    reason: str


def decide(canary: Canary, endpoint: Endpoint, now: datetime) -> Verdict:
    """What becomes of a canary that is under way, from what was counted and how its endpoint is."""
    config = endpoint.active
    if endpoint.upcoming is not None and not is_of(canary, endpoint.upcoming):
        return _wait("Another update is under way.")
    worse = breaches(canary, for_certain)
    if endpoint.upcoming is not None:  # which may take for ever where the canary ends again and again
        return _back(worse) if worse else _wait("The step's configuration is coming up.")
    if _failed(canary, endpoint):
        return Verdict(move=Move.ROLL_BACK, reason="The step's configuration could not be brought up.")
    if config is None or not is_of(canary, config):
        return Verdict(move=Move.GIVE_WAY, reason="The endpoint's configuration was changed, and stays as it is now.")
    served = config.entity(canary.entity)
    if served is not None and served.state.deployment is Deployment.FAILED:
        return Verdict(move=Move.ROLL_BACK, reason=f"'{canary.entity}' cannot be loaded any more.")
    if worse:
        return _back(worse)
    if canary.state is State.PAUSED:
        return _wait(canary.message or "It is paused.")
    return _at_the_end(canary, now)


def _at_the_end(canary: Canary, now: datetime) -> Verdict:
    lacking = _lacking(canary, now)
    if lacking:
        return _wait(lacking)
    worse = breaches(canary, as_measured)
    if worse and canary.counts.canary.requests < _PATIENCE * canary.guardrails.min_requests:
        return _wait(f"{' '.join(worse)} That may be chance; it waits for more requests.")
    worse = breaches(canary, probably)
    if worse:
        return _back(worse)
    if canary.step + 1 < len(canary.steps):
        return Verdict(move=Move.ADVANCE, reason=f"It did well at {canary.percent} %.")
    return Verdict(move=Move.COMPLETE, reason="It did well at 100 %.")


def _lacking(canary: Canary, now: datetime) -> str:
    """What the step still needs."""
    rails, counts = canary.guardrails, canary.counts
    left_s = canary.step_minutes * 60 - (now - canary.step_at).total_seconds()
    if left_s > 0:
        return f"The step lasts {math.ceil(left_s)} s more."
    if counts.canary.requests < rails.min_requests:
        return f"'{canary.entity}' has answered {counts.canary.requests} of {rails.min_requests} requests."
    wanted_beside = 0 if rails.max_error_increase is None or canary.percent == 100 else rails.min_requests
    if counts.baseline.requests < wanted_beside:
        return f"'{canary.baseline}' has answered {counts.baseline.requests} of {wanted_beside} requests."
    if rails.max_different is not None and counts.compared < rails.min_requests:
        return f"{counts.compared} of {rails.min_requests} copies of requests are compared."
    return ""


def breaches(canary: Canary, bounds: Bounds) -> list[str]:
    """Where the canary is worse than it may be, in words: beyond the bounds of both versions' shares."""
    rails, counts = canary.guardrails, canary.counts
    seen, base = counts.canary, counts.baseline
    found = []
    if rails.max_error_increase is not None:
        allowed = bounds(base.errors, base.requests)[1] + rails.max_error_increase
        if bounds(seen.errors, seen.requests)[0] > allowed:
            found.append(
                f"{_percent(seen.error_share)} of its requests fail, against {_percent(base.error_share)} of "
                f"'{canary.baseline}'."
            )
    for name, share, factor in (("p50", 0.5, rails.max_p50_factor), ("p99", 0.99, rails.max_p99_factor)):
        limit_s = _limit_s(canary, share, factor)
        if limit_s is None:
            continue
        slow, total, beside = seen.latency_s.above(limit_s), seen.latency_s.total, base.latency_s.total
        allowed = bounds(math.ceil((1 - share) * beside), beside)[1]
        if total >= rails.min_requests // 2 and bounds(slow, total)[0] > allowed:
            found.append(
                f"Its {name} is {_ms(seen.latency_s.quantile(share))}, against {_ms(base.latency_s.quantile(share))} "
                f"of '{canary.baseline}'; {_ms(limit_s)} are allowed."
            )
    if rails.max_different is not None and bounds(counts.different, counts.compared)[0] > rails.max_different:
        found.append(
            f"It answers {counts.different} of {counts.compared} copies of requests otherwise; "
            f"{_percent(rails.max_different)} are allowed."
        )
    return found


def _limit_s(canary: Canary, share: float, factor: float | None) -> float | None:
    """What a quantile may be; None where that is not asked, or the baseline has answered too little to know.

    Nor at 100 %, where nobody answers at the same time: a machine that has become busy would count against the canary.
    """
    base = canary.counts.baseline.latency_s
    quantile = base.quantile(share)
    if (
        factor is None
        or quantile is None
        or canary.percent == 100
        or base.total < min(canary.guardrails.min_requests, 100)
    ):
        return None
    return factor * quantile + canary.guardrails.latency_slack_ms / 1000


def as_measured(count: int, total: int) -> tuple[float, float]:
    """The share itself."""
    return (count / total, count / total) if total else (0.0, 1.0)


def probably(count: int, total: int) -> tuple[float, float]:
    """Where one looks once. Source: Wilson, JASA 1927, score interval."""
    if not total:
        return 0.0, 1.0
    z, share = _PROBABLE_Z, count / total
    middle = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return (middle - half) / (1 + z * z / total), (middle + half) / (1 + z * z / total)


def for_certain(count: int, total: int) -> tuple[float, float]:
    """Where one looks as often as one likes, half of the false alarms on each side.

    Source: Robbins, Ann. Math. Stat. 1970: against each share outside, the counts are so unlikely beside a mixture of
    all shares that chance never makes them so, at any look, but for the false alarms.
    """
    if total < _EARLY_REQUESTS:
        return 0.0, 1.0
    return _least_likely(count, total), 1 - _least_likely(total - count, total)


def _least_likely(count: int, total: int) -> float:
    """The least share that is not excluded, by halving."""
    ways = math.lgamma(total + 1) - math.lgamma(count + 1) - math.lgamma(total - count + 1) + math.log(total + 1)
    low, high = 0.0, count / total
    for _ in range(30):
        share = (low + high) / 2
        if share in {0.0, 1.0}:
            return share
        likely = ways + count * math.log(share) + (total - count) * math.log1p(-share)
        low, high = (share, high) if likely < math.log(_FALSE_ALARMS / 2) else (low, share)
    return low


def is_of(canary: Canary, config: Config) -> bool:
    """Whether a configuration is that of the canary's step."""
    found = [config.entity(name) for name in (canary.entity, canary.baseline)]
    models = tuple(entity.model.key for entity in found if entity is not None)
    return models == canary.models and _shares(config.routes) == _shares(canary.routes)


def _failed(canary: Canary, endpoint: Endpoint) -> bool:
    """Whether the step's configuration was given up, so that the one before it still answers."""
    ours = endpoint.pending is not None and is_of(canary, endpoint.pending)
    answers = endpoint.active is not None and is_of(canary, endpoint.active)
    return endpoint.update is Update.FAILED and ours and not answers


def _shares(routes: Sequence[Route]) -> Mapping[str, int]:
    return {route.entity: route.percent for route in routes if route.percent}


def _wait(reason: str) -> Verdict:
    return Verdict(move=Move.WAIT, reason=reason)


def _back(worse: Sequence[str]) -> Verdict:
    return Verdict(move=Move.ROLL_BACK, reason=" ".join(worse))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.3g} ms"
