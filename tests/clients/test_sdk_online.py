"""The Databricks SDK's feature store: online stores, and tables published into them, read over HTTP."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, InvalidParameterValue, NotFound, PermissionDenied, ResourceAlreadyExists
from databricks.sdk.service.ml import OnlineStore, OnlineStoreState, PublishSpec, PublishSpecPublishMode
from pyspark.sql import SparkSession

from tests.servers import Server, wait_until

READ = "/api/millpond/online-tables"
TRIGGERED, SNAPSHOT, CONTINUOUS = (PublishSpecPublishMode(m) for m in ("TRIGGERED", "SNAPSHOT", "CONTINUOUS"))


@dataclass
class Shop:
    """A schema with a table of customers, a store, and people."""

    server: Server
    spark: SparkSession
    schema: str
    store: str
    tokens: dict[str, str]

    @property
    def source(self) -> str:
        return f"{self.schema}.customers"

    def sdk(self, who: str = "admin") -> WorkspaceClient:
        return WorkspaceClient(host=self.server.url, token=self.tokens[who], auth_type="pat", config_file="/nowhere")

    def sql(self, text: str) -> None:
        self.spark.sql(text.replace("$s", self.schema)).collect()

    def publish(self, name: str, mode: PublishSpecPublishMode = TRIGGERED, *, who: str = "admin", of: str = "") -> str:
        """The full name of an online table that follows its source once more."""
        full = f"{self.schema}.{name}"
        spec = PublishSpec(online_store=self.store, online_table_name=full, publish_mode=mode)
        told = self.sdk(who).feature_store.publish_table(of or self.source, spec)
        assert told.online_table_name == full
        return full

    def state(self, name: str, who: str = "admin") -> Any:
        status, body = self.server.call("GET", f"{READ}/{name}", token=self.tokens[who])
        assert status == 200, body
        return body

    def online(self, name: str, *, state: str = "ONLINE") -> Any:
        """What is told of an online table once all that was asked is done, or has failed."""

        def done() -> Any:
            told = self.state(name)
            settled = told["state"] == state and (state == "FAILED" or not told["is_pending"])
            return told if settled else None

        return wait_until(done, timeout_s=60, what=f"{name} being {state}")

    def read(self, name: str, *ids: Any, who: str = "admin", **more: Any) -> Any:
        """Status and body of a read."""
        body = {"keys": [{"id": each} for each in ids], **more}
        return self.server.call("POST", f"{READ}/{name}/read", body, token=self.tokens[who])

    def spend(self, name: str, *ids: int) -> list[float | None]:
        status, body = self.read(name, *ids)
        assert status == 200, body
        return [row and row["spend"] for row in body["rows"]]


@pytest.fixture(scope="module")
def shop(any_server: Server) -> Iterator[Shop]:
    run = uuid.uuid4().hex[:8]
    names = {role: f"{role}-{run}@shop.org" for role in ("reader", "seer", "stranger")}
    tokens = {"admin": any_server.token, **{role: any_server.new_user(name) for role, name in names.items()}}
    spark = SparkSession.builder.remote(any_server.spark_remote).create()
    shop = Shop(any_server, spark, f"shop_{run}.s", f"store-{run}", tokens)
    for text in (
        f"CREATE CATALOG shop_{run}",
        "CREATE SCHEMA $s",
        "CREATE TABLE $s.customers (id BIGINT NOT NULL, spend DOUBLE, CONSTRAINT pk PRIMARY KEY (id))",
        "INSERT INTO $s.customers VALUES (1, 1.5), (2, 2.5)",
        f"GRANT USE CATALOG, USE SCHEMA, SELECT ON CATALOG shop_{run} TO `{names['reader']}`",
        f"GRANT USE CATALOG, USE SCHEMA, BROWSE ON CATALOG shop_{run} TO `{names['seer']}`",
    ):
        shop.sql(text)
    shop.sdk().feature_store.create_online_store(OnlineStore(name=shop.store, capacity="CU_1"))
    yield shop
    spark.stop()


def test_stores_are_made_changed_and_removed(shop: Shop) -> None:
    api, name = shop.sdk("reader").feature_store, f"mine-{uuid.uuid4().hex[:8]}"
    made = api.create_online_store(OnlineStore(name=name, capacity="CU_2", read_replica_count=1))
    assert (made.state, made.capacity) == (OnlineStoreState.AVAILABLE, "CU_2")
    assert made.creator is not None
    with pytest.raises(ResourceAlreadyExists, match=name):
        api.create_online_store(OnlineStore(name=name, capacity="CU_2"))
    with pytest.raises(InvalidParameterValue, match="CU_3"):
        api.create_online_store(OnlineStore(name="other", capacity="CU_3"))
    changed = api.update_online_store(name, OnlineStore(name=name, capacity="CU_8", read_replica_count=5), "capacity")
    assert (changed.capacity, changed.read_replica_count) == ("CU_8", 1)
    assert name in [each.name for each in api.list_online_stores(page_size=1)]
    with pytest.raises(PermissionDenied):
        shop.sdk("seer").feature_store.delete_online_store(name)
    api.delete_online_store(name)
    with pytest.raises(NotFound):
        api.get_online_store(name)


def test_a_table_is_followed_when_told_to(shop: Shop) -> None:
    name = shop.publish("told")
    first = shop.online(name)
    assert shop.spend(name, 1, 2, 3) == [1.5, 2.5, None]
    shop.sql("MERGE INTO $s.customers t USING (SELECT 2 AS id, 9.0 AS spend) u ON t.id = u.id "
             "WHEN MATCHED THEN UPDATE SET spend = u.spend")  # fmt: skip
    shop.sql("INSERT INTO $s.customers VALUES (3, 3.5)")
    behind = shop.state(name)
    assert behind["versions_behind"] == 2
    assert behind["lag_s"] > 0
    assert shop.spend(name, 2, 3) == [2.5, None]
    shop.publish("told")
    assert shop.online(name)["published_version"] == first["published_version"] + 2
    assert shop.spend(name, 1, 2, 3) == [1.5, 9.0, 3.5]
    shop.publish("told", SNAPSHOT)
    told = shop.online(name)
    assert (told["publish_mode"], told["versions_behind"], told["lag_s"]) == ("SNAPSHOT", 0, 0)
    listed = shop.server.call("GET", f"{READ}?source_table_name={shop.source}")[1]["online_tables"]
    assert name in [each["name"] for each in listed]


def test_a_continuous_table_has_a_commit_within_a_second(shop: Shop) -> None:
    shop.sql("CREATE TABLE $s.live (id BIGINT NOT NULL, spend DOUBLE, CONSTRAINT live_pk PRIMARY KEY (id))")
    name = shop.publish("live_online", CONTINUOUS, of=f"{shop.schema}.live")
    shop.online(name)
    lags = []
    for number in range(5):
        shop.sql(f"INSERT INTO $s.live VALUES ({number}, {number}.5)")
        committed = time.monotonic()
        wait_until(lambda n=number: shop.spend(name, n) == [n + 0.5], timeout_s=30, what="the commit online")  # type: ignore[misc]
        lags.append(time.monotonic() - committed)
    assert sorted(lags)[2] < 1.0, lags


def test_the_source_says_who_reads(shop: Shop) -> None:
    name = shop.publish("rights")
    shop.online(name)
    assert shop.read(name, 1, who="reader")[0] == 200
    assert shop.state(name, "seer")["source_table_name"] == shop.source
    status, body = shop.read(name, 1, who="seer")
    assert (status, body["error_code"]) == (403, "PERMISSION_DENIED")
    for method, path in (("GET", f"{READ}/{name}"), ("POST", f"{READ}/{name}/read")):
        status, body = shop.server.call(method, path, {"keys": []}, token=shop.tokens["stranger"])
        assert status == 404, body
        assert shop.source not in body["message"]
    with pytest.raises(PermissionDenied, match="CREATE TABLE"):
        shop.publish("theirs", who="reader")
    with pytest.raises(PermissionDenied):
        shop.sdk("reader").feature_store.delete_online_table(name)
    with pytest.raises(NotFound):
        shop.sdk("stranger").feature_store.delete_online_table(name)


def test_a_removed_table_is_gone_and_its_name_free(shop: Shop) -> None:
    name = shop.publish("passing")
    table_id = shop.online(name)["id"]
    files = shop.server.data_dir / "online" / table_id
    assert files.exists()
    with pytest.raises(BadRequest, match="still has online tables"):
        shop.sdk().feature_store.delete_online_store(shop.store)
    shop.sdk().feature_store.delete_online_table(name)
    assert shop.read(name, 1)[0] == 404
    wait_until(lambda: not files.exists(), what="the rows being gone")
    assert shop.publish("passing") == name
    assert shop.online(name)["id"] != table_id


def test_what_cannot_be_published_is_refused(shop: Shop) -> None:
    shop.sql("CREATE TABLE $s.keyless (id BIGINT)")
    shop.sql("CREATE VIEW $s.seen AS SELECT * FROM $s.customers")
    for source, why in (("keyless", "primary key"), ("seen", "no Delta table")):
        with pytest.raises(BadRequest, match=why):
            shop.publish("never", of=f"{shop.schema}.{source}")
    with pytest.raises(ResourceAlreadyExists, match="is a table"):
        shop.publish("customers")
    spec = PublishSpec("no-such-store", f"{shop.schema}.never", TRIGGERED)
    with pytest.raises(NotFound, match="no-such-store"):
        shop.sdk().feature_store.publish_table(shop.source, spec)
    name = shop.publish("keys")
    shop.online(name)
    wrong = (({}, "'id'"), ({"id": None}, "null"), ({"id": "x"}, "no LONG"), ({"id": True}, "no LONG"))
    for key, why in wrong:
        status, body = shop.server.call("POST", f"{READ}/{name}/read", {"keys": [key]})
        assert status == 400
        assert why in body["message"]
    status, body = shop.read(name, 1, columns=["nothing"])
    assert (status, "'nothing'" in body["message"]) == (400, True)


def test_a_source_that_gets_a_mask_answers_nobody(shop: Shop) -> None:
    shop.sql("CREATE TABLE $s.private (id BIGINT NOT NULL, spend DOUBLE, CONSTRAINT private_pk PRIMARY KEY (id))")
    shop.sql("INSERT INTO $s.private VALUES (1, 1.5)")
    shop.sql("CREATE FUNCTION $s.hide(v DOUBLE) RETURNS DOUBLE RETURN 0.0")
    name = shop.publish("private_online", of=f"{shop.schema}.private")
    shop.online(name)
    shop.sql("ALTER TABLE $s.private ALTER COLUMN spend SET MASK $s.hide")
    for who in ("admin", "reader"):
        status, body = shop.read(name, 1, who=who)
        assert status == 400, body
        assert "row filter or column masks" in body["message"]
    with pytest.raises(BadRequest, match="row filter or column masks"):
        shop.publish("private_online", of=f"{shop.schema}.private")
    shop.sql("ALTER TABLE $s.private ALTER COLUMN spend DROP MASK")
    assert shop.spend(name, 1) == [1.5]


def test_whom_a_policy_hides_something_from_reads_nothing_online(shop: Shop) -> None:
    shop.sql("CREATE TABLE $s.tagged (id BIGINT NOT NULL, spend DOUBLE, CONSTRAINT tagged_pk PRIMARY KEY (id))")
    shop.sql("INSERT INTO $s.tagged VALUES (1, 1.5)")
    shop.sql("CREATE FUNCTION $s.none(v DOUBLE) RETURNS DOUBLE RETURN 0.0")
    name = shop.publish("tagged_online", of=f"{shop.schema}.tagged")
    shop.online(name)
    tag = f"money_{uuid.uuid4().hex[:8]}"
    shop.sql(f"CREATE GOVERNED TAG {tag}")
    shop.sql(
        "CREATE POLICY quiet ON SCHEMA $s COLUMN MASK $s.none TO `account users` EXCEPT `admin@millpond.local` "
        f"FOR TABLES MATCH COLUMNS has_tag('{tag}') AS c ON COLUMN c"
    )
    assert shop.read(name, 1, who="reader")[0] == 200, "no column has the tag yet"
    shop.sql(f"SET TAG ON COLUMN $s.tagged.spend {tag}")
    status, body = shop.read(name, 1, who="reader")
    assert (status, "policy" in body["message"]) == (400, True)
    assert shop.spend(name, 1) == [1.5]
    shop.sql("DROP POLICY quiet ON SCHEMA $s")
    assert shop.read(name, 1, who="reader")[0] == 200


def test_audit_and_lineage_know_of_it(shop: Shop) -> None:
    name = shop.publish("known")
    shop.online(name)
    shop.spend(name, 1)

    def published() -> Any:
        path = f"/api/millpond/audit?service_name=featureStore&action_name=publishTable&object_name={name}"
        return shop.server.call("GET", path)[1]["events"]

    (event,) = wait_until(published, what="the act in the audit")
    assert event["request_params"]["source"] == shop.source
    path = f"/api/2.0/lineage-tracking/table-lineage?table_name={shop.source}"
    downstream = shop.server.call("GET", path)[1]["downstreams"]
    assert name in [each["onlineTableInfo"]["name"] for each in downstream if "onlineTableInfo" in each]
