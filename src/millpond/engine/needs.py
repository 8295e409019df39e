"""What a plan touches: the places that the engine must be able to read or write, and what users call them."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Needs:
    """Collected while a plan is bound."""

    readable: set[str] = field(default_factory=set)
    """Locations (`file:///...`, `s3://...`)."""
    writable: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    """What users call a location; errors show this in its place."""

    def read(self, location: str, name: str) -> None:
        self.readable.add(location)
        self.names[location] = name

    def write(self, location: str, name: str) -> None:
        self.writable.add(location)
        self.names[location] = name

    def add(self, others: Iterable["Needs"]) -> None:
        for other in others:
            self.readable |= other.readable
            self.writable |= other.writable
            self.names |= other.names
