"""What a cluster may be asked to be: checked attributes, and the refusal of all others by name.

Source: databricks-sdk 0.156, `databricks/sdk/service/compute.py`.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from millpond.compute.machine import Machine, Shape
from millpond.compute.versions import VERSIONS, resolved
from millpond.engine.servers_settings import is_servers
from millpond.kernel.errors import InvalidArgument, NotImplementedHere, PermissionDenied
from millpond.kernel.shapes import validated
from millpond.secrets.references import has_references

MOST_WORKERS = 1000
_LONGEST_MINUTES = 10000
_Text = Annotated[str, Field(max_length=10_000, pattern=r"^[^\x00]*$")]
_Name = Annotated[str, Field(max_length=255, pattern=r"^[^\x00-\x1f]*$")]
_Variable = Annotated[str, Field(max_length=255, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
_WHY_NOT = {
    "init_scripts": "install libraries instead",
    "docker_image": "choose a spark_version",
    "cluster_log_conf": "logs are kept by this server",
    "ssh_public_keys": "there is no machine of its own to sign in to",
    "aws_attributes": "clusters are slices of this machine",
    "azure_attributes": "clusters are slices of this machine",
    "gcp_attributes": "clusters are slices of this machine",
    "driver_instance_pool_id": "driver and workers come from one pool",
    "clone_from": "libraries are installed with the Libraries API",
}
_OURS = ("HOME", "TMPDIR", "PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "LD_PRELOAD", "LD_LIBRARY_PATH")
_OUR_PREFIXES = ("MILLPOND_", "DATABRICKS_", "SPARK_REMOTE", "MLFLOW_TRACKING_")
_HARMLESS_CONF = ("spark.master", "spark.databricks.", "spark.app.name")
"""Of what a single node is told everywhere, or what is for Databricks' own engine: kept, without effect."""


class AutoScaleInput(BaseModel):
    """Bounds for the number of workers."""

    model_config = ConfigDict(extra="forbid")

    min_workers: int = Field(ge=0, le=MOST_WORKERS)
    max_workers: int = Field(ge=0, le=MOST_WORKERS)


class Attributes(BaseModel):
    """What a cluster is."""

    model_config = ConfigDict(extra="allow")

    cluster_name: _Name | None = None
    spark_version: _Name | None = None
    node_type_id: _Name | None = None
    driver_node_type_id: _Name | None = None
    num_workers: int | None = Field(default=None, ge=0, le=MOST_WORKERS)
    autoscale: AutoScaleInput | None = None
    autotermination_minutes: int | None = Field(default=None, ge=0, le=_LONGEST_MINUTES)
    spark_conf: dict[_Name, _Text] | None = Field(default=None, max_length=500)
    spark_env_vars: dict[_Variable, _Text] | None = Field(default=None, max_length=500)
    custom_tags: dict[_Name, _Name] | None = Field(default=None, max_length=45)
    policy_id: _Name | None = None
    instance_pool_id: _Name | None = None
    data_security_mode: str | None = None
    single_user_name: _Name | None = None
    is_single_node: bool | None = None
    kind: Literal["CLASSIC_PREVIEW"] | None = None
    use_ml_runtime: bool | None = None
    runtime_engine: Literal["STANDARD", "NULL"] | None = None
    enable_elastic_disk: bool | None = None
    enable_local_disk_encryption: Literal[False] | None = None


_MODES = (
    "NONE", "SINGLE_USER", "USER_ISOLATION", "DATA_SECURITY_MODE_AUTO", "DATA_SECURITY_MODE_STANDARD",
    "DATA_SECURITY_MODE_DEDICATED", "LEGACY_SINGLE_USER", "LEGACY_SINGLE_USER_STANDARD",
)  # fmt: skip
_SINGLE_USER_MODES = (
    "SINGLE_USER",
    "DATA_SECURITY_MODE_DEDICATED",
    "LEGACY_SINGLE_USER",
    "LEGACY_SINGLE_USER_STANDARD",
)


