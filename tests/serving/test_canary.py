"""What is decided about canaries, from what was counted."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from millpond.kernel.errors import FailedPrecondition, InvalidArgument
from millpond.serving.canary.counting import CanaryCounts
from millpond.serving.canary.domain import (
    Asked,
    Canary,
    Counts,
    Guardrails,
    Move,
    Seen,
    State,
    Verdict,
    begun,
    decide,
    for_certain,
    probably,
)
from millpond.serving.domain import Config, Endpoint, Route, Shadow, Update
from millpond.serving.sketch import Sketch
from tests.serving.test_domain import FAILED, NOW, READY, A, C, config, endpoint, entity

OLD, NEW = replace(A, state=READY), entity("b", version="2", state=READY)
BEFORE = config(1, OLD, NEW)
RAILS = Guardrails(min_requests=100, max_p50_factor=1.5)
ASKED = Asked(entity="b", steps=(10, 50, 100), step_minutes=5, guardrails=RAILS)
LATER = NOW + timedelta(minutes=5)


def seen(requests: int, errors: int = 0, ms: float = 10.0, slow: int = 0) -> Seen:
    """`slow` of the answers took a hundred times as long."""
    latency = Sketch()
    for number in range(requests - errors):
        latency.add(ms * (100 if number < slow else 1) / 1000)
    return Seen(requests=requests, errors=errors, latency_s=latency)


def at(step: int, canary: Seen | None = None, baseline: Seen | None = None, **values: object) -> Canary:
    counts = Counts(canary=canary or seen(200), baseline=baseline or seen(1800))
    begin = begun(endpoint(BEFORE, None, Update.NOT_UPDATING), ASKED, "me", NOW)
    return replace(replace(begin, step=step, counts=counts), **values)  # type: ignore[arg-type]


def served(canary: Canary, **values: object) -> Endpoint:
    """The endpoint in the canary's step."""
    active = replace(BEFORE, version=2, routes=canary.routes)
    return replace(endpoint(active, None, Update.NOT_UPDATING), **values)  # type: ignore[arg-type]


def verdict(canary: Canary, **values: object) -> Verdict:
    return decide(canary, served(canary), LATER if not values else values["now"])  # type: ignore[arg-type]


def test_a_canary_begins_beside_the_one_that_has_the_traffic() -> None:
    canary = at(0)
    assert (canary.baseline, canary.before, canary.percent) == ("a", BEFORE.routes, 10)
    assert canary.routes == (Route(entity="a", percent=90), Route(entity="b", percent=10))
    third = config(1, OLD, NEW, C)
    assert begun(endpoint(third, None, Update.NOT_UPDATING), ASKED, "me", NOW).routes[2] == Route(entity="c", percent=0)


@pytest.mark.parametrize(
    ("active", "asked", "said"),
    [
        (None, ASKED, "does not answer yet"),
        (BEFORE, replace(ASKED, entity="z"), "No served entity is named 'z'"),
        (BEFORE, replace(ASKED, entity="a"), "beside 'a', 0 have traffic"),
        (replace(BEFORE, routes=(Route(entity="a", percent=80), Route(entity="b", percent=20))), ASKED, "20 % of the"),
        (
            replace(config(1, OLD, NEW, C), routes=(Route(entity="a", percent=50), Route(entity="c", percent=50))),
            ASKED,
            "2 have traffic: a, c",
        ),
        (BEFORE, replace(ASKED, guardrails=Guardrails(max_different=0.1)), "let it be a shadow first"),
    ],
)
def test_what_cannot_begin_is_told_why(active: Config | None, asked: Asked, said: str) -> None:
    with pytest.raises((InvalidArgument, FailedPrecondition), match=said):
        begun(endpoint(active, None, Update.NOT_UPDATING), asked, "me", NOW)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": ()},
        {"steps": (50, 25, 100)},
        {"steps": (0, 100)},
        {"steps": (5, 50)},
        {"steps": (100,)},
        {"steps": (50, 100, 120)},
        {"step_minutes": -1.0},
        {"step_minutes": float("nan")},
        {"guardrails": Guardrails(min_requests=0)},
        {"guardrails": Guardrails(max_error_increase=1.5)},
        {"guardrails": Guardrails(max_p99_factor=0.0)},
        {"guardrails": Guardrails(latency_slack_ms=-1.0)},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        Asked(entity="b", **wrong)  # type: ignore[arg-type]


def test_a_step_lasts_its_time_and_has_its_requests() -> None:
    assert verdict(at(0), now=LATER - timedelta(seconds=30)).reason == "The step lasts 30 s more."
    few = verdict(at(0, seen(99)))
    assert (few.move, few.reason) == (Move.WAIT, "'b' has answered 99 of 100 requests.")
    assert verdict(at(0, seen(100))).move is Move.ADVANCE
    assert verdict(at(2)).move is Move.COMPLETE
    assert verdict(at(2, seen(200, ms=900))).move is Move.COMPLETE, "nobody answers beside it any more"
    assert verdict(at(2, seen(200, errors=20))).move is Move.ROLL_BACK


