"""What a deployment does: pure functions of what is declared and what was deployed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import Any

from millpond.bundles.reading import Bundle, known
from millpond.bundles.references import UNKNOWN, has_unknown, references, resolved
from millpond.bundles.resources import KINDS, Kind, for_development, id_of, short_name
from millpond.kernel.errors import InvalidArgument, NotImplementedHere


class Act(StrEnum):
    """What is done with a resource."""

    CREATE = "create"
    CHANGE = "change"
    REPLACE = "replace"
    DELETE = "delete"
    KEEP = "keep"


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """What the state says of a resource."""

    id: str
    """Empty of a job or pipeline that may have been made."""
    digest: str = ""
    """Of what was declared; empty while a deployment is at it."""
    grants: Mapping[str, list[str]] = field(default_factory=dict)

    def begun(self, resource_id: str) -> bool:
        """Whether a deployment that broke off may have made the resource of this id."""
        return not self.digest and self.id == resource_id


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A resource as it is declared."""

    kind: Kind
    key: str
    declared: Mapping[str, Any]

    @property
    def name(self) -> str:
        """`jobs.retrain`."""
        return f"{self.kind.name}.{self.key}"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One resource's turn."""

    act: Act
    name: str
    kind: Kind
    key: str
    what: str
    """What it is called on the server."""

    @property
    def removes(self) -> bool:
        """Whether something goes that a deployment cannot bring back."""
        return self.act in (Act.DELETE, Act.REPLACE)


def wanted_in(bundle: Bundle, user: str) -> list[Wanted]:
    """All resources of a bundle, each after what it refers to, with what they share of names filled in.

    Raises NotImplementedHere for kinds and keys that are not here, InvalidArgument for what is not whole.
    """
    found: dict[str, Wanted] = {}
    for kind_name, resources in bundle.resources.items():
        if kind_name not in KINDS:
            raise NotImplementedHere(f"resources has {str(kind_name)[:60]}; here are {', '.join(KINDS)}.")
        for key, declared in (resources or {}).items():
            each = Wanted(kind=KINDS[kind_name], key=key, declared=_own(bundle, KINDS[kind_name], key, declared, user))
            found[each.name] = each
    return [found[name] for name in _ordered(found)]


def _own(bundle: Bundle, kind: Kind, key: str, declared: Any, user: str) -> Mapping[str, Any]:
    if not isinstance(declared, dict):
        raise InvalidArgument(f"{kind.name}.{key} is not a mapping of names.")
    if not kind.has_own_id:
        known(declared, kind.fields, f"{kind.name}.{key}")
    kind.check(key, declared)
    return for_development(kind, declared, short_name(user)) if bundle.development else declared


def _ordered(found: Mapping[str, Wanted]) -> list[str]:
    """Schemas first and jobs last, and each after those that it refers to."""
    places = list(KINDS)
    graph = {
        name: {f"{kind}.{key}" for kind, key, _ in map(_resource, references(each.declared)) if kind}
        for name, each in found.items()
    }
    for name, before in graph.items():
        if missing := sorted(before - set(found)):
            raise InvalidArgument(f"{name} refers to {missing[0]}, which the bundle does not have.")
    sorter = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as error:
        raise InvalidArgument(f"Resources refer to each other in a circle: {' → '.join(error.args[1])}.") from error
    ordered: list[str] = []
    waiting: list[str] = []
    while sorter.is_active():
        waiting = sorted([*waiting, *sorter.get_ready()], key=lambda name: (places.index(found[name].kind.name), name))
        ordered.append(waiting.pop(0))
        sorter.done(ordered[-1])
    return ordered


def _resource(reference: str) -> tuple[str, str, str]:
    """Kind, key and field of a reference to a resource; empty for any other."""
    match reference.split("."):
        case ["resources", kind, key, field_name]:
            return kind, key, field_name
    return "", "", ""


class Names:
    """What references mean, as far as it is known."""

    def __init__(self, bundle: Bundle, user: str, wanted: Sequence[Wanted]) -> None:
        self._bundle = bundle
        self._resources = {each.name: each for each in wanted}
        self._known = {
            "bundle.name": bundle.name,
            "bundle.target": bundle.target,
            "workspace.root_path": bundle.root_path,
            "workspace.file_path": f"{bundle.root_path}/files",
            "workspace.state_path": f"{bundle.root_path}/state",
            "workspace.current_user.userName": user,
            "workspace.current_user.short_name": short_name(user),
        }

    def resolved(self, value: Any, ids: Mapping[str, str]) -> Any:
        """A tree with its references replaced; `ids` are those of resources that are there."""

        def look(reference: str) -> Any:
            kind, key, name = _resource(reference)
            if kind:
                return self._of_resource(f"{kind}.{key}", name, ids)
            if reference.startswith("var.") and reference[4:] in self._bundle.variables:
                return self._bundle.variables[reference[4:]]
            if reference not in self._known:
                raise InvalidArgument(f"${{{reference[:80]}}} leads to nothing; see the names in docs/bundles.md.")
            return self._known[reference]

        return resolved(value, look)

    def _of_resource(self, resource: str, name: str, ids: Mapping[str, str]) -> Any:
        each = self._resources.get(resource)
        if each is None:
            raise InvalidArgument(f"${{resources.{resource}.{name}}} leads to nothing that the bundle has.")
        if name != "id":
            if name not in each.declared:
                raise InvalidArgument(f"${{resources.{resource}.{name}}}: it has no {name}.")
            return each.declared[name]
        return ids.get(resource) or UNKNOWN if each.kind.has_own_id else id_of(each.kind, each.declared)


def plan(wanted: Sequence[Wanted], names: Names, state: Mapping[str, Deployed], gone: frozenset[str]) -> list[Step]:
    """What is to be done, in order; `gone` are those that somebody else removed from the server."""
    ids = {name: each.id for name, each in state.items() if each.id and each.digest and name not in gone}
    steps = []
    for each in wanted:
        declared = names.resolved(each.declared, ids)
        what = str(declared.get("name", "Untitled")) if each.kind.has_own_id else id_of(each.kind, declared)
        before = None if each.name in gone else state.get(each.name)
        act = _act(each.kind, declared, before)
        steps.append(Step(act=act, name=each.name, kind=each.kind, key=each.key, what=what))
    return [*steps, *removals({name: each for name, each in state.items() if name not in {w.name for w in wanted}})]


def removals(state: Mapping[str, Deployed]) -> list[Step]:
    """Remove what was deployed, what was made last first."""
    steps = []
    for name in reversed(list(state)):
        kind, _, key = name.partition(".")
        steps.append(Step(act=Act.DELETE, name=name, kind=KINDS[kind], key=key, what=state[name].id or key))
    return sorted(steps, key=lambda step: -list(KINDS).index(step.kind.name))


def _act(kind: Kind, declared: Mapping[str, Any], before: Deployed | None) -> Act:
    if before is None:
        return Act.CREATE
    if not kind.has_own_id and before.id != id_of(kind, declared):
        return Act.REPLACE
    if not before.digest and not before.id:
        return Act.CREATE
    return Act.KEEP if not has_unknown(declared) and before.digest == digest_of(declared) else Act.CHANGE


def digest_of(declared: Mapping[str, Any]) -> str:
    """Of a resource as it is declared."""
    return hashlib.sha256(json.dumps(declared, sort_keys=True, default=str).encode()).hexdigest()
