"""The check `traffic_replay`: a version has answered an endpoint's recorded requests, and did not differ too much.

```yaml
- traffic_replay: {endpoint: churn, requests: 1000, max_different: 0.05, max_errors: 0, days: 7}
```

The room `replay`, above this one, keeps what was found; somebody asks for it beforehand.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from millpond.kernel.clock import utc_now
from millpond.kernel.errors import InvalidArgument
from millpond.registry.checks import NUMBER, Looked, PlainCheck, Subject, TrafficReplay

_DEFAULTS: Mapping[str, float] = {
    "requests": 100, "max_different": 0.0, "max_errors": 0.0, "tolerance": 1e-9, "days": 7,
    "filtered": False,
}  # fmt: skip


def _look(subject: Subject, params: Mapping[str, Any]) -> Looked:
    asked = {**_DEFAULTS, **params}
    since = utc_now() - timedelta(days=asked["days"])
    found = [
        each
        for each in subject.tools.traffic_replays(subject.version)
        if each.endpoint == asked["endpoint"] and each.ended_at >= since and _suffices(each, asked)
    ]
    if not found:
        command = f"millpond endpoint replay {asked['endpoint']} {subject.version} --requests {asked['requests']:g}"
        told = f"it has not answered {asked['requests']:g} recorded requests of endpoint '{asked['endpoint']}' "
        told += "that were answered then" if asked["filtered"] else "that were answered then, of the newest"
        return False, told + f", in the last {asked['days']:g} days; run '{command}'", {}
    problems = judged(found[0].report, asked)
    counts = {key: found[0].report[key] for key in ("requests", "rows", "different")}
    told = "; ".join(problems) or f"{counts['different']} of {counts['rows']} predictions differ"
    return not problems, told, {"replay": found[0].id, **counts}


def _suffices(replay: TrafficReplay, asked: Mapping[str, Any]) -> bool:
    if replay.is_filtered and not asked["filtered"]:
        return False
    report = replay.report
    return bool(_judgeable(report) >= asked["requests"] and report["tolerance"] <= asked["tolerance"])


def _judgeable(report: Mapping[str, Any]) -> int:
    """So many requests tell something of the version: those that were answered well when they were recorded."""
    return int(sum(report["outcomes"].get(word, 0) for word in ("compared", "fails")))


def judged(report: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Where what a replay found goes beyond what is allowed, in words."""
    fails, rows = report["outcomes"].get("fails", 0), report["rows"]
    found = []
    if fails > asked["max_errors"] * _judgeable(report):
        found.append(f"{fails} of {_judgeable(report)} requests fail that were answered")
    if not rows:
        found.append("no predictions could be compared")
    elif report["different"] > asked["max_different"] * rows:
        found.append(f"{report['different']} of {rows} predictions differ")
    factor = asked.get("max_p99_factor")
    old, new = report["old_ms"]["p99"], report["new_ms"]["p99"]
    if factor is not None and old and new and new > factor * old:
        found.append(f"its p99 is {new:.4g} ms, against {old:.4g} ms")
    return found


def _inspect(params: Mapping[str, Any]) -> None:
    for name in ("max_different", "max_errors"):
        if not 0 <= params.get(name, 0) <= 1:
            raise InvalidArgument(f"Check 'traffic_replay': '{name}' is a share of 0 to 1, not {params[name]:g}.")
    if not 0 < params.get("days", 7) <= 366:
        raise InvalidArgument(f"Check 'traffic_replay': 'days' is {params['days']:g}; give up to 366.")


TRAFFIC_REPLAY = PlainCheck(
    name="traffic_replay",
    types={
        "endpoint": (str,), "requests": (int,), "max_different": NUMBER, "max_errors": NUMBER, "tolerance": NUMBER,
        "max_p99_factor": NUMBER, "days": NUMBER, "filtered": (bool,),
    },
    look=_look,
    required=("endpoint",),
    inspect=_inspect,
)  # fmt: skip