def read(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that are asked for, each of the right form. Raises InvalidArgument, NotImplementedHere."""
    found = validated(Attributes, asked)
    for name, value in (found.model_extra or {}).items():
        if value not in (None, [], {}, False, ""):
            why = _WHY_NOT.get(name)
            raise NotImplementedHere(f"Clusters here have no {name[:80]}" + (f": {why}." if why else "."))
    return found.model_dump(mode="json", exclude_none=True, exclude=set(found.model_extra or {}))


def completed(
    attributes: Mapping[str, Any], machine: Machine, pool_node_type: Callable[[str], str], *, creator: str
) -> dict[str, Any]:
    """The attributes of a cluster that this machine can have. Raises InvalidArgument, and what the pool raises."""
    spec = dict(attributes)
    if not spec.get("spark_version"):
        raise InvalidArgument(f"A cluster needs a spark_version: one of {', '.join(VERSIONS)}.")
    spec["spark_version"] = resolved(spec["spark_version"], ml=bool(spec.get("use_ml_runtime")))
    if "instance_pool_id" in spec:
        given = {spec.get(name) for name in ("node_type_id", "driver_node_type_id")} - {None}
        spec["node_type_id"] = pool_node_type(spec["instance_pool_id"])
        if given - {spec["node_type_id"]}:
            raise InvalidArgument(f"The instance pool has nodes of type {spec['node_type_id']}; leave the types out.")
    if not spec.get("node_type_id"):
        there_are = ", ".join(each.id for each in machine.node_types)
        raise InvalidArgument(f"A cluster needs a node_type_id or an instance_pool_id; there are {there_are}.")
    spec.setdefault("driver_node_type_id", spec["node_type_id"])
    _check_workers(spec)
    _check_variables(spec)
    _check_mode(spec, creator)
    shape = shape_of(spec, machine)
    machine.check_ever(shape.size(spec["autoscale"]["min_workers"] if "autoscale" in spec else spec["num_workers"]))
    return spec


def shape_of(spec: Mapping[str, Any], machine: Machine) -> Shape:
    """The nodes of a cluster. Raises InvalidArgument where this machine has none such (any more)."""
    return Shape(driver=machine.node_type(spec["driver_node_type_id"]), worker=machine.node_type(spec["node_type_id"]))


def check_single_user(spec: Mapping[str, Any], cluster_id: str, name: str) -> None:
    """Raises PermissionDenied where the cluster is for somebody else alone."""
    alone = spec.get("single_user_name")
    if spec.get("data_security_mode") in _SINGLE_USER_MODES and alone != name:
        raise PermissionDenied(f"Cluster '{cluster_id}' is for {alone} alone (data_security_mode SINGLE_USER).")


def _check_workers(spec: dict[str, Any]) -> None:
    if spec.get("is_single_node"):
        if spec.get("num_workers") or "autoscale" in spec:
            raise InvalidArgument("A cluster with is_single_node has no workers.")
        spec["num_workers"] = 0
    if ("num_workers" in spec) is ("autoscale" in spec):
        raise InvalidArgument("A cluster has either num_workers (0 for a driver alone) or autoscale.")
    scale = spec.get("autoscale")
    if scale and scale["min_workers"] > scale["max_workers"]:
        raise InvalidArgument("autoscale.min_workers is more than autoscale.max_workers.")


def _check_variables(spec: Mapping[str, Any]) -> None:
    for name in spec.get("spark_env_vars", {}):
        if name in _OURS or name.startswith(_OUR_PREFIXES):
            raise InvalidArgument(f"spark_env_vars: {name} is set by the server.")
    for name, text in spec.get("spark_conf", {}).items():
        if has_references(text):
            raise NotImplementedHere(f"spark_conf: {name[:80]} refers to a secret; only spark_env_vars can.")
        if name == "spark.remote":
            raise NotImplementedHere(
                "spark.remote: clusters have no Spark of their own elsewhere; engine.remote is for all."
            )
        if not name.startswith(("spark.sql.", *_HARMLESS_CONF)):
            raise NotImplementedHere(f"spark_conf: {name[:80]} does nothing here; settings are spark.sql.*.")
        if name.startswith("spark.sql.") and is_servers(name):
            raise InvalidArgument(f"spark_conf: {name[:80]} is the server's, not the cluster's; leave it out.")


def of_sessions(spec: Mapping[str, Any]) -> dict[str, str]:
    """The settings with which Spark sessions on a cluster begin."""
    found = spec.get("spark_conf", {}).items()
    return {name: text for name, text in found if name.startswith("spark.sql.") and not is_servers(name)}


def _check_mode(spec: dict[str, Any], creator: str) -> None:
    mode = spec.get("data_security_mode")
    if mode is not None and mode not in _MODES:
        raise InvalidArgument(f"data_security_mode '{mode[:40]}' is none of {', '.join(_MODES)}.")
    if mode in _SINGLE_USER_MODES:
        spec.setdefault("single_user_name", creator)
    elif "single_user_name" in spec:
        raise InvalidArgument("single_user_name goes with data_security_mode SINGLE_USER.")
