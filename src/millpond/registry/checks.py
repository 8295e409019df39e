"""What a policy can ask for. A check looks at a version and says what it found.

Other packages add theirs under the entry point group `millpond.gate_checks`: a name, and an object with the attributes
of `Check`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from millpond.kernel.errors import InvalidArgument, MillpondError
from millpond.registry import metrics
from millpond.registry.policies import REVIEWERS
from millpond.tracking.watch import Target

GROUP = "millpond.gate_checks"


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


class Tools(Protocol):
    """What checks can use besides the metadata."""

    def signature(self, version: int) -> Mapping[str, Any] | None:
        """The signature of a version of the model as its MLmodel file has it; None without one."""

    def trial(self, version: int, *, calls: int) -> Trial:
        """Load a version in a clean process and let it predict its input example so often."""

    def table(self, name: str, version: int) -> Any:
        """An evaluation table at a version (Arrow), as the policy's author may read it."""

    def predictions(self, version: int, table: str, table_version: int, label: str) -> Sequence[Any]:
        """What a version says to the rows of an evaluation table, which it gets without their labels."""


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
class _Plain:
    """A check made of a function and the names and types of its params; `required` ones have to be there."""

    name: str
    types: Mapping[str, tuple[type, ...]]
    look: Callable[[Subject, Mapping[str, Any]], tuple[bool, str, Mapping[str, Any]]]
    slow: bool = False
    required: tuple[str, ...] = ()

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
        if "name" in params and "label" in self.types and params["name"] not in metrics.METRICS:
            known = ", ".join(metrics.METRICS)
            raise InvalidArgument(f"Check '{self.name}': there is no metric '{params['name']}'; there are {known}.")

    def run(self, subject: Subject, params: Mapping[str, Any]) -> Finding:
        """Look."""
        passed, message, details = self.look(subject, params)
        return Finding(check=self.name, passed=passed, message=message, details=details)


_Looked = tuple[bool, str, Mapping[str, Any]]
_NUMBER = (int, float)


def _tags(subject: Subject, params: Mapping[str, Any]) -> _Looked:
    missing = [str(key) for key in params["required"] if not subject.tags.get(str(key))]
    return not missing, f"tags missing: {', '.join(missing)}" if missing else "all required tags are set", {}


def _description(subject: Subject, params: Mapping[str, Any]) -> _Looked:
    found, wanted = len(subject.description.strip()), params.get("min_length", 1)
    return found >= wanted, f"the description has {found} characters, {wanted} are required", {}


def _reviewers(subject: Subject, _params: Mapping[str, Any]) -> _Looked:
    missing = subject.approvals_missing
    how = f"{missing} more approval(s) needed: make a transition request, and let somebody else approve it"
    return missing == 0, how if missing else "approved", {}


def _signature(subject: Subject, _params: Mapping[str, Any]) -> _Looked:
    own = subject.tools.signature(subject.version)
    if own is None:
        return False, "the version has no signature; log it with input_example or signature", {}
    if subject.champion is None:
        return True, "it has a signature, and nothing to be compatible with", {}
    theirs = subject.tools.signature(subject.champion) or {}
    problems = metrics.incompatibilities(theirs, own)
    told = "; ".join(problems) if problems else "compatible"
    return not problems, f"against version {subject.champion}: {told}", {"problems": problems}


def _predicts(subject: Subject, params: Mapping[str, Any]) -> _Looked:
    trial = subject.tools.trial(subject.version, calls=params.get("calls", 50))
    limits = (("p99_ms", trial.p99_ms or 0.0), ("memory_mb", trial.peak_mb), ("load_s", trial.load_s))
    over = [f"{key} is {found:.4g}, the limit {params[key]}" for key, found in limits if found > params.get(key, found)]
    found = {"load_s": trial.load_s, "p99_ms": trial.p99_ms, "memory_mb": trial.peak_mb}
    told = "; ".join(over) if over else f"loads and predicts its input example, p99 {trial.p99_ms or 0:.3g} ms"
    return not over, told, found


