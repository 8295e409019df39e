"""Updates of pipelines survive kill -9 of the server, and run on workers as anywhere."""

import io
import os
import signal
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.pipelines import FileLibrary, PipelineLibrary, PipelineState, UpdateInfoState

from tests.clients.test_sdk_pipelines import NUMBERS, SLOW, Shop
from tests.robustness.test_tree import _child, _ready
from tests.servers import Server, running_server, wait_until
from tests.workers import new_worker_token, running_worker

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="reads the process tree from /proc")


def shop_of(server: Server) -> Shop:
    """Its administrator, and a schema."""
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    w.schemas.create("pipes", "main")
    w.volumes.create("main", "pipes", "v", VolumeType.MANAGED)
    return Shop(server=server, w=w, schema="pipes")


@pytest.mark.long
def test_an_update_is_tried_again_or_has_failed_when_its_server_was_killed(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        shop = shop_of(server)
        w = shop.w
        mark = "/Volumes/main/pipes/v/mark"
        w.files.create_directory(mark)
        pause = f"0 if [*WorkspaceClient().files.list_directory_contents({mark!r})] else 600"
        text = "from databricks.sdk import WorkspaceClient\n" + SLOW.replace("SECONDS", pause)
        again = shop.pipeline(text, configuration={"pipelines.numUpdateRetryAttempts": "1"})
        never = shop.pipeline(SLOW.replace("SECONDS", "600"))
        always = shop.pipeline(NUMBERS, continuous=True)
        updates = {each: str(w.pipelines.start_update(each).update_id) for each in (again, never)}
        for each in (again, never):
            shop.sleeping(each)
        before = len(w.pipelines.list_updates(always).updates)
        w.files.upload(f"{mark}/there", io.BytesIO(b"x"))
        victim = _child(server.state["pid"], "millpond.server_process")
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: _ready(server), timeout_s=60, what="readiness")
        assert shop.done(again, updates[again]) is UpdateInfoState.COMPLETED
        assert shop.done(never, updates[never]) is UpdateInfoState.FAILED
        assert "server ended" in w.pipelines.get(never).cause
        wait_until(lambda: len(w.pipelines.list_updates(always).updates) > before, timeout_s=60, what="going on")
        for each in (again, never):
            events = list(w.pipelines.list_pipeline_events(each, order_by=["timestamp asc"]))
            numbers = [event.sequence.control_plane_seq_no for event in events]
            assert numbers == list(range(1, len(events) + 1))
        assert w.pipelines.stop_and_wait(always).state is PipelineState.IDLE


@pytest.mark.long
def test_an_update_runs_on_a_worker_and_tells_of_itself_from_there(tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "data", env={"MILLPOND_JOBS__TASKS_AT_ONCE": "0"}) as server,
        running_worker(server, tmp_path / "w", token=new_worker_token(server)),
    ):
        shop = shop_of(server)
        shop.w.files.upload("/Volumes/main/pipes/v/beside.py", io.BytesIO(b"MANY = 3"))
        text = NUMBERS.replace('int(spark.conf.get("rows", "3"))', "beside.MANY").replace(
            "from", "import beside\nfrom", 1
        )
        shop.w.files.upload("/Volumes/main/pipes/v/all.py", io.BytesIO(text.encode()))
        library = PipelineLibrary(file=FileLibrary(path="/Volumes/main/pipes/v/all.py"))
        made = shop.w.pipelines.create(name="far", catalog="main", schema="pipes", libraries=[library]).pipeline_id
        assert shop.done(str(made)) is UpdateInfoState.COMPLETED
        assert shop.rows(str(made), "doubled") == [0, 2, 4]
        told = {each.event_type for each in shop.w.pipelines.list_pipeline_events(str(made))}
        assert {"flow_progress", "flow_definition", "dataset_definition"} <= told
