"""Slices of the machine that sessions ask for by the id of a cluster: `sc://HOST/;x-databricks-cluster-id=ID`.

Who knows clusters gives them (`Slices`); here they say only which engine a session has, and what that is given.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from millpond.identity.domain import Principal

HEADER = "x-databricks-cluster-id"


@dataclass(frozen=True, kw_only=True)
class Slice:
    """What an engine of a cluster has."""

    id: str
    """Another one each time the cluster is started."""
    memory_bytes: int
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of Spark, with which each session begins."""
    engines: Path
    """Where each engine is noted by its process id, for who sees to the cores and memory of the cluster."""


class Slices(Protocol):
    """Knows clusters."""

    def attach(self, principal: Principal, cluster_id: str) -> Slice:
        """The slice of a cluster that runs, and to which somebody may attach; it is used. Blocks.

        Raises NotFound, PermissionDenied, FailedPrecondition.
        """


def key_of(principal: Principal, slice_: Slice | None) -> str:
    """Whose engine it is, and of which cluster."""
    return principal.id if slice_ is None else f"{principal.id} {slice_.id}"


def note_engine(slice_: Slice, pid: int) -> None:
    """Tell that an engine of the slice has begun."""
    slice_.engines.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(OSError):
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        place = slice_.engines / str(pid)
        aside = place.with_name(f".{pid}.{os.getpid()}")
        aside.write_text(started)
        aside.rename(place)


def forget_engine(slice_: Slice, pid: int) -> None:
    """And that it has ended."""
    (slice_.engines / str(pid)).unlink(missing_ok=True)
