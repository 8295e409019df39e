"""What a cluster policy says of a cluster's attributes: pure, and each refusal names its rule.

A definition is a JSON object of paths and rules, such as `"num_workers": {"type": "range", "maxValue": 8}`.
Source: "Compute policy reference" of the Databricks documentation.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from millpond.kernel.errors import InvalidArgument, NotImplementedHere

MAPS = ("spark_conf", "spark_env_vars", "custom_tags")
"""Attributes whose keys are the user's own, with dots in them."""
CLUSTER_TYPE = "cluster_type"
"""A path that is no attribute: `all-purpose` or `job`."""
_NOT_HERE = {"dbus_per_hour": "there are no DBUs here; limit num_workers and node_type_id"}
_LARGEST = 64 << 10
_LONGEST_PATTERN = 1000
_LONGEST_VALUE = 2000
_ANY = "*"

Path = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What one path may be."""

    path: str
    """As the definition writes it."""
    type: str
    value: Any = None
    values: tuple[Any, ...] = ()
    pattern: str = ""
    least: float | None = None
    most: float | None = None
    default: Any = None
    optional: bool = False
    hidden: bool = False

    @property
    def words(self) -> str:
        """What it demands, for whoever broke it."""
        match self.type:
            case "fixed":
                return f"is fixed to {_shown(self.value)}"
            case "forbidden":
                return "must not be set"
            case "allowlist":
                return "must be one of " + ", ".join(map(_shown, self.values))
            case "blocklist":
                return "must not be one of " + ", ".join(map(_shown, self.values))
            case "regex":
                return f"must match the pattern {self.pattern}"
            case "range":
                low = [f"at least {self.least:g}"] if self.least is not None else []
                high = [f"at most {self.most:g}"] if self.most is not None else []
                return "must be " + " and ".join([*low, *high])
            case _:
                return "must be set"

    def admits(self, value: Any) -> bool:
        """Whether a value that is set is as the rule says."""
        match self.type:
            case "fixed":
                return _same(value, self.value)
            case "forbidden":
                return False
            case "allowlist":
                return any(_same(value, each) for each in self.values)
            case "blocklist":
                return not any(_same(value, each) for each in self.values)
            case "regex":
                text = str(value)
                return len(text) <= _LONGEST_VALUE and re.fullmatch(self.pattern, text) is not None
            case "range":
                number = _number(value)
                low_enough = number is not None and (self.most is None or number <= self.most)
                return low_enough and number is not None and (self.least is None or number >= self.least)
            case _:
                return True


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A rule that was broken, and by what."""

    path: str
    rule: Rule
    message: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What becomes of attributes under a policy."""

    attributes: Mapping[str, Any]
    violations: tuple[Violation, ...] = ()
    applied: Mapping[str, Any] = field(default_factory=dict)
    """What the policy filled in, by path."""

    def require(self, policy: str) -> None:
        """Pass, or raise InvalidArgument naming each rule that was broken."""
        if self.violations:
            told = "; ".join(violation.message for violation in self.violations)
            raise InvalidArgument(f"The cluster is not as policy '{policy}' allows: {told}.")


def parse(definition: str | Mapping[str, Any]) -> dict[Path, Rule]:
    """The rules of a definition. Raises InvalidArgument, NotImplementedHere."""
    if isinstance(definition, str):
        if len(definition) > _LARGEST:
            raise InvalidArgument(f"A policy's definition has at most {_LARGEST >> 10} KiB.")
        try:
            definition = json.loads(definition or "{}")
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"The policy's definition is no JSON: {str(error)[:200]}.") from error
    if not isinstance(definition, Mapping):
        raise InvalidArgument('The policy\'s definition is a JSON object of paths and rules, {"PATH": {"type": ...}}.')
    return {path_of(name): _rule(name, body) for name, body in definition.items()}


def merged(definition: str, overrides: str) -> dict[str, Any]:
    """A family's definition with a policy's overrides, path by path. Raises InvalidArgument."""
    parse(definition), parse(overrides or "{}")
    return {**json.loads(definition), **json.loads(overrides or "{}")}


def path_of(name: str) -> Path:
    """A path's parts; of maps the key is one, with the dots in it."""
    head, dot, rest = name.partition(".")
    if head in MAPS:
        return (head, rest) if dot else (head,)
    return tuple(name.split("."))


def evaluate(
    rules: Mapping[Path, Rule], attributes: Mapping[str, Any], *, cluster_type: str, defaults: bool
) -> Verdict:
    """The attributes with fixed values (and `defaults`) filled in, and the rules that they break.

    A rule for a very path comes before one with `*` in it.
    """
    given = _copied(attributes)
    applied: dict[str, Any] = {}
    found: list[Violation] = []
    kind = rules.get((CLUSTER_TYPE,))
    if kind is not None and not kind.admits(cluster_type):
        found.append(_broken(kind, CLUSTER_TYPE, cluster_type))
    for path, rule in rules.items():
        if path == (CLUSTER_TYPE,) or _ANY in path:
            continue
        filling = rule.value if rule.type == "fixed" else rule.default if defaults else None
        if filling is not None and _found(given, path) is None and _put(given, path, filling):
            applied[rule.path] = filling
    for path, value in _leaves(given):
        its = _rule_for(rules, path)
        if its is not None and not its.admits(value):
            found.append(_broken(its, ".".join(path), value))
    found += [_missing(rule) for path, rule in rules.items() if _is_missing(rules, given, path)]
    return Verdict(attributes=given, violations=tuple(found), applied=applied)


