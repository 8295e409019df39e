"""What a user must not be able to do through Spark Connect."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from pyspark.errors import AnalysisException
from pyspark.errors.exceptions.base import PySparkException
from pyspark.errors.exceptions.connect import SparkConnectGrpcException
from pyspark.sql import functions as F
from pyspark.sql.connect.proto import base_pb2, base_pb2_grpc, relations_pb2
from tests.engine.gateways import RunningGateway

ALICE, BOB = "alice@example.com", "bob@example.com"


@pytest.fixture(scope="module")
def alice(gateway: RunningGateway) -> Iterator[Any]:
    session = gateway.spark(ALICE)
    session.sql("CREATE CATALOG alices")
    session.sql("CREATE SCHEMA alices.s")
    session.sql("CREATE VOLUME alices.s.v")
    session.createDataFrame([(1, "secret-row")], "id int, text string").write.saveAsTable("alices.s.t")
    session.range(3).write.csv("/Volumes/alices/s/v/numbers")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def bob(gateway: RunningGateway) -> Iterator[Any]:
    session = gateway.spark(BOB)
    yield session
    session.stop()


@pytest.fixture(scope="module")
def location(gateway: RunningGateway, alice: Any) -> str:
    """Where Alice's table lies."""
    return str(alice.sql("DESCRIBE DETAIL alices.s.t").collect()[0]["location"])


def stub(gateway: RunningGateway) -> Any:
    """A client that may send what PySpark would not."""
    return base_pb2_grpc.SparkConnectServiceStub(grpc.insecure_channel(f"127.0.0.1:{gateway.port}"))


