"""Policy families: definitions that policies begin with. Their ids are those of Databricks."""

import json
from dataclasses import dataclass
from typing import Any

_RUNTIME: dict[str, Any] = {"spark_version": {"type": "unlimited", "defaultValue": "auto:latest-lts-ml"}}
_ENDS: dict[str, Any] = {
    "autotermination_minutes": {"type": "range", "minValue": 10, "maxValue": 4320, "defaultValue": 60}
}
_NODE: dict[str, Any] = {"node_type_id": {"type": "unlimited", "isOptional": True}}


@dataclass(frozen=True, kw_only=True)
class Family:
    """A definition under a name."""

    id: str
    name: str
    description: str
    rules: dict[str, Any]

    @property
    def definition(self) -> str:
        """As JSON."""
        return json.dumps(self.rules)


FAMILIES = {
    each.id: each
    for each in (
        Family(
            id="personal-vm",
            name="Personal Compute",
            description="A driver alone, for one user.",
            rules={
                "cluster_type": {"type": "fixed", "value": "all-purpose"},
                "num_workers": {"type": "fixed", "value": 0, "hidden": True},
                "autoscale": {"type": "forbidden", "hidden": True},
                "data_security_mode": {"type": "fixed", "value": "SINGLE_USER", "hidden": True},
                **_RUNTIME, **_ENDS, **_NODE,
            },
        ),
        Family(
            id="shared-compute",
            name="Shared Compute",
            description="Workers within bounds, for several users.",
            rules={
                "cluster_type": {"type": "fixed", "value": "all-purpose"},
                "data_security_mode": {"type": "fixed", "value": "USER_ISOLATION", "hidden": True},
                "autoscale.min_workers": {"type": "range", "minValue": 0, "isOptional": True},
                "autoscale.max_workers": {"type": "range", "maxValue": 8, "isOptional": True},
                "num_workers": {"type": "range", "maxValue": 8, "isOptional": True},
                **_RUNTIME, **_ENDS, **_NODE,
            },
        ),
        Family(
            id="power-user",
            name="Power User Compute",
            description="As large as the machine, and it ends when nobody uses it.",
            rules={"cluster_type": {"type": "fixed", "value": "all-purpose"}, **_RUNTIME, **_ENDS, **_NODE},
        ),
        Family(
            id="job-cluster",
            name="Job Compute",
            description="Clusters of jobs alone.",
            rules={
                "cluster_type": {"type": "fixed", "value": "job"},
                "num_workers": {"type": "range", "maxValue": 16, "isOptional": True},
                **_RUNTIME, **_NODE,
            },
        ),
    )
}  # fmt: skip