@pytest.mark.parametrize(
    ("canary", "baseline", "move"),
    [
        (seen(200, errors=2), seen(1800), Move.ADVANCE),  # 1 % is allowed
        (seen(200, errors=3), seen(1800), Move.WAIT),  # which may be chance
        (seen(1000, errors=15), seen(9000), Move.ADVANCE),  # and still may be
        (seen(1000, errors=25), seen(9000), Move.ROLL_BACK),
        (seen(200), seen(99), Move.WAIT),  # too little to compare with
        (seen(200, errors=20), seen(1800, errors=180), Move.ADVANCE),  # clients' mistakes reach both
        (seen(200, ms=15), seen(1800), Move.ADVANCE),
        (seen(200, ms=21), seen(1800), Move.ROLL_BACK),  # 1.5 times, and 5 ms
        (seen(200, ms=2.0), seen(1800, ms=0.5), Move.ADVANCE),  # within 5 ms
        (seen(200, slow=2), seen(1800), Move.ADVANCE),  # the slowest hundredth is beyond p99
        (seen(200, slow=4), seen(1800), Move.WAIT),
        (seen(200, slow=20), seen(1800), Move.ROLL_BACK),
        (seen(200, ms=500), replace(seen(20), requests=200), Move.ADVANCE),  # too little to compare with
    ],
)
def test_at_the_end_of_a_step_what_was_measured_counts(canary: Seen, baseline: Seen, move: Move) -> None:
    assert verdict(at(0, canary, baseline)).move is move


@pytest.mark.parametrize(
    ("canary", "move"),
    [
        (seen(1, errors=1), Move.WAIT),  # once is no proof
        (seen(9, errors=9), Move.WAIT),
        (seen(10, errors=10), Move.ROLL_BACK),
        (seen(100, errors=3), Move.WAIT),
        (seen(100, errors=10), Move.ROLL_BACK),
        (seen(40, ms=900), Move.WAIT),  # the first answers of a process are slow
        (seen(60, ms=900), Move.ROLL_BACK),
    ],
)
def test_before_its_end_only_what_chance_does_not_explain_does(canary: Seen, move: Move) -> None:
    assert verdict(at(0, canary), now=NOW + timedelta(seconds=5)).move is move


def test_shadows_are_compared() -> None:
    rails = replace(RAILS, max_different=0.05)
    watched = replace(endpoint(BEFORE, None, Update.NOT_UPDATING), shadows=(Shadow(entity="b", percent=100),))
    canary = begun(watched, replace(ASKED, guardrails=rails), "me", NOW)

    def counted(compared: int, different: int) -> Canary:
        counts = Counts(canary=seen(200), baseline=seen(1800), compared=compared, different=different)
        return replace(canary, counts=counts)

    assert verdict(counted(50, 0)).reason == "50 of 100 copies of requests are compared."
    assert verdict(counted(100, 5)).move is Move.ADVANCE
    assert verdict(counted(100, 6)).move is Move.WAIT
    assert verdict(counted(100, 30)).move is Move.ROLL_BACK
    assert "20 of 40 copies" in verdict(counted(40, 20), now=NOW).reason
    assert counted(100, 5).at_step(1, LATER).counts.compared == 100


def test_what_it_did_before_counts_for_its_step_alone() -> None:
    ahead = at(0).at_step(1, LATER)
    assert (ahead.percent, ahead.step_at, ahead.counts) == (50, LATER, Counts())
    last = at(1).at_step(2, LATER)
    assert (last.counts.canary, last.counts.baseline) == (Seen(), seen(1800)), "at 100 % there is no baseline"


def test_a_paused_canary_takes_no_step_and_is_rolled_back_all_the_same() -> None:
    assert verdict(at(0, state=State.PAUSED, message="Ann holds it.")) == Verdict(
        move=Move.WAIT, reason="Ann holds it."
    )
    assert verdict(at(0, seen(200, errors=50), state=State.PAUSED)).move is Move.ROLL_BACK


