"""Which GPUs the processes of a served entity get, on a machine whose nvidia-smi is a stand-in."""

import os
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue
from databricks.sdk.service.serving import EndpointCoreConfigInput, ServedEntityInput, ServingModelWorkloadType

from millpond.kernel.gpus import all_gpus
from millpond.serving.domain import WorkloadType
from millpond.serving.gpus import GpuShares
from tests.serving.harness import ServingServer

ON_SQLITE = pytest.mark.parametrize("serving", ["sqlite"], indirect=True)
ONE, SEVERAL = WorkloadType.GPU_LARGE, WorkloadType.MULTIGPU_MEDIUM
LISTS_TWO = "echo GPU-a; echo GPU-b"
LISTS_ONE_ONCE = 'test -e "$0.asked" || echo GPU-a; : > "$0.asked"'

NAME_THREAD = "write:/proc/thread-self/comm"
"""As CUDA does, which does not start where it cannot."""


@pytest.fixture
def sdk(serving: ServingServer) -> WorkspaceClient:
    return WorkspaceClient(host=serving.url, token=serving.token, auth_type="pat")


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lists: str) -> None:
    """A tool that answers as NVIDIA's does, and tells no processes."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\ncase "$1" in --query-gpu=uuid) {lists};; esac\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def served(kind: ServingModelWorkloadType | None, size: str = "Small", **variables: str) -> EndpointCoreConfigInput:
    entity = ServedEntityInput(
        name="model", entity_name="obedient", entity_version="1", workload_type=kind, workload_size=size,
        environment_vars=variables,
    )  # fmt: skip
    return EndpointCoreConfigInput(name="", served_entities=[entity])


def visible(sdk: WorkspaceClient, name: str) -> str:
    """What CUDA finds in a process of an endpoint."""
    answer: Any = sdk.serving_endpoints.query(name, dataframe_records=[{"do": "environ"}]).predictions
    return str(answer["CUDA_VISIBLE_DEVICES"])


@ON_SQLITE
def test_each_replica_gets_the_gpu_that_the_fewest_have(
    serving: ServingServer, sdk: WorkspaceClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, LISTS_TWO)
    sdk.serving_endpoints.create("one-each", config=served(ServingModelWorkloadType.GPU_SMALL, "Medium"))
    sdk.serving_endpoints.create(
        "all", config=served(ServingModelWorkloadType.MULTIGPU_MEDIUM, CUDA_VISIBLE_DEVICES="7")
    )
    for name, kind in (("one-each", "GPU_SMALL"), ("all", "MULTIGPU_MEDIUM")):
        assert serving.ready(name)["config"]["served_entities"][0]["workload_type"] == kind
    assert serving.ask("one-each", NAME_THREAD).json == {"predictions": ["written"]}
    first = visible(sdk, "one-each")
    assert serving.ask("one-each", "exit").status == 500
    assert {first, visible(sdk, "one-each")} == {"GPU-a", "GPU-b"}
    assert set(visible(sdk, "all").split(",")) == {"GPU-a", "GPU-b"}


@ON_SQLITE
def test_others_get_none(
    serving: ServingServer, sdk: WorkspaceClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, LISTS_TWO)
    sdk.serving_endpoints.create("none", config=served(None, CUDA_VISIBLE_DEVICES="GPU-a"))
    assert serving.ready("none")["config"]["served_entities"][0]["workload_type"] == "CPU"
    assert visible(sdk, "none") == ""
    assert "PermissionError" in serving.ask("none", NAME_THREAD).json["message"]


@ON_SQLITE
def test_without_a_gpu_a_type_that_needs_one_is_refused(
    sdk: WorkspaceClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = "Served entity 'model' has workload_type GPU_MEDIUM, and nvidia-smi lists no GPU here. Use CPU, or run"
    with pytest.raises(InvalidParameterValue, match=said):
        sdk.serving_endpoints.create("refused", config=served(ServingModelWorkloadType.GPU_MEDIUM))
    with pytest.raises(InvalidParameterValue, match=said):
        sdk.serving_endpoints.update_config(
            "none", served_entities=served(ServingModelWorkloadType.GPU_MEDIUM).served_entities
        )


@ON_SQLITE
def test_a_gpu_that_has_gone_is_told(
    serving: ServingServer, sdk: WorkspaceClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, LISTS_ONE_ONCE)
    sdk.serving_endpoints.create("gone", config=served(ServingModelWorkloadType.GPU_SMALL))
    found = serving.settled("gone")
    assert found["state"]["config_update"] == "UPDATE_FAILED"
    state = found["pending_config"]["served_entities"][0]["state"]
    assert "nvidia-smi lists no GPU here" in state["deployment_state_message"]


@ON_SQLITE
def test_a_type_that_is_not_known_is_refused(sdk: WorkspaceClient) -> None:
    said = "workload_type 'GPU_XLARGE', which is not known here; there are CPU, GPU_SMALL, .*, MULTIGPU_MEDIUM"
    with pytest.raises(InvalidParameterValue, match=said):
        sdk.serving_endpoints.create("unknown", config=served(ServingModelWorkloadType.GPU_XLARGE))


def test_gpus_are_shared_out_and_given_back() -> None:
    shares, there = GpuShares(), tuple("abcdef")
    assert [shares.take(ONE, there[:2]) for _ in range(3)] == [("a",), ("b",), ("a",)]
    shares.give_back(("a",))
    shares.give_back(("a",))
    assert shares.take(ONE, there[:2]) == ("a",)
    assert shares.take(SEVERAL, there) == ("c", "d", "e", "f")
    assert shares.take(SEVERAL, there[:2]) == ("a", "b")
    assert shares.take(WorkloadType.CPU, there) == ()


def test_a_tool_that_fails_lists_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "echo 'No devices were found'; exit 6")
    assert all_gpus() == ()
