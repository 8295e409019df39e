"""What a policy can ask for. A check looks at a version and says what it found.

Other packages add theirs under the entry point group `millpond.gate_checks`: a name, and an object with the attributes
of `Check`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from millpond.catalog.domain import ObjectName
from millpond.kernel.errors import InvalidArgument
from millpond.tracking.evaluations import Evaluation
from millpond.tracking.watch import Target

NUMBER = (int, float)
MOST_REPLAYED = 1000
"""Rows."""
Looked = tuple[bool, str, Mapping[str, Any]]
"""Whether it passes, what is said about it, and details."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found."""

    check: str
    passed: bool
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a version did in a clean process."""

    load_s: float
    p99_ms: float | None
    """Of calls with the input example; None where there were none."""
    peak_mb: float
    predictions: Mapping[str, Sequence[Any]] = field(repr=False)
    """For the rows of each table that it was given."""
    installed: Sequence[str] = field(default=(), repr=False)
    """`name==version` of each package, where it ran in an environment of its own."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What is replayed, and what may differ. Raises InvalidArgument when it is made of what cannot be."""

    keys: str | None = None
    """A table of requests: the lookup keys, what functions need, and the time if it has one. None for keys of the
    feature tables themselves."""
    sample: int = 200
    """How many rows are replayed at most."""
    tolerance: float = 0.0
    """How far fractions may be apart: absolutely, or as a part of the greater one."""
    tolerances: Mapping[str, float] = field(default_factory=dict)
    """The same for features of their own."""
    max_mismatches: int = 0
    """How many values may differ."""

    def __post_init__(self) -> None:
        if not 1 <= self.sample <= MOST_REPLAYED:
            raise InvalidArgument(f"sample is {self.sample}; give 1 to {MOST_REPLAYED} rows.")
        for value in (self.tolerance, *self.tolerances.values()):
            if isinstance(value, bool) or not isinstance(value, NUMBER) or not 0 <= value < math.inf:
                raise InvalidArgument(f"A tolerance is {value!r:.80}; give a number of 0 or more.")
        if self.max_mismatches < 0:
            raise InvalidArgument(f"max_mismatches is {self.max_mismatches}; give 0 or more.")

    def tolerance_of(self, feature: str) -> float:
        """How far values of a feature may be apart."""
        return self.tolerances.get(feature, self.tolerance)


@dataclass(frozen=True, kw_only=True)
class TrafficReplay:
    """What was found when a version answered recorded requests of an endpoint."""

    id: str
    endpoint: str
    ended_at: datetime
    report: Mapping[str, Any] = field(repr=False)
    """As `replay.comparing` makes it."""
    is_filtered: bool = False
    """Whether who asked for it chose a time or a served entity, and not the newest requests."""


class Tools(Protocol):
    """What checks can use besides the metadata."""

    def signature(self, version: int) -> Mapping[str, Any] | None:
        """The signature of a version of the model as its MLmodel file has it; None without one."""

    def trial(self, version: int, *, calls: int) -> Trial:
        """Load a version in a clean process and let it predict its input example so often."""

    def table(self, name: str, version: int, columns: Sequence[str] = ()) -> Any:
        """An evaluation table at a version (Arrow), or some columns of it, as the policy's author sees it."""

    def query(self, text: str) -> Any:
        """The rows of a query (Arrow), as the policy's author gets them."""

    def evaluations(self, version: int) -> Sequence[Evaluation]:
        """The runs that evaluated a version, newest first, whoever may read them."""

    def writers(self, evaluation: Evaluation) -> frozenset[str]:
        """Who besides administrators may write to its run."""

    def predictions(self, version: int, table: str, table_version: int, label: str) -> Sequence[Any]:
        """What a version says to the rows of an evaluation table, which it gets without their labels."""

    def replay(self, version: int, asked: Replay) -> Looked:
        """Whether a version's features are the same offline and online, as the policy's author reads them."""

    def traffic_replays(self, version: int) -> Sequence[TrafficReplay]:
        """How a version answered recorded requests, newest first, whoever asked for it."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The version that is looked at."""

    model: str
    version: int
    target: Target
    author: str
    description: str
    tags: Mapping[str, str]
    approvals_missing: int
    champion: int | None
    """The version that has the target now."""
    tools: Tools


class Check(Protocol):
    """One kind of check."""

    @property
    def slow(self) -> bool:
        """Whether it runs the model or reads data, so that it is done in the background and its finding kept."""

    def prepare(self, params: Mapping[str, Any]) -> None:
        """Raises InvalidArgument for params that it does not understand."""

    def run(self, subject: Subject, params: Mapping[str, Any]) -> Finding:
        """Look. An error of ours that it raises is a finding that does not pass."""


@dataclass(frozen=True, kw_only=True)
class PlainCheck:
    """A check made of a function and the names and types of its params; `required` ones have to be there."""

    name: str
    types: Mapping[str, tuple[type, ...]]
    look: Callable[[Subject, Mapping[str, Any]], Looked]
    slow: bool = False
    good_for_s: float = math.inf
    """How long a finding of a slow check counts: for good where it looks at what never changes. One that was held
    against a version does not count again."""
    required: tuple[str, ...] = ()
    inspect: Callable[[Mapping[str, Any]], None] = lambda params: None
    """Raises InvalidArgument for values that cannot be."""

    def prepare(self, params: Mapping[str, Any]) -> None:
        """Names and types."""
        for key, value in params.items():
            if key not in self.types:
                raise InvalidArgument(f"Check '{self.name}' knows no '{key}'; it knows {', '.join(self.types)}.")
            if not isinstance(value, self.types[key]) or (isinstance(value, bool) and bool not in self.types[key]):
                raise InvalidArgument(f"Check '{self.name}': '{key}' is {value!r}, of the wrong type.")
        for key in self.required:
            if key not in params:
                raise InvalidArgument(f"Check '{self.name}' needs '{key}'.")
        self.inspect(params)

    def run(self, subject: Subject, params: Mapping[str, Any]) -> Finding:
        """Look."""
        passed, message, details = self.look(subject, params)
        return Finding(check=self.name, passed=passed, message=message, details=details)


def at_version(table: str, version: int) -> str:
    """A table at a version, as SQL names it. Raises InvalidArgument for what is no three-level name."""
    return f"{ObjectName.of_full_name(table).quoted} VERSION AS OF {version}"