def test_a_configuration_of_somebody_else_ends_it() -> None:
    canary = at(0)
    ours = replace(BEFORE, version=2, routes=canary.routes)

    def move(active: Config | None, pending: Config | None = None, update: Update = Update.NOT_UPDATING) -> Move:
        return decide(canary, endpoint(active, pending, update), LATER).move

    other_split = replace(ours, routes=BEFORE.routes)
    other_model = config(3, OLD, entity("b", version="3", state=READY))
    assert move(ours) is Move.ADVANCE
    assert move(other_split) is Move.GIVE_WAY
    assert move(replace(other_model, routes=canary.routes)) is Move.GIVE_WAY
    assert move(None) is Move.GIVE_WAY
    assert move(BEFORE, ours, Update.IN_PROGRESS) is Move.WAIT, "the step is coming up"
    assert move(ours, other_model, Update.IN_PROGRESS) is Move.WAIT, "an update is under way, and may fail"
    assert move(ours, other_model, Update.FAILED) is Move.ADVANCE, "it has failed"
    assert move(BEFORE, ours, Update.FAILED) is Move.ROLL_BACK, "the step could not be brought up"
    fails = replace(canary, counts=Counts(canary=seen(50, errors=50), baseline=seen(450)))
    for upcoming, does in ((ours, Move.ROLL_BACK), (other_model, Move.WAIT)):
        updating = endpoint(BEFORE, upcoming, Update.IN_PROGRESS)
        assert decide(fails, updating, LATER).move is does, "a step that does not come up is no reason to wait"
    broken = replace(ours, entities=(OLD, replace(NEW, state=FAILED)))
    assert move(broken) is Move.ROLL_BACK


def test_counts_are_kept_for_watched_endpoints_until_they_are_written_down() -> None:
    counts = CanaryCounts()
    counts.count("1", "a", 200, 0.01)
    counts.watch(["1"])
    assert counts.look("1") == {}
    counts.count("1", "a", 200, 0.01)
    counts.count("1", "a", 503, 0.01)
    looked = counts.look("1")
    assert looked == {"a": replace(seen(2, errors=1), latency_s=seen(1).latency_s)}
    counts.count("1", "a", 200, 0.02)
    counts.taken("1", looked)
    assert counts.look("1") == {"a": seen(1, ms=20)}
    counts.watch([])
    assert counts.look("1") == {}


def test_quantiles_are_two_percent_off_at_most() -> None:
    sketch = Sketch()
    for number in range(1, 10_001):
        sketch.add(number / 1000)
    for share in (0.0, 0.5, 0.9, 0.99, 1.0):
        exact = (1 + share * 9999) / 1000
        assert sketch.quantile(share) == pytest.approx(exact, rel=0.021)
    assert Sketch.from_json(sketch.to_json()) == sketch
    assert Sketch().quantile(0.5) is None
    zeros = Sketch()
    zeros.add(0.0)
    assert (zeros.quantile(0.5), zeros.above(0.0)) == (0.0, 0)
    assert sketch.plus(zeros).minus(zeros) == sketch


@pytest.mark.parametrize(("count", "total", "low", "high"), [(0, 10, 0, 0.286), (10, 10, 0.714, 1)])
def test_what_is_probable_is_wilsons(count: int, total: int, low: float, high: float) -> None:
    assert probably(count, total) == pytest.approx((low, high), abs=0.001)


@pytest.mark.parametrize(
    ("count", "total", "low", "high"), [(0, 9, 0, 1), (0, 100, 0, 0.0943), (10, 10, 0.463, 1), (10, 100, 0.021, 0.258)]
)
def test_what_is_certain_is_so_at_each_look(count: int, total: int, low: float, high: float) -> None:
    assert for_certain(count, total) == pytest.approx((low, high), abs=0.001)


def ends(errors: tuple[float, float], chance: random.Random) -> tuple[State, int]:
    """How a canary of two versions ends that fail so often, looked at each 100 requests, and its step's requests."""
    canary = replace(begun(endpoint(BEFORE, None, Update.NOT_UPDATING), ASKED, "me", NOW), step_minutes=0)
    while True:
        for _ in range(100):
            is_new = chance.random() * 100 < canary.percent
            told = Seen(requests=1, errors=chance.random() < errors[is_new])
            more = Counts(canary=told) if is_new else Counts(baseline=told)
            canary = replace(canary, counts=canary.counts.plus(more))
        move = decide(canary, served(canary), LATER).move
        if move in {Move.ROLL_BACK, Move.COMPLETE}:
            state = State.ROLLED_BACK if move is Move.ROLL_BACK else State.COMPLETED
            return state, canary.counts.canary.requests
        if move is Move.ADVANCE:
            canary = canary.at_step(canary.step + 1, LATER)


def test_equal_versions_are_not_taken_back_and_bad_ones_are() -> None:
    """Clients' mistakes, which both versions refuse, must not look like a worse version."""
    chance = random.Random(7)
    equal = [ends((share, share), chance)[0] for share in (0.02, 0.05) for _ in range(20)]
    assert equal.count(State.ROLLED_BACK) <= 1
    bad = [ends((0.01, 0.10), chance) for _ in range(10)]
    assert [state for state, _ in bad].count(State.ROLLED_BACK) == 10
