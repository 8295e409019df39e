"""Pure rules of the registry: metrics, signatures, policies, rollback, and where webhooks may go."""

from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest

from millpond.kernel.errors import InvalidArgument
from millpond.notifications.posting import check_url, reachable_address
from millpond.registry import built_in, metrics, policies
from millpond.registry.checks import Subject, Trial
from millpond.registry.domain import Activity, ActivityType, previous_live
from millpond.tracking.watch import Target, TargetKind

CHAMPION = Target(TargetKind.ALIAS, "champion")


@pytest.mark.parametrize(
    ("name", "labels", "predicted", "value"),
    [
        ("accuracy", [1, 0, 1, 1], [1, 0, 0, 1], 0.75),
        ("accuracy", ["yes", "no"], ["yes", "yes"], 0.5),
        ("precision", [1, 0, 1], [1, 1, 0], 0.5),
        ("recall", [1, 0, 1], [1, 1, 0], 0.5),
        ("f1", [1, 0, 1], [1, 1, 0], 0.5),
        ("f1", [1, 1], [0, 0], 0.0),
        ("mae", [1.0, 2.0], [2.0, 4.0], 1.5),
        ("rmse", [0.0, 0.0], [3.0, 4.0], 12.5**0.5),
        ("roc_auc", [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.75),
        ("roc_auc", [0, 1], [0.5, 0.5], 0.5),
    ],
)
def test_metrics_are_those_of_scikit_learn(name: str, labels: Any, predicted: Any, value: float) -> None:
    assert metrics.measure(name, labels, predicted) == pytest.approx(value)


@pytest.mark.parametrize(
    ("labels", "predicted"), [([], []), ([1], [1, 2]), ([None], [1]), ([1.0], ["a"]), ([1.0], [float("nan")])]
)
def test_what_cannot_be_measured_is_refused(labels: Any, predicted: Any) -> None:
    with pytest.raises(InvalidArgument):
        metrics.measure("rmse", labels, predicted)


def signature(*fields: tuple[str, str, bool], outputs: str = "[]") -> dict[str, Any]:
    inputs = [{"name": name, "type": kind, "required": required} for name, kind, required in fields]
    return {"inputs": inputs, "outputs": outputs}


def test_a_signature_takes_what_the_champions_took() -> None:
    old = signature(("a", "double", True), ("b", "long", False))
    assert metrics.incompatibilities(old, signature(("a", "double", True))) == []
    assert metrics.incompatibilities(old, signature(("a", "double", True), ("c", "string", False))) == []
    assert metrics.incompatibilities(old, signature(("a", "string", True), ("c", "string", True))) == [
        "input 'a' is string, was double",
        "input 'c' is new and required",
    ]
    answers = signature(outputs='[{"type": "long"}]'), signature(outputs='[{"type": "string"}]')
    assert metrics.incompatibilities(*answers) == ["output '0' was long, is string"]


class Tools:
    """Says what it was made with."""

    def __init__(self, predictions: dict[int, list[int]]) -> None:
        self._predictions = predictions

    def signature(self, version: int) -> None:
        return None

    def trial(self, version: int, *, calls: int) -> Trial:
        return Trial(load_s=1.0, p99_ms=20.0, peak_mb=500.0, predictions={})

    def query(self, text: str) -> Any:
        raise NotImplementedError

    def table(self, name: str, version: int, columns: Sequence[str] = ()) -> Any:
        import pyarrow as pa

        return pa.table({"y": [1, 0, 1, 0]})

    def predictions(self, version: int, table: str, table_version: int, label: str) -> list[int]:
        return self._predictions[version]


def looked(check: str, predictions: dict[int, list[int]] | None = None, /, **params: Any) -> tuple[bool, str]:
    subject = Subject(
        model="m", version=2, target=CHAMPION, author="a", description="", tags={}, approvals_missing=0, champion=1,
        tools=Tools(predictions or {}),
    )  # fmt: skip
    built_in.check_named(check).prepare(params)
    found = built_in.examine(check, params, subject)
    return found.passed, found.message


def test_a_metric_is_held_against_the_champions_with_a_margin() -> None:
    told = {"table": "a.b.c", "table_version": 1, "label": "y", "name": "accuracy"}
    answers = {1: [1, 0, 1, 1], 2: [1, 0, 1, 0]}
    assert looked("metric", answers, **told, margin=0.25) == (True, "accuracy is 1, that of version 1 0.75")
    assert looked("metric", answers, **told, margin=0.3)[0] is False
    assert looked("metric", {2: [0, 0, 0, 0]}, **told, minimum=0.6) == (
        False,
        "accuracy is 0.5, below the minimum of 0.6",
    )


def test_limits_of_a_trial_hold() -> None:
    assert looked("predicts", p99_ms=50, memory_mb=600)[0] is True
    assert looked("predicts", p99_ms=10, memory_mb=100) == (
        False,
        "p99_ms is 20, the limit 10; memory_mb is 500, the limit 100",
    )


def test_a_policy_without_a_body_guards_nothing() -> None:
    assert policies.parse("  ") == policies.Rules(targets=(), checks=())


def moved(sequence: int, version: int, *, rolled_from: int | None = None) -> Activity:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    evidence = {"rollback": True, "from_version": rolled_from} if rolled_from else {}
    return Activity(
        sequence=sequence, id=str(sequence), model="m", version=version, type=ActivityType.ALIAS_SET,
        target_kind="alias", target="champion", previous="", actor="a", client="", comment="", system_comment="",
        evidence=evidence, at=now, updated_at=now,
    )  # fmt: skip


def test_a_rollback_goes_back_and_never_to_what_was_rolled_away() -> None:
    every = frozenset({1, 2, 3})
    history = [moved(3, 3), moved(2, 2), moved(1, 1)]
    assert previous_live(history, CHAMPION, every) == 2
    assert previous_live(history, CHAMPION, frozenset({1, 3})) == 1
    history = [moved(4, 2, rolled_from=3), *history]
    assert previous_live(history, CHAMPION, every) == 1
    assert previous_live([moved(5, 1, rolled_from=2), *history], CHAMPION, every) is None
    assert previous_live([], CHAMPION, every) is None


@pytest.mark.parametrize(
    "url", ["ftp://a/", "http://", "http://user:word@a.org/", "http://a.org:99999/", "http://a b/", "https://a\n/"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument):
        check_url(url)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "[::1]", "[fd00::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433"],
)
def test_private_addresses_are_reached_only_where_allowed(host: str) -> None:
    with pytest.raises(InvalidArgument, match="not a public address"):
        reachable_address(f"http://{host}:80/", ())


def test_an_allowed_network_is_reached() -> None:
    assert reachable_address("http://127.0.0.1:80/", (ip_network("127.0.0.0/8"),)) == "127.0.0.1"
