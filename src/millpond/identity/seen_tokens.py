"""Whose a token is that was just shown: no look at the database while nothing in it has changed."""

import asyncio
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
_LATELY_S, _MOST_LATELY = 3.0, 4096
_FEW_GRANTS = 200
_THREADS = 16
"""The door's own, so that slow handlers, which share the other threads, keep nobody waiting outside. More than the
passwords that may be checked at once, so that those keep no token waiting."""

Shown = tuple[str, str, str]
"""A header `Authorization` with a bearer token, and the path and method for which it is shown."""

_Good = tuple[Principal, float]
"""Who, and until when that is good."""


class SeenTokens:
    """Principals by what they showed."""

    def __init__(self, identity: IdentityService) -> None:
        self._identity = identity
        self._threads = anyio.CapacityLimiter(_THREADS)
        mark, self._knows_at_once = identity.change_mark()
        self._known: Kept[Shown, _Good] = Kept(mark)
        self._looks: dict[Shown, tuple[dict[Shown, _Good], asyncio.Future[Principal]]] = {}
        """Looks under way, with the values of the moment in which each began."""
        self._lately: dict[Shown, _Good] = {}

    async def principal(self, shown: Shown | None, authenticate: Callable[[], Principal]) -> Principal:
        """Whoever asks; `authenticate` finds out, in a thread, who is not known. None shows another credential.

        Many who show the same share a look, if nothing has changed since it began."""
        known = self._known.now() if shown is not None and self._knows_at_once else None
        if known is None or shown is None:
            return await self._in_thread(shown, authenticate)
        if found := _good(known.get(shown)):
            return found
        if self._is_quick(shown):
            return self._look(shown, authenticate)
        look = self._looks.get(shown)
        if look is None or look[0] is not known:
            look = known, asyncio.ensure_future(self._in_thread(shown, authenticate))
            self._looks[shown] = look
            look[1].add_done_callback(partial(self._looked, shown))
        return await asyncio.shield(look[1])

    def lately(self, shown: Shown) -> Principal | None:
        """Whose it was within the last seconds, if that is known; who is refused for want of time need not be known
        better."""
        return _good(self._lately.get(shown))

    def _is_quick(self, shown: Shown) -> bool:
        """Whether a look takes less than a thread would wait for its turn, as of who was known a moment ago."""
        who = self.lately(shown)
        return who is not None and who.grants.count <= _FEW_GRANTS and self._identity.answers_at_once

    async def _in_thread(self, shown: Shown | None, authenticate: Callable[[], Principal]) -> Principal:
        return await anyio.to_thread.run_sync(partial(self._look, shown, authenticate), limiter=self._threads)

    def _looked(self, shown: Shown, look: "asyncio.Future[Principal]") -> None:
        if self._looks.get(shown, (None, None))[1] is look:
            del self._looks[shown]
        if not look.cancelled():
            look.exception()  # seen, though all who waited for it may have left

    def _look(self, shown: Shown | None, authenticate: Callable[[], Principal]) -> Principal:
        known = self._known.now() if shown is not None else None
        if known is None or shown is None:
            return authenticate()
        if found := _good(known.get(shown)):
            return found
        good_until = time.monotonic() + _GOOD_FOR_S
        principal = authenticate()
        known[shown] = (principal, good_until)
        if len(self._lately) >= _MOST_LATELY:
            self._lately.clear()
        self._lately[shown] = principal, good_until + _LATELY_S
        return principal


def _good(found: _Good | None) -> Principal | None:
    return found[0] if found and time.monotonic() < found[1] else None
