"""The checks that are there, and those that other packages add under the entry point group `millpond.gate_checks`."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from millpond.kernel.errors import InvalidArgument, MillpondError, Unavailable
from millpond.registry import metrics
from millpond.registry.checks import NUMBER, Check, Finding, Looked, PlainCheck, Subject
from millpond.registry.data_quality import DATA_QUALITY
from millpond.registry.drift import DRIFT
from millpond.registry.evaluations import EVALUATION
from millpond.registry.feature_parity import FEATURE_PARITY
from millpond.registry.policies import OWN, REVIEWERS, SERVER
from millpond.registry.traffic_replay import TRAFFIC_REPLAY
from millpond.registry.windows import WINDOW

GROUP = "millpond.gate_checks"


def _tags(subject: Subject, params: Mapping[str, Any]) -> Looked:
    missing = [str(key) for key in params["required"] if not subject.tags.get(str(key))]
    return not missing, f"tags missing: {', '.join(missing)}" if missing else "all required tags are set", {}


def _description(subject: Subject, params: Mapping[str, Any]) -> Looked:
    found, wanted = len(subject.description.strip()), params.get("min_length", 1)
    return found >= wanted, f"the description has {found} characters, {wanted} are required", {}


def _reviewers(subject: Subject, _params: Mapping[str, Any]) -> Looked:
    missing = subject.approvals_missing
    how = f"{missing} more approval(s) needed: make a transition request, and let somebody else approve it"
    return missing == 0, how if missing else "approved", {}


def _signature(subject: Subject, _params: Mapping[str, Any]) -> Looked:
    own = subject.tools.signature(subject.version)
    if own is None:
        return False, "the version has no signature; log it with input_example or signature", {}
    if subject.champion is None:
        return True, "it has a signature, and nothing to be compatible with", {}
    theirs = subject.tools.signature(subject.champion) or {}
    problems = metrics.incompatibilities(theirs, own)
    told = "; ".join(problems) if problems else "compatible"
    return not problems, f"against version {subject.champion}: {told}", {"problems": problems}


def _predicts(subject: Subject, params: Mapping[str, Any]) -> Looked:
    trial = subject.tools.trial(subject.version, calls=params.get("calls", 50))
    limits = (("p99_ms", trial.p99_ms or 0.0), ("memory_mb", trial.peak_mb), ("load_s", trial.load_s))
    over = [f"{key} is {found:.4g}, the limit {params[key]}" for key, found in limits if found > params.get(key, found)]
    found: dict[str, Any] = {"load_s": trial.load_s, "p99_ms": trial.p99_ms, "memory_mb": trial.peak_mb}
    found |= {"installed": list(trial.installed)} if trial.installed else {}
    told = "; ".join(over) if over else f"loads and predicts its input example, p99 {trial.p99_ms or 0:.3g} ms"
    return not over, told, found


def _metric(subject: Subject, params: Mapping[str, Any]) -> Looked:
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


def _slices(subject: Subject, params: Mapping[str, Any]) -> Looked:
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


def _known_metric(params: Mapping[str, Any]) -> None:
    if params["name"] not in metrics.METRICS:
        raise InvalidArgument(f"There is no metric '{params['name']}'; there are {', '.join(metrics.METRICS)}.")


def _known_environment(params: Mapping[str, Any]) -> None:
    if params.get("environment", SERVER) not in {SERVER, OWN}:
        raise InvalidArgument(f"Check 'predicts': environment is '{SERVER}' or '{OWN}'.")


_TABLE: Mapping[str, tuple[type, ...]] = {"table": (str,), "table_version": (int,), "label": (str,), "name": (str,)}
_BUILT_IN = {
    check.name: check
    for check in (
        PlainCheck(name="tags", types={"required": (list,)}, look=_tags, required=("required",)),
        PlainCheck(name="description", types={"min_length": (int,)}, look=_description),
        PlainCheck(
            name=REVIEWERS,
            types={"approvals": (int,), "author_may_approve": (bool,), "requester_may_approve": (bool,)},
            look=_reviewers,
        ),
        PlainCheck(name="signature", types={}, look=_signature),
        PlainCheck(
            name="predicts",
            types={
                "calls": (int,),
                "p99_ms": NUMBER,
                "memory_mb": NUMBER,
                "load_s": NUMBER,
                "environment": (str,),
            },
            look=_predicts,
            slow=True,
            inspect=_known_environment,
        ),
        PlainCheck(
            name="metric",
            types={**_TABLE, "minimum": NUMBER, "maximum": NUMBER, "margin": NUMBER},
            look=_metric,
            slow=True,
            required=tuple(_TABLE),
            inspect=_known_metric,
        ),
        PlainCheck(
            name="slices",
            types={**_TABLE, "by": (list,), "floor": NUMBER, "min_rows": (int,)},
            look=_slices,
            slow=True,
            required=(*_TABLE, "by", "floor"),
            inspect=_known_metric,
        ),
        WINDOW,
        DATA_QUALITY,
        DRIFT,
        EVALUATION,
        FEATURE_PARITY,
        TRAFFIC_REPLAY,
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
    except Unavailable:  # says nothing about the version
        raise
    except MillpondError as error:
        return Finding(check=name, passed=False, message=error.message)
