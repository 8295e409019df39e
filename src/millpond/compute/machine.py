"""This machine in slices: node types, what a cluster takes of it, and whether there is room. Pure.

A node type is a number of cores and an amount of memory under a name that stays. A cluster takes its driver's slice and
one for each worker; all its processes share the sum of them.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from millpond.kernel.errors import InvalidArgument

_SIZES = ((1, 2), (1, 4), (2, 4), (2, 8), (4, 8), (4, 16), (8, 16), (8, 32), (16, 32), (16, 64), (32, 128), (64, 256))
"""Cores and GiB."""


@dataclass(frozen=True, kw_only=True)
class NodeType:
    """A slice under a name."""

    id: str
    cores: int
    memory_mb: int


@dataclass(frozen=True, kw_only=True)
class Size:
    """Cores and memory."""

    cores: int = 0
    memory_mb: int = 0

    def __add__(self, other: "Size") -> "Size":
        return Size(cores=self.cores + other.cores, memory_mb=self.memory_mb + other.memory_mb)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What nodes a cluster has."""

    driver: NodeType
    worker: NodeType

    def size(self, workers: int) -> Size:
        """All that it takes with so many workers."""
        return Size(
            cores=self.driver.cores + workers * self.worker.cores,
            memory_mb=self.driver.memory_mb + workers * self.worker.memory_mb,
        )


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What clusters may take here, all together."""

    cores: int
    """That there are."""
    memory_mb: int
    """That clusters may take."""
    cores_factor: float = 1.0
    """So many times the cores may be given away."""

    @property
    def capacity(self) -> Size:
        """What may be given away."""
        return Size(cores=max(1, math.floor(self.cores * self.cores_factor)), memory_mb=self.memory_mb)

    @property
    def node_types(self) -> tuple[NodeType, ...]:
        """The slices that this machine has room for, the smallest first."""
        every = (NodeType(id=f"local.{cores}c{gb}g", cores=cores, memory_mb=gb << 10) for cores, gb in _SIZES)
        return tuple(each for each in every if each.cores <= self.cores and each.memory_mb <= self.memory_mb)

    def node_type(self, name: str) -> NodeType:
        """The slice with a name. Raises InvalidArgument."""
        found = {each.id: each for each in self.node_types}
        if name not in found:
            there_are = ", ".join(found) or "none, as clusters may take too little memory (compute.memory_share)"
            raise InvalidArgument(f"Node type '{name[:80]}' is none of this machine; there are {there_are}.")
        return found[name]

    def check_ever(self, wanted: Size) -> None:
        """Raises InvalidArgument for what this machine never has room for."""
        if lacking := self.lacking(Size(), wanted):
            raise InvalidArgument(f"The cluster is larger than this machine: it {lacking}.")

    def lacking(self, used: Size, wanted: Size) -> str:
        """Why there is no room for something beside what is used; empty where there is."""
        all_, total = self.capacity, used + wanted
        if total.cores > all_.cores:
            return f"needs {wanted.cores} cores, and {all_.cores - used.cores} of {all_.cores} are free"
        if total.memory_mb > all_.memory_mb:
            free = max(0, all_.memory_mb - used.memory_mb)
            return f"needs {wanted.memory_mb} MiB, and {free} of {all_.memory_mb} are free"
        return ""


def choose_cores(there: Sequence[int], taken: Iterable[Sequence[int]], wanted: int) -> tuple[int, ...]:
    """The cores that a cluster runs on: those that the fewest others have; all, where it wants as many or more."""
    counted = Counter(core for cores in taken for core in cores)
    return tuple(sorted(sorted(there, key=lambda core: (counted[core], core))[:wanted]))


@dataclass(frozen=True, kw_only=True)
class Load:
    """How busy a cluster has been."""

    busy_s: float = 0.0
    """For so long it has used nearly all its cores."""
    idle_s: float = 0.0
    """For so long it has used so little that one worker less would do."""


BUSY_SHARE = 0.8
_UP_AFTER_S = 5.0
_DOWN_AFTER_S = 60.0


def observed(load: Load, *, used_cores: float, shape: Shape, workers: int, elapsed_s: float) -> Load:
    """The load after one more look."""
    now, less = shape.size(workers).cores, shape.size(max(0, workers - 1)).cores
    busy = used_cores >= BUSY_SHARE * now
    idle = used_cores < BUSY_SHARE * less
    return Load(busy_s=load.busy_s + elapsed_s if busy else 0.0, idle_s=load.idle_s + elapsed_s if idle else 0.0)


def scaled(load: Load, *, workers: int, least: int, most: int) -> int:
    """How many workers it should have: one more when it is busy, one less when it has been idle for long."""
    wanted = workers + 1 if load.busy_s >= _UP_AFTER_S else workers - 1 if load.idle_s >= _DOWN_AFTER_S else workers
    return min(max(wanted, least), most)


def over_memory(used_mb: Mapping[int, int], limit_mb: int) -> int | None:
    """The process to end where all together use more than the cluster has: the largest."""
    if sum(used_mb.values()) <= limit_mb:
        return None
    return max(used_mb, key=lambda pid: used_mb[pid])
