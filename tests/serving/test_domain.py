"""The rules about endpoints, and what is decided from what is desired and what runs."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from millpond.kernel.errors import InvalidArgument
from millpond.serving.domain import (
    CREATING,
    Config,
    Deployment,
    Endpoint,
    EntityState,
    ModelVersion,
    Outcome,
    Route,
    ServedEntity,
    Update,
    WorkloadSize,
    WorkloadType,
    check_endpoint_name,
    check_environment,
    check_routes,
    choose,
    default_entity_name,
    plan,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
READY = EntityState(deployment=Deployment.READY)
FAILED = EntityState(deployment=Deployment.FAILED, message="why")
LOST = EntityState(deployment=Deployment.RECOVERING, message="killed")


def entity(name: str, *, version: str = "1", state: EntityState = CREATING, **values: object) -> ServedEntity:
    model = ModelVersion(name=name, version=version, source=f"{name}/{version}")
    return replace(ServedEntity(name=name, model=model, creator="me", created_at=NOW, state=state), **values)


def config(version: int, *entities: ServedEntity) -> Config:
    routes = tuple(Route(entity=e.name, percent=0 if i else 100) for i, e in enumerate(entities))
    return Config(version=version, entities=entities, routes=routes, created_at=NOW)


def endpoint(active: Config | None, pending: Config | None, update: Update) -> Endpoint:
    return Endpoint(
        id="1",
        name="e",
        creator="me",
        description="",
        created_at=NOW,
        updated_at=NOW,
        tags={},
        route_optimized=False,
        active=active,
        pending=pending,
        update=update,
    )


A, B, C = entity("a"), entity("b"), entity("c")
A_READY = replace(A, state=READY)


def test_what_is_desired_and_does_not_run_is_started() -> None:
    steps = plan(endpoint(config(1, A), config(2, B, C), Update.IN_PROGRESS), {A.worker_key: READY})
    assert steps.start == (B, C)
    assert steps.outcome is Outcome.UNDECIDED
    assert steps.keep == {A.worker_key, B.worker_key, C.worker_key}


def test_traffic_moves_when_every_worker_is_ready() -> None:
    desired = endpoint(config(1, A), config(2, B, C), Update.IN_PROGRESS)
    half = plan(desired, {A.worker_key: READY, B.worker_key: READY, C.worker_key: CREATING})
    assert half.outcome is Outcome.UNDECIDED
    steps = plan(desired, {A.worker_key: READY, B.worker_key: READY, C.worker_key: READY})
    assert steps.outcome is Outcome.PROMOTE
    assert steps.keep == {B.worker_key, C.worker_key}
    assert steps.states[(2, "c")] == READY


def test_one_failure_fails_the_update_and_keeps_what_is_active() -> None:
    desired = endpoint(config(1, A_READY), config(2, B, C), Update.IN_PROGRESS)
    steps = plan(desired, {A.worker_key: READY, B.worker_key: READY, C.worker_key: FAILED})
    assert steps.outcome is Outcome.FAIL
    assert steps.keep == {A.worker_key}
    assert steps.states[(2, "c")] == FAILED
    assert steps.states[(2, "b")].deployment is Deployment.ABORTED
    assert (1, "a") not in steps.states


@pytest.mark.parametrize("dead", [FAILED, LOST])
def test_traffic_leaves_what_does_not_run_where_nothing_has_to_be_started(dead: EntityState) -> None:
    split = replace(config(1, A_READY, B), routes=(Route(entity="a", percent=50), Route(entity="b", percent=50)))

    def outcome(a: EntityState, b: EntityState, upcoming: Config) -> Outcome:
        running = {A.worker_key: a, B.worker_key: b, C.worker_key: READY}
        return plan(endpoint(split, upcoming, Update.IN_PROGRESS), running).outcome

    assert outcome(READY, dead, config(2, A, B)) is Outcome.PROMOTE
    assert outcome(dead, READY, config(2, A, B)) is not Outcome.PROMOTE, "nobody would answer"
    assert outcome(READY, dead, replace(split, version=2)) is not Outcome.PROMOTE, "it would still be asked"
    assert outcome(READY, dead, config(2, A, B, C)) is not Outcome.PROMOTE, "an update brings up all of it"


def test_a_failed_configuration_is_not_tried_again() -> None:
    steps = plan(endpoint(config(1, A), config(2, B), Update.FAILED), {A.worker_key: READY})
    assert steps.start == ()
    assert steps.keep == {A.worker_key}


def test_a_worker_that_both_configurations_need_is_shared() -> None:
    desired = endpoint(config(1, A), config(2, replace(A, name="renamed")), Update.IN_PROGRESS)
    steps = plan(desired, {A.worker_key: READY})
    assert (steps.start, steps.outcome, steps.keep) == ((), Outcome.PROMOTE, {A.worker_key})


def test_a_worker_is_not_shared_by_what_differs() -> None:
    others = [
        entity("a", version="2"),
        replace(A, environment={"X": "1"}),
        replace(A, model=replace(A.model, source="elsewhere")),
    ]
    assert len({A.worker_key, *(other.worker_key for other in others)}) == 4


def test_another_type_needs_other_workers() -> None:
    assert replace(A, workload_type=WorkloadType.GPU_SMALL).worker_key != A.worker_key


def test_another_size_keeps_the_workers() -> None:
    assert replace(A, workload_size=WorkloadSize.LARGE).worker_key == A.worker_key


def test_a_worker_that_is_lost_is_told_and_nothing_is_stopped() -> None:
    steps = plan(endpoint(config(1, A_READY), None, Update.NOT_UPDATING), {A.worker_key: LOST})
    assert (steps.outcome, steps.keep, dict(steps.states)) == (
        Outcome.UNDECIDED,
        {A.worker_key},
        {(1, "a"): LOST},
    )


def test_nothing_to_do_writes_nothing() -> None:
    steps = plan(endpoint(config(1, A_READY), None, Update.NOT_UPDATING), {A.worker_key: READY})
    assert (steps.start, dict(steps.states)) == ((), {})


def test_routes_share_the_traffic_exactly() -> None:
    routes = check_routes([Route(entity="a", percent=30), Route(entity="b", percent=70)], [A, B])
    counts = [choose(routes, point / 10) for point in range(1000)]
    assert (counts.count("a"), counts.count("b")) == (300, 700)
    assert choose(check_routes([Route(entity="a", percent=0), Route(entity="b", percent=100)], [A, B]), 0.0) == "b"


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ([], "traffic_config is needed"),
        ([Route(entity="a", percent=50), Route(entity="b", percent=49)], "99 %"),
        ([Route(entity="a", percent=120), Route(entity="b", percent=-20)], "not within 0 and 100"),
        ([Route(entity="x", percent=100)], "no served entity is named 'x'"),
        ([Route(entity="a", percent=50), Route(entity="a", percent=50)], "twice"),
    ],
)
def test_wrong_routes_are_refused(routes: list[Route], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        check_routes(routes, [A, B])


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "a.b", "größe", "a'--", "x" * 64, "a\n", ".."])
def test_wrong_endpoint_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        check_endpoint_name(name)


@pytest.mark.parametrize(
    "variables", [{"1A": "x"}, {"A B": "x"}, {"A=B": "x"}, {"MILLPOND_X": "x"}, {"A": "\0"}, {"A": "x" * (64 << 10)}]
)
def test_wrong_environment_variables_are_refused(variables: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument, match="environment_vars"):
        check_environment(variables)


def test_an_entity_without_a_name_gets_the_models_last_name_and_version() -> None:
    assert default_entity_name("main.ml.churn_predictor", "3") == "churn_predictor-3"
    assert default_entity_name("iris model", "1") == "iris-model-1"
