"""A server that is killed leaves no process of a cluster, and the next one says what is true."""

import os
import signal
from datetime import timedelta
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.compute import CommandStatus, ContextStatus, Language, State

from tests.servers import running_server, server_of, up, wait_until

SOON = timedelta(seconds=90)


@pytest.mark.long
def test_after_a_kill_clusters_are_what_they_say(tmp_path: Path, database_flags: list[str]) -> None:
    place = tmp_path / "data"
    with running_server(place, *database_flags) as server:
        w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
        version, node = "1.0.x-scala2.12", "local.1c2g"
        runs = w.clusters.create(version, node_type_id=node, num_workers=0).result(SOON)
        context = w.command_execution.create(cluster_id=runs.cluster_id, language=Language.PYTHON).result(SOON)
        asked = {"cluster_id": runs.cluster_id, "context_id": context.id, "language": Language.PYTHON}
        pid = int(w.command_execution.execute(**asked, command="import os\nos.getpid()").result(SOON).results.data)
        sleeps = w.command_execution.execute(**asked, command="import time\ntime.sleep(600)").command_id
        gone = w.clusters.create(version, node_type_id=node, num_workers=0).result(SOON)
        w.clusters.delete(gone.cluster_id)
        starts = w.clusters.create(version, node_type_id=node, num_workers=0)
        os.kill(server.state["pid"], signal.SIGKILL)
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), what="the context's process has ended")
        up(place, *database_flags)
        w = WorkspaceClient(host=server_of(place).url, token=server.token, auth_type="pat")
        ended = w.clusters.wait_get_cluster_terminated(runs.cluster_id, SOON)
        assert ended.termination_reason.code.value == "CONTROL_PLANE_CONNECTION_FAILURE"
        assert w.clusters.wait_get_cluster_terminated(gone.cluster_id, SOON).state is State.TERMINATED
        assert w.clusters.wait_get_cluster_running(starts.cluster_id, SOON).state is State.RUNNING
        assert w.command_execution.context_status(runs.cluster_id, context.id).status is ContextStatus.ERROR
        assert w.command_execution.command_status(runs.cluster_id, context.id, sleeps).status is CommandStatus.ERROR
        assert w.clusters.start(runs.cluster_id).result(SOON).state is State.RUNNING
