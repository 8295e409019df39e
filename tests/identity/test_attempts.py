"""Password attempts are bounded for each name and address, and so is the memory that counts them."""

import pytest

from millpond.identity.attempts import (
    MAX_FAILURES_OF_ADDRESS,
    MAX_FAILURES_OF_NAME,
    MAX_FAILURES_OF_PAIR,
    WINDOW_S,
    AttemptLimiter,
    CheckingSlots,
    RememberedPasswords,
)
from millpond.kernel.errors import ResourceExhausted


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> AttemptLimiter:
    return AttemptLimiter(clock=clock)


def fail(limiter: AttemptLimiter, name: str, address: str, times: int) -> None:
    for _ in range(times):
        limiter.check(name, address)
        limiter.failed(name, address)


def test_too_many_failures_of_a_name_from_an_address_are_stopped(limiter: AttemptLimiter) -> None:
    fail(limiter, "ada", "10.0.0.1", MAX_FAILURES_OF_PAIR)
    with pytest.raises(ResourceExhausted, match="wait 15 minutes"):
        limiter.check("ada", "10.0.0.1")
    with pytest.raises(ResourceExhausted):
        limiter.check("ADA", "10.0.0.1")
    limiter.check("ada", "10.0.0.2")
    limiter.check("bob", "10.0.0.1")


def test_the_wait_ends(limiter: AttemptLimiter, clock: Clock) -> None:
    fail(limiter, "ada", "10.0.0.1", MAX_FAILURES_OF_PAIR)
    clock.now += WINDOW_S
    limiter.check("ada", "10.0.0.1")
    limiter.failed("ada", "10.0.0.1")
    limiter.check("ada", "10.0.0.1")


def test_one_address_cannot_try_many_names(limiter: AttemptLimiter) -> None:
    for number in range(MAX_FAILURES_OF_ADDRESS):
        fail(limiter, f"user{number}", "10.0.0.1", 1)
    with pytest.raises(ResourceExhausted):
        limiter.check("another", "10.0.0.1")


def test_many_addresses_cannot_try_one_name_but_its_owner_can(limiter: AttemptLimiter) -> None:
    limiter.succeeded("ada", "192.168.0.1")
    for number in range(MAX_FAILURES_OF_NAME):
        fail(limiter, "ada", f"10.0.0.{number}", 1)
    with pytest.raises(ResourceExhausted):
        limiter.check("ada", "172.16.0.1")
    limiter.check("ada", "192.168.0.1")


def test_the_addresses_of_one_ipv6_network_count_as_one(limiter: AttemptLimiter) -> None:
    for number in range(MAX_FAILURES_OF_PAIR):
        fail(limiter, "ada", f"2001:db8::{number + 1:x}", 1)
    with pytest.raises(ResourceExhausted):
        limiter.check("ada", "2001:db8::ffff")
    limiter.check("ada", "2001:db8:0:1::1")


def test_success_forgets_the_failures_of_the_pair(limiter: AttemptLimiter) -> None:
    fail(limiter, "ada", "10.0.0.1", MAX_FAILURES_OF_PAIR - 1)
    limiter.succeeded("ada", "10.0.0.1")
    fail(limiter, "ada", "10.0.0.1", MAX_FAILURES_OF_PAIR)


def test_memory_is_bounded(limiter: AttemptLimiter) -> None:
    for number in range(12_000):
        limiter.failed("x" * 1000 + str(number), f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(limiter._failures._values) == 10_000
    assert max(map(len, limiter._failures._values)) < 400


def test_a_remembered_password_is_forgotten_when_it_changes_or_ages(clock: Clock) -> None:
    remembered = RememberedPasswords(clock=clock)
    remembered.remember("secret", "hash1")
    assert remembered.knows("secret", "hash1")
    assert not remembered.knows("secret", "hash2")
    assert not remembered.knows("Secret", "hash1")
    assert "secret" not in repr(remembered._until._values)
    clock.now += 301
    assert not remembered.knows("secret", "hash1")


def test_only_so_many_wait_for_a_slow_hash() -> None:
    from contextlib import ExitStack
    from threading import Event, Thread

    slots, go = CheckingSlots(), Event()

    def check() -> None:
        with slots.slot():
            go.wait(10)

    waiting = [Thread(target=check) for _ in range(8)]
    for thread in waiting:
        thread.start()
    while slots._places._value:
        pass
    with ExitStack() as stack, pytest.raises(ResourceExhausted):
        stack.enter_context(slots.slot())
    go.set()
    for thread in waiting:
        thread.join(10)
    with slots.slot():
        pass
