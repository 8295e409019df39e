"""Password attempts: how many may fail, how many may run at once, and which passwords were right a moment ago.

All of it is bounded memory of one process. Right tokens never come here.
"""

import hashlib
import hmac
import ipaddress
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from millpond.identity.domain import name_key
from millpond.kernel.errors import ResourceExhausted

WINDOW_S = 900
MAX_FAILURES_OF_PAIR = 10
"""Failures for one name from one address within the window."""
MAX_FAILURES_OF_ADDRESS = 100
MAX_FAILURES_OF_NAME = 50
"""Failures for one name from all addresses from which it has not signed in before."""
MAX_CHECKS_AT_ONCE = 2
_MAX_WAITING = 8
_MAX_KEYS = 10_000
_REMEMBERED_S = 300
_MAX_REMEMBERED = 1_000

V = TypeVar("V")


class AttemptLimiter:
    """Counts failures for each name, each address and each pair of them."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: _Bounded[tuple[int, float]] = _Bounded(_MAX_KEYS)
        self._known_pairs: _Bounded[bool] = _Bounded(_MAX_KEYS)

    def check(self, name: str, address: str) -> None:
        """Pass when a password may be tried, else raise ResourceExhausted."""
        pair, by_name, by_address = _keys(name, address)
        with self._lock:
            blocked = (
                self._count(pair) >= MAX_FAILURES_OF_PAIR
                or self._count(by_address) >= MAX_FAILURES_OF_ADDRESS
                or (self._count(by_name) >= MAX_FAILURES_OF_NAME and not self._known_pairs.get(pair))
            )
        if blocked:
            raise ResourceExhausted(
                f"Too many sign-ins have failed; wait {WINDOW_S // 60} minutes, or use an access token."
            )

    def failed(self, name: str, address: str) -> None:
        """Count a wrong password."""
        now = self._clock()
        with self._lock:
            for key in _keys(name, address):
                count, since = self._failures.get(key) or (0, now)
                self._failures.put(key, (1, now) if now - since >= WINDOW_S else (count + 1, since))

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of this name from this address."""
        pair, _, _ = _keys(name, address)
        with self._lock:
            self._failures.drop(pair)
            self._known_pairs.put(pair, True)

    def _count(self, key: str) -> int:
        count, since = self._failures.get(key) or (0, 0.0)
        return count if self._clock() - since < WINDOW_S else 0


class RememberedPasswords:
    """Passwords found right within the last minutes, so that a client that sends one with each call is not slowed.

    Kept as a keyed hash together with the stored hash, so that a changed password is forgotten at once.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._until: _Bounded[float] = _Bounded(_MAX_REMEMBERED)

    def knows(self, password: str, stored: str) -> bool:
        """Whether this password was right for this stored hash."""
        with self._lock:
            return (self._until.get(self._mark(password, stored)) or 0.0) > self._clock()

    def remember(self, password: str, stored: str) -> None:
        """Note that it was right."""
        with self._lock:
            self._until.put(self._mark(password, stored), self._clock() + _REMEMBERED_S)

    def _mark(self, password: str, stored: str) -> str:
        message = f"{stored}\0{password}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()


class CheckingSlots:
    """Bounds the slow hashes that run at once, so that sign-ins cannot take the memory and the threads of all else."""

    def __init__(self) -> None:
        self._running = threading.Semaphore(MAX_CHECKS_AT_ONCE)
        self._places = threading.Semaphore(_MAX_WAITING)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a turn; raises ResourceExhausted when too many wait already."""
        if not self._places.acquire(blocking=False):
            raise ResourceExhausted("Too many people are signing in with a password at the same time; try again.")
        try:
            with self._running:
                yield
        finally:
            self._places.release()


class _Bounded(Generic[V]):
    """A dictionary that forgets what was touched longest ago."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[str, V] = OrderedDict()

    def get(self, key: str) -> V | None:
        return self._values.get(key)

    def put(self, key: str, value: V) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._limit:
            self._values.popitem(last=False)

    def drop(self, key: str) -> None:
        self._values.pop(key, None)


def _keys(name: str, address: str) -> tuple[str, str, str]:
    known_name, network = name_key(name[:300]), _network(address)
    return f"{len(known_name)} {known_name} {network}", f"name {known_name}", f"address {network}"


def _network(address: str) -> str:
    """An IPv6 host owns a /64 as a rule; an IPv4 address counts alone."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