def _rule(name: str, body: Any) -> Rule:
    if name in _NOT_HERE:
        raise NotImplementedHere(f"Policies here have no {name}: {_NOT_HERE[name]}.")
    if not isinstance(body, Mapping):
        raise InvalidArgument(f"The rule of '{name}' is an object with a type.")
    type_ = str(body.get("type", ""))
    known = _FIELDS.get(type_)
    if known is None:
        raise InvalidArgument(f"The rule of '{name}' has type '{type_[:40]}'; there are {', '.join(_FIELDS)}.")
    if extra := sorted(set(body) - known - {"type", "hidden"}):
        raise InvalidArgument(f"The rule of '{name}' ({type_}) takes no {', '.join(extra)[:100]}.")
    if lacking := sorted(_NEEDED.get(type_, frozenset()) - set(body)):
        raise InvalidArgument(f"The rule of '{name}' ({type_}) lacks {', '.join(lacking)}.")
    rule = Rule(
        path=name, type=type_, value=body.get("value"), values=_values(name, body), pattern=_pattern(name, body),
        least=_bound(name, body, "minValue"), most=_bound(name, body, "maxValue"), default=body.get("defaultValue"),
        optional=bool(body.get("isOptional", False)), hidden=bool(body.get("hidden", False)),
    )  # fmt: skip
    if type_ == "range" and rule.least is None and rule.most is None:
        raise InvalidArgument(f"The rule of '{name}' (range) has minValue or maxValue.")
    if rule.default is not None and not rule.admits(rule.default):
        raise InvalidArgument(f"The default of '{name}' is not what its own rule allows: it {rule.words}.")
    return rule


_LIMITING = frozenset({"defaultValue", "isOptional"})
_FIELDS: Mapping[str, frozenset[str]] = {
    "fixed": frozenset({"value"}),
    "forbidden": frozenset(),
    "allowlist": _LIMITING | {"values"},
    "blocklist": _LIMITING | {"values"},
    "regex": _LIMITING | {"pattern"},
    "range": _LIMITING | {"minValue", "maxValue"},
    "unlimited": _LIMITING,
}
_NEEDED = {"fixed": {"value"}, "allowlist": {"values"}, "blocklist": {"values"}, "regex": {"pattern"}}


def _values(name: str, body: Mapping[str, Any]) -> tuple[Any, ...]:
    values = body.get("values", [])
    if not isinstance(values, list) or (not values and "values" in body):
        raise InvalidArgument(f"The values of '{name}' are a list that is not empty.")
    return tuple(values)


def _pattern(name: str, body: Mapping[str, Any]) -> str:
    pattern = body.get("pattern", "")
    if not isinstance(pattern, str) or len(pattern) > _LONGEST_PATTERN:
        raise InvalidArgument(f"The pattern of '{name}' is a text of at most {_LONGEST_PATTERN} characters.")
    if re.search(r"[*+}]\)*[*+{]", pattern):  # (a+)+ may take for ever
        raise InvalidArgument(f"The pattern of '{name}' repeats what is repeated already, which may take for ever.")
    try:
        re.compile(pattern)
    except re.error as error:
        raise InvalidArgument(f"The pattern of '{name}' is no regular expression: {error}.") from error
    return pattern


def _bound(name: str, body: Mapping[str, Any], which: str) -> float | None:
    value = body.get(which)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise InvalidArgument(f"{which} of '{name}' is a number.")
    return None if value is None else float(value)


def _rule_for(rules: Mapping[Path, Rule], path: Path) -> Rule | None:
    """The rule of a leaf: its own, one with `*` in the place of a key or number, or one of what it is in."""
    for length in range(len(path), 0, -1):
        part = path[:length]
        if part in rules:
            return rules[part]
        for candidate, rule in rules.items():
            if _ANY in candidate and _matches(candidate, part):
                return rule
    return None


def _matches(pattern: Path, path: Path) -> bool:
    return len(pattern) == len(path) and all(mine in (_ANY, theirs) for mine, theirs in zip(pattern, path, strict=True))


def _is_missing(rules: Mapping[Path, Rule], given: Mapping[str, Any], path: Path) -> bool:
    rule = rules[path]
    if rule.optional or rule.type in ("fixed", "forbidden", "blocklist") or path == (CLUSTER_TYPE,) or _ANY in path:
        return False
    if any(part.isdecimal() for part in path[1:]) and _found(given, path[:2]) is None:
        return False  # of a script that there is not
    return _found(given, path) is None


def _broken(rule: Rule, path: str, value: Any) -> Violation:
    by = f" by the rule of {rule.path}" if rule.path != path else ""
    told = "" if rule.type == "forbidden" or "env_vars" in path else f" and is {_shown(value)}"
    return Violation(path=path, rule=rule, message=f"{path} {rule.words}{told} ({rule.type}{by})")


def _missing(rule: Rule) -> Violation:
    words = rule.words if rule.type == "unlimited" else f"must be set, and {rule.words}"
    return Violation(path=rule.path, rule=rule, message=f"{rule.path} {words} ({rule.type})")


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """All that is set, by its path; elements of lists have numbers."""
    if isinstance(value, Mapping) and (value or not path):
        for key, each in value.items():
            yield from _leaves(each, (*path, str(key)))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _leaves(each, (*path, str(number)))
    elif value is not None:
        yield path, value


def _found(value: Any, path: Path) -> Any:
    for part in path:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list):
            value = value[int(part)] if part.isdecimal() and int(part) < len(value) else None
        else:
            return None
    return value


def _put(value: dict[str, Any], path: Path, what: Any) -> bool:
    """Set what is at a path; False where that lies in a list, as nobody asked for another element."""
    for part in path[:-1]:
        inner = value.setdefault(part, {})
        if not isinstance(inner, dict):
            return False
        value = inner
    value[path[-1]] = what
    return True


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return _shown(one) == _shown(other)
    return bool(one == other) or str(one) == str(other)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)[:100]
