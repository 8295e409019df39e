"""What a plan touches: the places that the engine must be able to read or write, and what users call them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from millpond.engine.spools import Part

from millpond.catalog.domain import Table


@dataclass
class Needs:
    """Collected while a plan is bound."""

    readable: set[str] = field(default_factory=set)
    """Locations (`file:///...`, `s3://...`)."""
    writable: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    """What users call a location; errors show this in its place."""
    parts: list["Part"] = field(default_factory=list)
    """What another engine computes first; the directories of these are in every engine's reach and not named above."""
    guarded_in_plan: bool = False
    """Whether hidden rows pass through the plan itself, behind a barrier (before a remote engine)."""
    inlined: int = 0
    """How many calls of functions of the catalog were put into the plan."""
    functions: dict[str, bytes] = field(default_factory=dict)
    """Commands that make Python functions of the catalog known to the session, by `register_function:NAME`."""
    runs_code: bool = False
    """Whether the plan brings functions of the user's."""
    models: dict[str, Mapping[str, str]] = field(default_factory=dict)
    """The endpoints and versions of models that are asked, as nodes of lineage, by their keys."""
    tables: dict[str, Table] = field(default_factory=dict)
    """The tables of the catalog that are read, by location."""
    views: dict[int, Table] = field(default_factory=dict)
    """The views of the catalog that were put in place, by the id of the relation that stands there."""
    direct: dict[str, Table] = field(default_factory=dict)
    """The tables and views that the plan itself names, by id; not what stands behind its views."""
    checkpoints: dict[str, bytes] = field(default_factory=dict)
    """Relations that the engine holds for the session, by id, as they were made."""
    held: list[object] = field(default_factory=list)
    """What is there for as long as the plan is on its way."""
    made: tuple[str, ...] = ()
    """Names of the columns to be written, once the engine has told them."""

    def read(self, location: str, name: str) -> None:
        self.readable.add(location)
        self.names[location] = name

    def write(self, location: str, name: str) -> None:
        self.writable.add(location)
        self.names[location] = name

    def remember(self, other: "Needs") -> None:
        """What a plan that was carried out before was made of, where its result stands in this one."""
        self.tables |= other.tables
        self.views |= other.views
        self.checkpoints |= other.checkpoints
        self.models |= other.models

    def add(self, others: Iterable["Needs"]) -> None:
        for other in others:
            self.readable |= other.readable
            self.writable |= other.writable
            self.names |= other.names
            self.parts += other.parts
            self.guarded_in_plan |= other.guarded_in_plan
            self.runs_code |= other.runs_code
            self.functions |= other.functions
            self.models |= other.models
            self.held += other.held
