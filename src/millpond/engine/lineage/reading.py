"""From a note to an observation: which columns of what flowed into which columns of the target."""

from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from millpond.catalog.service import CatalogService
from millpond.engine import proto
from millpond.engine.lineage.columns import Column, Rows, Source
from millpond.engine.lineage.plans import Known, Plans, plan_rows, sources_of
from millpond.engine.lineage.text import Change, change_of, parse
from millpond.engine.own_client import OWN_CLIENT
from millpond.identity.domain import Work
from millpond.kernel.clock import from_epoch_us
from millpond.kernel.logs import get_logger
from millpond.lineage import domain
from millpond.lineage.domain import ColumnFlow, Entity, Node, NodeKind, Observation, Use

log = get_logger(__name__)
FindTable = Callable[[str], tuple[str, str] | None]
"""Id and full name of the table whose files lie at, or around, a location."""
_SQL_PAGE = Entity(type="DBSQL_QUERY")
_CLAIMED = {"JOB": "EXTERNAL_JOB", "DBSQL_QUERY": "EXTERNAL_QUERY"}
"""What a session may not say that it is: who is a job here shows a credential for it."""


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What a note's plan comes to."""

    columns: tuple[Column, ...] = ()
    """Named as in the target."""
    uses: frozenset[Source] = frozenset()


def observation_of(note: Mapping[str, Any], find_table: FindTable) -> Observation:
    """What a note tells. Raises KeyError, ValueError and the like for one that is torn."""
    return _Reader(note, find_table).observation()


def note_reader(catalog: CatalogService) -> Callable[[Mapping[str, Any]], Observation]:
    """What reads notes, with a catalog that knows whose files lie where."""

    def find_table(location: str) -> tuple[str, str] | None:
        table = catalog.table_at(location)
        return (table.id, str(table.name)) if table is not None else None

    return lambda note: observation_of(note, find_table)


class _Reader:
    """Reads one note."""

    def __init__(self, note: Mapping[str, Any], find_table: FindTable) -> None:
        self._note = note
        self._find_table = find_table
        self._nodes: dict[str, Node] = {}

    def observation(self) -> Observation:
        note = self._note
        if "read" in note:
            return self._told((_table_node(note["read"]),), None)
        target = self._target(note["target"])
        if "copy_of" in note:
            return self._copy(note["copy_of"], target)
        return self._written(target)

    def _told(self, sources: Sequence[Node], target: Node | None) -> Observation:
        return Observation(id=self._note["id"], act=_act_of(self._note), sources=tuple(sources), target=target)

    def _copy(self, described: Mapping[str, Any], target: Node) -> Observation:
        source = self._target(described)
        flows = tuple(
            ColumnFlow(source=source, source_column=name, target_column=name)
            for name in self._note["target"]["columns"]
        )
        return replace(self._told((source,), target), columns=flows)

    def _written(self, target: Node) -> Observation:
        note = self._note
        if not note["plan"]:
            return self._only_tables(target)
        plan = _plan_of(note)
        known = self._known()
        sources = {self._node(key) for key in sources_of(plan, known)} - {target} | self._models()
        ordered = tuple(sorted(sources, key=lambda node: node.name))
        observation = replace(self._told(ordered, target), replaces=note["replaces"])
        try:
            made = self._made(plan, known)
        except Exception as error:  # a boundary: whatever a plan holds, its tables are told
            log.info("columns were not followed", operation=note["operation"], error=repr(error)[:300])
            return replace(observation, inexact=tuple(note["target"].get("columns", ())))
        inexact = tuple(column.name for column in made.columns if not column.exact)
        return replace(observation, columns=tuple(self._flows(made, target)), inexact=inexact)

    def _only_tables(self, target: Node) -> Observation:
        """Of a plan that was too large to be noted: all that it named."""
        described = [*self._note["sources"].values(), *self._note["views"].values()]
        sources = {_table_node(each) for each in described} | {self._path_node(each) for each in self._note["names"]}
        ordered = tuple(sorted((sources - {target}) | self._models(), key=lambda node: node.name))
        return replace(self._told(ordered, target), inexact=tuple(self._note["target"].get("columns", ())))

    def _models(self) -> set[Node]:
        """Models and endpoints that were asked for what was written."""
        found = self._note.get("models", ())
        return {Node(kind=NodeKind(each["kind"]), key=each["key"], name=each["name"]) for each in found}

    # -- columns ------------------------------------------------------------------------------------------------

    def _known(self) -> Known:
        note = self._note
        columns: dict[str, Sequence[str] | None] = {place: d["columns"] for place, d in note["sources"].items()}
        if note["target"].get("columns"):
            columns.setdefault(note["target"]["location"], note["target"]["columns"])
        return Known(
            columns=columns,
            views={int(number): (f"view:{d['id']}", d["columns"]) for number, d in note["views"].items()},
            checkpoints={name: b64decode(stored) for name, stored in note["checkpoints"].items()},
        )

    def _made(self, plan: Any, known: Known) -> _Made:
        names = {name.lower(): name for name in self._note["target"].get("columns", ())}
        if self._note["type"] == "Command":
            change = _change(plan.sql_command.input, known)
            columns = _spread(change.columns, tuple(names.values()))
            return _Made(columns=tuple(_in_target(columns, names)), uses=change.uses)
        rows = plan_rows(plan, known)
        columns = _with_names(rows, self._note["made"])
        if self._note["by_position"]:
            wanted = self._note["columns"] or [
                name for name in names.values() if name.lower() not in _lower(self._note["constants"])
            ]
            columns = [column.named(name) for column, name in zip(columns, wanted, strict=False)]
        return _Made(columns=tuple(_in_target(columns, names)), uses=rows.uses)

    def _flows(self, made: _Made, target: Node) -> Iterator[ColumnFlow]:
        values = {(key, source, column.name) for column in made.columns for key, source in column.sources}
        for key, source, name in sorted(values):
            node = self._node(key)
            if source and not (node == target and source.lower() == name.lower()):
                yield ColumnFlow(source=node, source_column=source, target_column=name)
        looked_at = made.uses - {(key, source) for key, source, _ in values}
        for key, source in sorted(looked_at):
            if source and self._node(key) != target:
                yield ColumnFlow(source=self._node(key), source_column=source, target_column="", use=Use.ROWS)

    # -- nodes --------------------------------------------------------------------------------------------------

    def _node(self, key: str) -> Node:
        if key not in self._nodes:
            self._nodes[key] = self._find_node(key)
        return self._nodes[key]

    def _find_node(self, key: str) -> Node:
        note = self._note
        if key.startswith("view:"):
            return _table_node(next(d for d in note["views"].values() if f"view:{d['id']}" == key))
        if key in note["sources"]:
            return _table_node(note["sources"][key])
        if key == note["target"]["location"]:
            return self._target(note["target"])
        return self._path_node(key)

    def _target(self, described: Mapping[str, Any]) -> Node:
        return _table_node(described) if "id" in described else self._path_node(described["location"])

    def _path_node(self, location: str) -> Node:
        table = self._find_table(location)
        if table is not None:
            return Node(kind=NodeKind.TABLE, key=table[0], name=table[1])
        return Node(kind=NodeKind.PATH, key=location, name=self._note.get("names", {}).get(location, location))


