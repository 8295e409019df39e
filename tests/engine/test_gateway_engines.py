"""Engine processes: started on demand, stopped when idle, limited in memory; sessions outlive them."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyspark.errors.exceptions.base import PySparkException
from pyspark.sql import functions as F
from tests.engine.gateways import RunningGateway, running_gateway
from tests.servers import wait_until

GIB = 1 << 30


@pytest.fixture(scope="module")
def lean(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway whose engines stop after a second and may have 2 GiB, in a directory with a very long name."""
    root = tmp_path_factory.mktemp("lean") / ("a-directory-with-a-long-name-" * 4) / "data"
    root.parent.mkdir(parents=True)
    limits = {"MILLPOND_ENGINE__IDLE_TIMEOUT_S": "1", "MILLPOND_ENGINE__MEMORY_LIMIT_BYTES": str(2 * GIB)}
    with running_gateway(root, **limits) as gateway:
        yield gateway


def engines(gateway: RunningGateway) -> list[Path]:
    """Scratch directories of the engines that run."""
    return list((gateway.home.run / "gateway" / "engines").iterdir())


def test_no_engine_runs_before_somebody_asks(lean: RunningGateway) -> None:
    assert engines(lean) == []


def test_an_idle_engine_stops_and_the_session_goes_on(lean: RunningGateway) -> None:
    session = lean.spark()
    session.range(4).createOrReplaceTempView("four")
    session.udf.register("twice", F.udf(lambda x: 2 * x, "long", useArrow=False))
    assert len(engines(lean)) == 1
    wait_until(lambda: not engines(lean), what="the idle engine's end")
    assert session.sql("SELECT max(twice(id)) FROM four").first()[0] == 6
    session.stop()


def test_an_engine_that_works_for_nobody_is_stopped(tmp_path: Path) -> None:
    """The engine goes on with an interrupted query; its process does not, and the session has another."""
    slow = "SELECT count(*) FROM range(100000) a CROSS JOIN range(1000000) b WHERE (a.id * b.id) % 7 = 3"
    with running_gateway(tmp_path / "data") as gateway:
        session = gateway.spark()
        session.range(4).createOrReplaceTempView("four")
        engine_pid = _engine_pid(session)
        before = _processor_s(engine_pid)
        with ThreadPoolExecutor(1) as threads:
            cut_off = threads.submit(lambda: session.sql(slow).collect())
            wait_until(lambda: _processor_s(engine_pid) > before + 0.5, what="the query to run")
            session.interruptAll()
            with pytest.raises(PySparkException, match="OPERATION_CANCELED"):
                cut_off.result(60)
        wait_until(lambda: not _runs(engine_pid), what="the end of the engine")
        assert session.sql("SELECT count(*) FROM four").first()[0] == 4
        session.stop()


def test_a_function_that_eats_memory_ends_with_an_error(lean: RunningGateway) -> None:
    greedy, modest = lean.spark("greedy@example.com"), lean.spark()
    eat = F.udf(lambda _: len(bytearray(4 * GIB)), "long", useArrow=False)
    with pytest.raises(PySparkException, match=r"MemoryError|ENGINE_ENDED"):
        greedy.range(1).select(eat("id")).collect()
    assert greedy.range(3).count() == modest.range(3).count() == 3
    for session in (greedy, modest):
        session.stop()


def test_uploaded_modules_are_found_again_by_a_fresh_engine(lean: RunningGateway, tmp_path: Path) -> None:
    module = tmp_path / "uploaded_module.py"
    module.write_text("ANSWER = 42\n")
    session = lean.spark()
    session.addArtifact(str(module), pyfile=True)

    def answer(_: int) -> int:
        import uploaded_module

        return int(uploaded_module.ANSWER)

    def ask() -> Any:
        return session.range(1).select(F.udf(answer, "long", useArrow=False)("id")).first()[0]

    assert ask() == 42
    wait_until(lambda: not engines(lean), what="the idle engine's end")
    assert ask() == 42
    session.stop()


def test_a_restarted_gateway_keeps_tables_and_tells_old_sessions_nothing_wrong(lean: RunningGateway) -> None:
    session = lean.spark()
    session.range(5).write.saveAsTable("main.default.survivor")
    lean.restart()
    assert session.table("main.default.survivor").count() == 5
    session.stop()


def test_no_process_outlives_a_killed_gateway(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "data") as gateway:
        session = gateway.spark()
        engine_pid = _engine_pid(session)
        helpers = [int(child) for child in Path(f"/proc/{engine_pid}/task/{engine_pid}/children").read_text().split()]
        assert helpers
        os.kill(gateway.child.pid, signal.SIGKILL)
        for pid in (engine_pid, *helpers):
            wait_until(lambda pid=pid: not _runs(pid), what=f"the end of process {pid}")


def _engine_pid(session: Any) -> int:
    return int(session.range(1).select(F.udf(lambda _: str(os.getpid()), "string", useArrow=False)("id")).first()[0])


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_schema_comes_along_with_the_first_rows(gateway: RunningGateway) -> None:
    """Each response costs the client a call to release it."""
    session = gateway.spark()
    client = session.client
    request = client._execute_plan_request_with_metadata()
    request.plan.CopyFrom(session.range(3)._plan.to_proto(client))
    responses = list(client._stub.ExecutePlan(request, metadata=client._builder.metadata()))
    assert [(one.HasField("schema"), one.arrow_batch.row_count) for one in responses] == [(True, 3)]
    session.stop()
