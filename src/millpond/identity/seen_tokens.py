"""Whose a token is that was just shown: no look at the database while nothing in it has changed."""

import time
from collections.abc import Callable
from functools import partial

import anyio
import anyio.to_thread

from millpond.identity.domain import Principal
from millpond.identity.service import IdentityService
from millpond.kernel.freshness import Kept

_GOOD_FOR_S = 0.25
"""How long a token is good without another look, where the database has not changed: it may expire by itself."""
_LATELY_S = 3.0
_THREADS = 16
"""The door's own, so that slow handlers, which share the other threads, keep nobody waiting outside. More than the
passwords that may be checked at once, so that those keep no token waiting."""

Shown = tuple[str, str, str]
"""A header `Authorization` with a bearer token, and the path and method for which it is shown."""


class SeenTokens:
    """Principals by what they showed."""

    def __init__(self, identity: IdentityService) -> None:
        self._threads = anyio.CapacityLimiter(_THREADS)
        mark, self._knows_at_once = identity.change_mark()
        self._known: Kept[Shown, tuple[Principal, float]] = Kept(mark)

    async def principal(self, shown: Shown | None, authenticate: Callable[[], Principal]) -> Principal:
        """Whoever asks; `authenticate` finds out, in a thread, who is not known. None shows another credential."""
        if shown is not None and self._knows_at_once and (found := self._just_seen(shown)):
            return found
        return await anyio.to_thread.run_sync(partial(self._look, shown, authenticate), limiter=self._threads)

    def lately(self, shown: Shown) -> Principal | None:
        """Whose it was within the last seconds, if that is known; who is refused for want of time need not be known
        better."""
        found = self._known.last().get(shown)
        return found[0] if found and time.monotonic() < found[1] + _LATELY_S else None

    def _look(self, shown: Shown | None, authenticate: Callable[[], Principal]) -> Principal:
        known = self._known.now() if shown is not None else None
        if known is None or shown is None:
            return authenticate()
        if found := _good(known.get(shown)):
            return found
        good_until = time.monotonic() + _GOOD_FOR_S
        principal = authenticate()
        known[shown] = (principal, good_until)
        return principal

    def _just_seen(self, shown: Shown) -> Principal | None:
        known = self._known.now()
        return _good(known.get(shown)) if known else None


def _good(found: tuple[Principal, float] | None) -> Principal | None:
    return found[0] if found and time.monotonic() < found[1] else None