def metadata(gateway: RunningGateway, user: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {gateway.token(user)}"),)


def read_plan() -> Any:
    plan = base_pb2.Plan()
    plan.root.range.end = 3
    plan.root.range.step = 1
    return plan


def execute(gateway: RunningGateway, user: str, plan: Any, session_id: str | None = None) -> list[Any]:
    request = base_pb2.ExecutePlanRequest(session_id=session_id or str(uuid.uuid4()), plan=plan)
    return list(stub(gateway).ExecutePlan(request, metadata=metadata(gateway, user), timeout=60))


def nested_limits(levels: int) -> bytes:
    """The bytes of a plan of so many nested relations, made without building it."""
    relation, limit = relations_pb2.Relation.DESCRIPTOR, relations_pb2.Limit.DESCRIPTOR
    heads: list[bytes] = []
    size = 0
    for _ in range(levels // 2):
        for number in (limit.fields_by_name["input"].number, relation.fields_by_name["limit"].number):
            heads.append(varint(number << 3 | 2) + varint(size))
            size += len(heads[-1])
    return b"".join(reversed(heads))


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def send_raw(gateway: RunningGateway, relation: bytes) -> None:
    """ExecutePlan with a relation given as bytes."""
    plan = b"\x0a" + varint(len(relation)) + relation
    request = base_pb2.ExecutePlanRequest(session_id=str(uuid.uuid4())).SerializeToString()
    number = base_pb2.ExecutePlanRequest.DESCRIPTOR.fields_by_name["plan"].number
    channel = grpc.insecure_channel(f"127.0.0.1:{gateway.port}")
    call = channel.unary_stream("/spark.connect.SparkConnectService/ExecutePlan")
    sent = request + varint(number << 3 | 2) + varint(len(plan)) + plan
    list(call(sent, metadata=metadata(gateway, ALICE), timeout=60))


class TestTheDoor:
    @pytest.mark.parametrize(
        "header", ["", "Bearer ", "Bearer dapi" + "0" * 64, "Basic YTpi", "Bearer eyJ.a.b", "dapi"]
    )
    def test_a_wrong_credential_is_refused_at_once(self, gateway: RunningGateway, header: str) -> None:
        sent = (("authorization", header),) if header else ()
        with pytest.raises(grpc.RpcError) as caught:
            list(
                stub(gateway).ExecutePlan(
                    base_pb2.ExecutePlanRequest(session_id=str(uuid.uuid4()), plan=read_plan()), metadata=sent
                )
            )
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED

    def test_the_user_named_in_the_request_does_not_count(self, gateway: RunningGateway, alice: Any) -> None:
        request = base_pb2.ExecutePlanRequest(session_id=str(uuid.uuid4()))
        request.user_context.user_id = gateway.principal(ALICE).id
        request.plan.root.read.named_table.unparsed_identifier = "alices.s.t"
        with pytest.raises(grpc.RpcError) as caught:
            list(stub(gateway).ExecutePlan(request, metadata=metadata(gateway, BOB)))
        assert "TABLE_OR_VIEW_NOT_FOUND" in caught.value.details()

    def test_a_session_belongs_to_who_began_it(self, gateway: RunningGateway, alice: Any) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            execute(gateway, BOB, read_plan(), alice.session_id)
        assert "belongs to somebody else" in caught.value.details()

    def test_an_operation_of_another_session_cannot_be_read(self, gateway: RunningGateway) -> None:
        request = base_pb2.ExecutePlanRequest(
            session_id=str(uuid.uuid4()), operation_id=str(uuid.uuid4()), plan=read_plan()
        )
        request.request_options.add().reattach_options.reattachable = True
        list(stub(gateway).ExecutePlan(request, metadata=metadata(gateway, ALICE)))
        for user, session in ((BOB, request.session_id), (BOB, str(uuid.uuid4())), (ALICE, str(uuid.uuid4()))):
            again = base_pb2.ReattachExecuteRequest(session_id=session, operation_id=request.operation_id)
            with pytest.raises(grpc.RpcError):
                list(stub(gateway).ReattachExecute(again, metadata=metadata(gateway, user)))
        again = base_pb2.ReattachExecuteRequest(session_id=request.session_id, operation_id=request.operation_id)
        assert list(stub(gateway).ReattachExecute(again, metadata=metadata(gateway, ALICE)))


class TestNames:
    @pytest.mark.parametrize(
        "query",
        [
            "SELECT * FROM alices.s.t",
            "SELECT * FROM `alices`.`s`.`t`",
            "SELECT * FROM ALICES.S.T",
            "SELECT (SELECT max(text) FROM alices.s.t)",
            "WITH x AS (SELECT * FROM alices.s.t) SELECT * FROM x",
            "WITH t AS (SELECT 1) SELECT * FROM t, alices.s.t",
            "SELECT 1 /* from */ FROM /* x */ alices . s . t",
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM alices.s.t)",
            "VALUES ((SELECT max(text) FROM alices.s.t))",
            "SELECT * FROM alices.s.t VERSION AS OF 0",
            "DESCRIBE alices.s.t",
            "INSERT INTO alices.s.t VALUES (2, 'x')",
            "UPDATE alices.s.t SET text = ''",
            "DELETE FROM alices.s.t",
            "MERGE INTO alices.s.t USING (SELECT 1 id) s ON t.id = s.id WHEN MATCHED THEN DELETE",
            "DROP TABLE alices.s.t",
            "CREATE VIEW main.default.steal AS SELECT * FROM alices.s.t",
            "CREATE TEMP VIEW steal AS SELECT * FROM alices.s.t",
            "EXPLAIN SELECT * FROM alices.s.t",
            "OPTIMIZE alices.s.t",
            "SELECT * FROM csv.`/Volumes/alices/s/v/numbers`",
        ],
    )
    def test_another_users_table_is_not_there(self, bob: Any, alice: Any, query: str) -> None:
        with pytest.raises(AnalysisException):
            bob.sql(query).collect()

    def test_nor_through_dataframes_and_expressions(self, bob: Any, alice: Any) -> None:
        for make in (
            lambda: bob.table("alices.s.t"),
            lambda: bob.range(1).filter("id in (select id from alices.s.t)"),
            lambda: bob.range(1).selectExpr("(select max(text) from alices.s.t)"),
            lambda: bob.range(1).select(F.expr("(select max(text) from alices.s.t)")),
            lambda: bob.read.csv("/Volumes/alices/s/v/numbers"),
            lambda: bob.sql("select * from {x}", x=bob.table("alices.s.t")),
        ):
            with pytest.raises(AnalysisException):
                make().collect()

    def test_temporary_views_are_the_sessions_own(self, gateway: RunningGateway, alice: Any, bob: Any) -> None:
        alice.range(7).createOrReplaceTempView("mine")
        alice.range(7).createOrReplaceGlobalTempView("mine_everywhere")
        other = gateway.spark(ALICE)
        assert other.table("global_temp.mine_everywhere").count() == 7
        for session, name in ((bob, "mine"), (bob, "global_temp.mine_everywhere"), (other, "mine")):
            with pytest.raises(AnalysisException, match="TABLE_OR_VIEW_NOT_FOUND"):
                session.table(name).collect()
        other.stop()


class TestPaths:
    def test_a_table_is_not_reached_by_its_path(self, bob: Any, alice: Any, location: str) -> None:
        path = location.removeprefix("file://")
        for make in (
            lambda: bob.read.format("delta").load(location),
            lambda: bob.read.format("delta").load(path),
            lambda: bob.read.parquet(path + "/*.parquet"),
            lambda: bob.read.option("path", path).format("delta").load(),
            lambda: bob.sql(f"SELECT * FROM delta.`{path}`"),
            lambda: bob.sql(f"SELECT * FROM parquet.`{path}`"),
            lambda: bob.range(1).selectExpr(f"(select max(text) from delta.`{path}`)"),
            lambda: bob.sql(f"DELETE FROM delta.`{path}`"),
            lambda: bob.sql(f"SELECT * FROM read_files('{path}')"),
            lambda: bob.sql(f"SELECT * FROM identifier('delta.`{path}`')"),
        ):
            with pytest.raises(PySparkException):
                make().collect()

    def test_nothing_of_the_server_is_reached_by_its_path_even_for_an_administrator(
        self, gateway: RunningGateway
    ) -> None:
        session = gateway.spark()
        for path in (
            gateway.home.root / "secret.key",
            gateway.home.root / "millpond.db",
            gateway.home.root / "logs" / ".." / "secret.key",
        ):
            for given in (str(path), f"file://{path}", f"file:{path}"):
                with pytest.raises(PySparkException):
                    session.read.text(given).collect()
        session.stop()

    def test_writes_by_path_are_refused(self, bob: Any, alice: Any, location: str, tmp_path: Path) -> None:
        for target in (location, str(tmp_path / "x"), "/Volumes/alices/s/v/mine"):
            for provider in ("delta", "parquet"):
                with pytest.raises(PySparkException):
                    bob.range(1).write.format(provider).mode("append").save(target)
        with pytest.raises(PySparkException):
            bob.range(1).write.option("path", location).saveAsTable("main.default.x")
        assert not (tmp_path / "x").exists()

    def test_a_condition_of_a_write_reads_nothing_else(self, alice: Any, location: str) -> None:
        alice.sql("CREATE OR REPLACE TABLE alices.s.w AS SELECT 1 AS id, 2 AS k")
        path = location.removeprefix("file://")
        for inner in (f"SELECT max(id) FROM delta.`{path}`", "SELECT max(id) FROM alices.s.t"):
            with pytest.raises(PySparkException, match="UNSUPPORTED_FEATURE"):
                alice.sql(f"INSERT INTO alices.s.w REPLACE WHERE k = ({inner}) SELECT 1, 2")
            with pytest.raises(PySparkException, match="UNSUPPORTED_FEATURE"):
                alice.table("alices.s.w").write.mode("overwrite").option("replaceWhere", f"k = ({inner})").saveAsTable(
                    "alices.s.w"
                )

    @pytest.mark.parametrize(
        "source", ["jdbc", "python", "kafka", "iceberg", "org.apache.spark.sql.jdbc", "socket", "vortex"]
    )
    def test_sources_that_reach_out_are_refused(self, bob: Any, source: str) -> None:
        with pytest.raises(AnalysisException, match="DATA_SOURCE_NOT_FOUND"):
            bob.read.format(source).option("url", "x").load("/tmp").collect()

    def test_settings_that_reach_out_are_refused(self, bob: Any) -> None:
        for key in (
            "spark.sql.catalog.x",
            "spark.hadoop.fs.s3a.access.key",
            "fs.s3a.endpoint",
            "spark.sql.warehouse.dir",
            "spark.jars",
        ):
            with pytest.raises(AnalysisException, match="CANNOT_MODIFY_CONFIG"):
                bob.conf.set(key, "x")
            with pytest.raises(AnalysisException, match="CANNOT_MODIFY_CONFIG"):
                bob.sql(f"SET {key}=x").collect()


class TestPlans:
    def test_what_the_gateway_does_not_know_is_refused(self, gateway: RunningGateway) -> None:
        extension = read_plan()
        extension.root.extension.type_url = "type.googleapis.com/evil"
        nothing = base_pb2.Plan(root=relations_pb2.Relation())
        unknown = base_pb2.Plan.FromString(read_plan().SerializeToString() + b"\xfa\x7f\x03abc")
        nested = base_pb2.Plan()
        nested.root.filter.input.CopyFrom(read_plan().root)
        nested.root.filter.condition.extension.type_url = "type.googleapis.com/evil"
        command = base_pb2.Plan()
        command.command.extension.type_url = "type.googleapis.com/evil"
        java = read_plan()
        java = base_pb2.Plan()
        java.root.project.input.CopyFrom(read_plan().root)
        java.root.project.expressions.add().common_inline_user_defined_function.java_udf.class_name = "x"
        checkpoint = base_pb2.Plan()
        checkpoint.root.cached_remote_relation.relation_id = str(uuid.uuid4())
        for plan in (extension, nothing, unknown, nested, command, java, checkpoint, base_pb2.Plan()):
            with pytest.raises(grpc.RpcError) as caught:
                execute(gateway, ALICE, plan)
            assert caught.value.code() is grpc.StatusCode.INTERNAL

    def test_a_command_inside_a_query_is_refused(self, gateway: RunningGateway, alice: Any) -> None:
        for text in (
            "DROP TABLE alices.s.t",
            "SHOW TABLES",
            "INSERT INTO alices.s.t VALUES (3, '')",
            "SET x=1",
            "SELECT 1; DROP TABLE x",
        ):
            plan = base_pb2.Plan()
            plan.root.sql.query = text
            with pytest.raises(grpc.RpcError):
                execute(gateway, ALICE, plan)
        assert alice.table("alices.s.t").count() == 1

    def test_functions_that_call_java_are_refused(self, alice: Any) -> None:
        for make in (
            lambda: alice.sql("SELECT reflect('java.lang.System', 'getenv')"),
            lambda: alice.range(1).selectExpr("java_method('java.lang.System', 'getenv')"),
            lambda: alice.range(1).select(F.call_function("reflect", F.lit("java.lang.System"), F.lit("getenv"))),
        ):
            with pytest.raises(PySparkException):
                make().collect()

    def test_a_deep_plan_is_an_error_and_no_crash(self, gateway: RunningGateway) -> None:
        for levels in (10_000, 20_000, 60_000):
            with pytest.raises(grpc.RpcError) as caught:
                send_raw(gateway, nested_limits(levels))
            assert "too deep" in caught.value.details() or "deeper than" in caught.value.details()
        text = "SELECT " + "(" * 3000 + "1" + ")" * 3000
        deep = base_pb2.Plan()
        deep.root.sql.query = text
        with pytest.raises(grpc.RpcError):
            execute(gateway, ALICE, deep)
        assert execute(gateway, ALICE, read_plan())


def tried(session: Any, code: str, **values: Any) -> str:
    """What a user's function got when it ran `code`, which sets `result`."""

    def run(_: str) -> str:
        scope: dict[str, Any] = dict(values)
        try:
            exec(code, scope)
            return f"got {scope.get('result')!r}"
        except BaseException as error:
            return f"refused {type(error).__name__} {error}"

    return str(session.range(1).select(F.udf(run, "string", useArrow=False)("id")).collect()[0][0])


class TestFunctions:
    """A user's Python runs in the user's engine, and that can reach next to nothing."""

    def test_files_of_the_server_and_of_others_are_out_of_reach(
        self, gateway: RunningGateway, bob: Any, location: str
    ) -> None:
        bob.range(1).collect()
        for path in (
            gateway.home.root / "secret.key",
            gateway.home.root / "millpond.db",
            gateway.home.root / "logs" / "gateway.log",
            Path(location.removeprefix("file://")) / "_delta_log" / "00000000000000000000.json",
            Path.home() / ".bashrc",
            Path("/etc/shadow"),
        ):
            assert "PermissionError" in tried(bob, "result = open(path).read()", path=str(path)), path
        assert "PermissionError" in tried(bob, "import os; result = os.listdir(path)", path=str(gateway.home.root))
        assert "PermissionError" in tried(
            bob, "open(path, 'w').write('x')", path=str(gateway.home.root / "tables" / "x")
        )

    def test_a_granted_tables_files_are_out_of_reach_again_after_the_revocation(
        self, gateway: RunningGateway, alice: Any, bob: Any, location: str
    ) -> None:
        """Though the engine that was let in has not been idle: the next statement has another."""
        log = Path(location.removeprefix("file://")) / "_delta_log" / "00000000000000000000.json"
        rights = ("USE CATALOG ON CATALOG alices", "USE SCHEMA, SELECT ON SCHEMA alices.s")
        for text in rights:
            alice.sql(f"GRANT {text} TO `{BOB}`").collect()
        assert bob.table("alices.s.t").count() == 1
        assert tried(bob, "result = len(open(path).read())", path=str(log)).startswith("got")
        for text in rights:
            alice.sql(f"REVOKE {text} FROM `{BOB}`").collect()
        assert "PermissionError" in tried(bob, "result = len(open(path).read())", path=str(log))

    def test_what_one_made_and_gave_away_is_out_of_reach(self, gateway: RunningGateway, alice: Any, bob: Any) -> None:
        """Though it lies where all that one makes lies; one's other tables stay in reach."""
        alice.sql(f"GRANT USE CATALOG ON CATALOG alices TO `{BOB}`").collect()
        alice.sql(f"GRANT USE SCHEMA, CREATE TABLE ON SCHEMA alices.s TO `{BOB}`").collect()
        bob.sql("CREATE TABLE alices.s.kept AS SELECT 1 AS a").collect()
        bob.sql("CREATE TABLE alices.s.given AS SELECT 1 AS a").collect()
        place = bob.sql("DESCRIBE DETAIL alices.s.given").first()["location"].removeprefix("file://")
        code = "import os; result = len(os.listdir(path))"
        assert tried(bob, code, path=place).startswith("got")
        bob.sql(f"ALTER TABLE alices.s.given OWNER TO `{ALICE}`").collect()
        assert "PermissionError" in tried(bob, code, path=place)
        bob.sql("INSERT INTO alices.s.kept VALUES (2)").collect()
        assert bob.table("alices.s.kept").count() == 2
        alice.sql("DROP TABLE alices.s.given").collect()
        alice.sql("DROP TABLE alices.s.kept").collect()
        alice.sql(f"REVOKE USE CATALOG ON CATALOG alices FROM `{BOB}`").collect()
        alice.sql(f"REVOKE USE SCHEMA, CREATE TABLE ON SCHEMA alices.s FROM `{BOB}`").collect()

    def test_the_servers_environment_and_memory_are_out_of_reach(self, gateway: RunningGateway, bob: Any) -> None:
        names = tried(
            bob,
            "import os; result = sorted(k for k in os.environ if 'MILLPOND' in k or 'AWS' in k or k.endswith('_KEY'))",
        )
        assert names in {"got []", "got ['MILLPOND_TREE']"}
        for process in (os.getpid(), gateway.child.pid):
            for name in ("environ", "mem", "fd/0", "root/etc/shadow"):
                code = "import os; p = f'/proc/{process}/{name}'; result = open(p, 'rb').read(10)"
                assert tried(bob, code, process=process, name=name).startswith("refused"), name

    def test_the_servers_processes_cannot_be_stopped(self, gateway: RunningGateway, bob: Any) -> None:
        assert "refused" in tried(bob, "import os; os.kill(pid, 9)", pid=gateway.child.pid)
        assert gateway.child.running

    def test_the_network_is_out_of_reach(self, gateway: RunningGateway, bob: Any) -> None:
        code = "import socket; socket.create_connection(('127.0.0.1', port), timeout=3); result = 'connected'"
        assert "refused" in tried(bob, code, port=gateway.port)

    def test_each_user_has_an_engine_of_their_own(self, alice: Any, bob: Any) -> None:
        pid = "import os; result = os.getpid()"
        assert tried(alice, pid) != tried(bob, pid)
        assert tried(bob, pid) == tried(bob, pid)


def test_the_engines_port_is_not_open_to_this_machine(gateway: RunningGateway, alice: Any) -> None:
    """No process outside an engine's network can connect to it, whatever port it tries."""
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A":
                listening.add(int(local.rpartition(":")[2], 16))
    engine_ports = set()
    for child in Path("/proc").glob("[0-9]*"):
        try:
            command = (child / "cmdline").read_text()
            parent = int((child / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == gateway.child.pid and "child" in command:
                for line in (child / "net" / "tcp").read_text().splitlines()[1:]:
                    if line.split()[3] == "0A":
                        engine_ports.add(int(line.split()[1].rpartition(":")[2], 16))
        except (OSError, ValueError):
            continue
    assert engine_ports
    assert not engine_ports & listening


def test_errors_name_no_path_of_the_server(gateway: RunningGateway, alice: Any) -> None:
    with pytest.raises(SparkConnectGrpcException) as caught:
        alice.read.option("versionAsOf", "99").table("alices.s.t").collect()
    assert str(gateway.home.root) not in str(caught.value)
    assert str(gateway.home.root) not in alice.sql("EXPLAIN SELECT * FROM alices.s.t").collect()[0][0]
