"""Quantiles of many numbers in little memory: counts in buckets that are each 4 % wider than the one before.

Source: Masson, Rim and Lee, "DDSketch", VLDB 2019: a quantile is at most 2 % off, and sketches add up.
"""

import math
from collections.abc import Mapping

_ACCURACY = 0.02
_GAMMA = (1 + _ACCURACY) / (1 - _ACCURACY)
_LOG_GAMMA = math.log(_GAMMA)
_LEAST = 1e-12
"""Smaller numbers count as 0."""
_ZERO = -(1 << 20)
"""The bucket of 0."""


class Sketch:
    """How numbers of 0 or more are spread."""

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self._counts = dict(counts or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sketch) and self._counts == other._counts

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def total(self) -> int:
        """How many numbers there are."""
        return sum(self._counts.values())

    def add(self, value: float) -> None:
        """One more number."""
        bucket = _ZERO if value < _LEAST else math.ceil(math.log(value) / _LOG_GAMMA)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1

    def plus(self, other: "Sketch") -> "Sketch":
        """Both together."""
        keys = self._counts.keys() | other._counts.keys()
        return Sketch({key: self._counts.get(key, 0) + other._counts.get(key, 0) for key in keys})

    def minus(self, part: "Sketch") -> "Sketch":
        """All but a part."""
        left = {key: count - part._counts.get(key, 0) for key, count in self._counts.items()}
        return Sketch({key: count for key, count in left.items() if count})

    def quantile(self, share: float) -> float | None:
        """The number below or at which so large a share of all is; None of none."""
        wanted, reached = share * (self.total - 1), 0
        for bucket in sorted(self._counts):
            reached += self._counts[bucket]
            if reached > wanted:
                return _middle(bucket)
        return None

    def above(self, limit: float) -> int:
        """How many are larger."""
        return sum(count for bucket, count in self._counts.items() if _middle(bucket) > limit)

    def to_json(self) -> dict[str, int]:
        """For `from_json`."""
        return {str(bucket): count for bucket, count in sorted(self._counts.items())}

    @classmethod
    def from_json(cls, told: Mapping[str, int]) -> "Sketch":
        """What `to_json` gave."""
        return cls({int(bucket): count for bucket, count in told.items()})


def _middle(bucket: int) -> float:
    return 0.0 if bucket == _ZERO else 2 * _GAMMA**bucket / (1 + _GAMMA)
