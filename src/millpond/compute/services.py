"""The room's services together, for routes and pages."""

from dataclasses import dataclass

from millpond.compute.clusters import ClusterService
from millpond.compute.commands import CommandService
from millpond.compute.libraries import LibraryService
from millpond.compute.policies import PolicyService
from millpond.compute.pools import PoolService


@dataclass(frozen=True, kw_only=True)
class ComputeServices:
    """What one can do."""

    clusters: ClusterService
    policies: PolicyService
    pools: PoolService
    commands: CommandService
    libraries: LibraryService