def _plan_of(note: Mapping[str, Any]) -> Any:
    proto.allow_deep_plans()
    kind = {"Relation": proto.relations.Relation, "Command": proto.commands.Command}[note["type"]]
    return kind.FromString(b64decode(note["plan"]))


def _change(relation: Any, known: Known) -> Change:
    plans = Plans(known)
    if relation.WhichOneof("rel_type") != "with_relations":
        return change_of(parse(relation.sql.query), plans.tables({}))
    named = plans.named(relation.with_relations.references)
    return change_of(parse(relation.with_relations.root.sql.query), plans.tables(named))


def _with_names(rows: Rows, made: Sequence[str]) -> list[Column]:
    """The rows' columns under the names that the engine gave them; open columns become those that they stand for."""
    columns = list(rows.shown)
    if len(columns) == len(made) and not any(column.is_open for column in columns):
        return [column.named(name) for column, name in zip(columns, made, strict=True)]
    if not made:
        return [column for column in columns if not column.is_open]
    if len([column for column in columns if column.is_open]) == 1:
        return _filled(columns, made)
    by_name = {column.name.lower(): column for column in columns if not column.is_open}
    return [by_name.get(name.lower(), Column(name=name, exact=False)) for name in made]


def _filled(columns: Sequence[Column], made: Sequence[str]) -> list[Column]:
    at = next(number for number, column in enumerate(columns) if column.is_open)
    behind = len(columns) - at - 1
    middle = [columns[at].named(name) for name in made[at : len(made) - behind]]
    filled = [*columns[:at], *middle, *columns[at + 1 :]]
    return [column.named(name) for column, name in zip(filled, made, strict=False)]


def _spread(columns: Iterable[Column], names: Sequence[str]) -> list[Column]:
    """MERGE's `*` of a source whose columns are not known: those of the target."""
    return [c for column in columns for c in ([column.named(name) for name in names] if column.is_open else [column])]


def _in_target(columns: Iterable[Column], names: Mapping[str, str]) -> Iterator[Column]:
    """Columns under the target's spelling of their names."""
    for column in columns:
        yield column.named(names.get(column.name.lower(), column.name))


def _lower(names: Iterable[str]) -> set[str]:
    return {name.lower() for name in names}


def _table_node(described: Mapping[str, Any]) -> Node:
    return Node(kind=NodeKind.TABLE, key=described["id"], name=described["name"])


def _act_of(note: Mapping[str, Any]) -> domain.Act:
    kind, _, name = note["entity"].partition(":")
    entity = Entity(type=_CLAIMED.get(kind.upper(), kind.upper()), id=name) if name else Entity()
    if not name and note["agent"] == OWN_CLIENT:
        entity = replace(_SQL_PAGE, id=note["statement"])
    return domain.Act(
        actor=note["actor"],
        time=from_epoch_us(note["time_us"]),
        operation=note["operation"],
        known=domain.Known.PARSED if note["operation"] == "CREATE VIEW" else domain.Known.OBSERVED,
        session=note["session"],
        statement=note["statement"],
        entity=entity,
        work=Work(**note["work"]) if note.get("work") else None,
    )
