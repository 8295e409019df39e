"""What this server's requests tell of canaries, until a round writes it down."""

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from millpond.serving.canary.domain import Seen
from millpond.serving.sketch import Sketch

_FIRST_ERROR = 400


@dataclass
class _Tally:
    requests: int = 0
    errors: int = 0
    latency_s: Sketch = field(default_factory=Sketch)


class CanaryCounts:
    """Counts the requests of endpoints that have a canary, and only theirs. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[str, dict[str, _Tally]] = {}

    def watch(self, endpoint_ids: Collection[str]) -> None:
        """Count for these endpoints from now on, and for no others."""
        with self._lock:
            self._watched = {each: self._watched.get(each, {}) for each in endpoint_ids}

    def count(self, endpoint_id: str, entity: str, status: int, seconds: float) -> None:
        """A request that an entity got by the traffic split has an answer."""
        if endpoint_id not in self._watched:
            return
        with self._lock:
            tallies = self._watched.get(endpoint_id)
            if tallies is None:
                return
            tally = tallies.setdefault(entity, _Tally())
            tally.requests += 1
            if status >= _FIRST_ERROR:
                tally.errors += 1
            else:
                tally.latency_s.add(seconds)

    def look(self, endpoint_id: str) -> Mapping[str, Seen]:
        """What was counted since `taken`, by entity."""
        with self._lock:
            return {
                name: Seen(requests=each.requests, errors=each.errors, latency_s=each.latency_s.plus(Sketch()))
                for name, each in self._watched.get(endpoint_id, {}).items()
            }

    def taken(self, endpoint_id: str, looked: Mapping[str, Seen]) -> None:
        """What `look` told is written down, and counts here no more."""
        with self._lock:
            for name, seen in looked.items():
                tally = self._watched.get(endpoint_id, {}).get(name)
                if tally is not None:
                    tally.requests -= seen.requests
                    tally.errors -= seen.errors
                    tally.latency_s = tally.latency_s.minus(seen.latency_s)
