"""What the pages show of the last half hour, from counters that only grow."""

from collections.abc import Iterator

import pytest

from millpond.serving.history import History, quantile_ms
from millpond.serving.metrics import REQUESTS, SECONDS

KEY = ("of-history", "a", "1")


class Pools:
    """One served entity without a process, as long as it is served."""

    waiting = 3
    pids: dict[int, int | None] = {1: None}  # noqa: RUF012 - nobody changes it
    served = True

    def pools(self) -> Iterator[tuple[tuple[str, str, str], "Pools"]]:
        if self.served:
            yield KEY, self


def answered(status: str, seconds: float) -> None:
    REQUESTS.labels(*KEY, status).inc()
    SECONDS.labels(*KEY).observe(seconds)


def test_a_moment_is_the_difference_of_two_looks() -> None:
    pools = Pools()
    history = History(pools)
    answered("200", 0.3)
    history.look(1000.0)
    assert history.of("of-history") == {}
    for _ in range(9):
        answered("200", 0.02)
    answered("503", 0.02)
    history.look(1005.0)
    history.look(1010.0)
    busy, quiet = history.of("of-history")[KEY]
    assert (busy.at_ms, busy.requests_per_s, busy.errors_per_s) == (1_005_000, 2.0, 0.2)
    assert busy.p50_ms == pytest.approx(17.5)
    assert (busy.waiting, busy.replicas, busy.cpu) == (3, 0, 0.0)
    assert (quiet.requests_per_s, quiet.p50_ms, quiet.p99_ms) == (0.0, None, None)
    assert history.of("of") == {}
    pools.served = False
    history.look(1015.0)
    assert history.of("of-history") == {}


@pytest.mark.parametrize(
    ("buckets", "share", "found"),
    [
        ({}, 0.5, None),
        ({0.1: 0.0, float("inf"): 0.0}, 0.5, None),
        ({0.1: 10.0, float("inf"): 10.0}, 0.5, 50.0),
        ({0.1: 5.0, 0.2: 10.0, float("inf"): 10.0}, 0.75, 150.0),
        ({0.1: 5.0, float("inf"): 10.0}, 0.99, 100.0),
    ],
)
def test_quantiles_are_those_of_prometheus(buckets: dict[float, float], share: float, found: float | None) -> None:
    assert quantile_ms(buckets, share) == (None if found is None else pytest.approx(found))
