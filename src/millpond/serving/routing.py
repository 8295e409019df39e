"""Which served entity gets a request: by chance in the shares of the routes, or by a key always the same one.

By key each route draws a number from the key and its own name, and the highest one wins, weighed by the shares
(weighted rendezvous hashing). So the shares come out right over many keys, and when they change, no key moves to a
route that gets less, and few move that need not. Source: Schindelhauer and Schomaker, "Weighted Distributed Hash
Tables", SPAA 2005 (the logarithmic method).
"""

import hashlib
import math
import random
from collections.abc import Sequence

from millpond.serving.domain import Route, choose

KEY_HEADER = "x-routing-key"
_RANGE = 1 << 64


def entity_for(routes: Sequence[Route], *, endpoint_id: str, key: str | None) -> str:
    """The name of the entity that a request with this key gets; by chance without one."""
    if len(routes) == 1:
        return routes[0].entity
    if key:
        return choose_by_key(routes, f"{endpoint_id}\0{key}")
    return choose(routes, random.random() * 100)  # noqa: S311 - a split, not a secret


def choose_by_key(routes: Sequence[Route], key: str) -> str:
    """The entity that a key always gets while the shares stay."""
    used = [route for route in routes if route.percent > 0]
    return max(used, key=lambda route: route.percent / -math.log(_draw(route.entity, key))).entity


def _draw(entity: str, key: str) -> float:
    """A number between 0 and 1, neither included, that looks random and is not."""
    digest = hashlib.blake2b(f"{entity}\0{key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) + 0.5) / _RANGE