def _metric(subject: Subject, params: Mapping[str, Any]) -> _Looked:
    rows = subject.tools.table(params["table"], params["table_version"])
    name, labels = params["name"], metrics.column(rows, params["label"])
    own = _measured(subject, subject.version, rows, params)
    found = {"value": own, "rows": len(labels)}
    better = metrics.METRICS[name].higher_is_better
    if "minimum" in params and own < params["minimum"]:
        return False, f"{name} is {own:.6g}, below the minimum of {params['minimum']}", found
    if "maximum" in params and own > params["maximum"]:
        return False, f"{name} is {own:.6g}, above the maximum of {params['maximum']}", found
    if subject.champion is None or "margin" not in params:
        return True, f"{name} is {own:.6g}", found
    theirs = _measured(subject, subject.champion, rows, params)
    gain = (own - theirs) if better else (theirs - own)
    told = f"{name} is {own:.6g}, that of version {subject.champion} {theirs:.6g}"
    found = {**found, "champion": theirs}
    if gain < params["margin"]:
        return False, f"{told}: it has to be better by {params['margin']}", found
    return True, told, found


def _slices(subject: Subject, params: Mapping[str, Any]) -> _Looked:
    rows = subject.tools.table(params["table"], params["table_version"])
    labels, name = metrics.column(rows, params["label"]), params["name"]
    predicted = _predicted(subject, subject.version, params)
    found: dict[str, float] = {}
    by = [metrics.column(rows, str(each)) for each in params["by"]]
    for value, places in metrics.groups(by).items():
        if len(places) >= params.get("min_rows", 1):
            found[value] = metrics.measure(name, [labels[i] for i in places], [predicted[i] for i in places])
    if metrics.METRICS[name].higher_is_better:
        low = {value: each for value, each in found.items() if each < params["floor"]}
    else:
        low = {value: each for value, each in found.items() if each > params["floor"]}
    told = ", ".join(f"{value}: {each:.4g}" for value, each in sorted(low.items())[:20])
    by_text = ", ".join(map(str, params["by"]))
    message = f"{name} misses the floor of {params['floor']} by {by_text} for {told}" if low else "all slices hold"
    return not low, message, {"slices": found}


def _measured(subject: Subject, version: int, rows: Any, params: Mapping[str, Any]) -> float:
    predicted = _predicted(subject, version, params)
    return metrics.measure(params["name"], metrics.column(rows, params["label"]), predicted)


def _predicted(subject: Subject, version: int, params: Mapping[str, Any]) -> Sequence[Any]:
    return subject.tools.predictions(version, params["table"], params["table_version"], params["label"])


_TABLE: Mapping[str, tuple[type, ...]] = {"table": (str,), "table_version": (int,), "label": (str,), "name": (str,)}
_BUILT_IN = {
    check.name: check
    for check in (
        _Plain(name="tags", types={"required": (list,)}, look=_tags, required=("required",)),
        _Plain(name="description", types={"min_length": (int,)}, look=_description),
        _Plain(
            name=REVIEWERS,
            types={"approvals": (int,), "author_may_approve": (bool,), "requester_may_approve": (bool,)},
            look=_reviewers,
        ),
        _Plain(name="signature", types={}, look=_signature),
        _Plain(
            name="predicts",
            types={"calls": (int,), "p99_ms": _NUMBER, "memory_mb": _NUMBER, "load_s": _NUMBER},
            look=_predicts,
            slow=True,
        ),
        _Plain(
            name="metric",
            types={**_TABLE, "minimum": _NUMBER, "maximum": _NUMBER, "margin": _NUMBER},
            look=_metric,
            slow=True,
            required=tuple(_TABLE),
        ),
        _Plain(
            name="slices",
            types={**_TABLE, "by": (list,), "floor": _NUMBER, "min_rows": (int,)},
            look=_slices,
            slow=True,
            required=(*_TABLE, "by", "floor"),
        ),
    )
}


def check_named(name: str) -> Check:
    """The check with a name. Raises InvalidArgument."""
    if name in _BUILT_IN:
        return cast("Check", _BUILT_IN[name])
    from importlib.metadata import entry_points  # reads every installed package's list

    found = next(iter(entry_points(group=GROUP, name=name)), None)
    if found is None:
        known = ", ".join(_BUILT_IN)
        raise InvalidArgument(f"There is no check '{name[:60]}'; there are {known}, and what packages add to {GROUP}.")
    return cast("Check", found.load())


def examine(name: str, params: Mapping[str, Any], subject: Subject) -> Finding:
    """What a check finds; an error that a user may read is a finding that does not pass."""
    try:
        return check_named(name).run(subject, params)
    except MillpondError as error:
        return Finding(check=name, passed=False, message=error.message)
