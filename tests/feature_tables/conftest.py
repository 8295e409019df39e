"""A shop whose features are used by a run, a model version and an endpoint, told by real clients."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import mlflow
import pytest
from mlflow.data.delta_dataset_source import DeltaDatasetSource
from mlflow.data.meta_dataset import MetaDataset

from tests.clients.mlflow_session import signed_in
from tests.servers import Server, wait_until


class FeatureSource(DeltaDatasetSource):
    """A table of which some columns are used, as `log_model` of the feature store's client tells it."""

    def __init__(self, table: str, columns: list[str]) -> None:
        super().__init__(delta_table_name=table, delta_table_version=1)
        self._columns = columns

    def to_dict(self) -> dict[Any, Any]:
        return {**super().to_dict(), "columns": self._columns}


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A schema of its own on a server."""

    server: Server
    name: str
    tail: str

    def sql(self, text: str, *, token: str | None = None) -> Any:
        """The rows of a statement that has to succeed; `$` stands for the schema."""
        body = {"statement": text.replace("$", self.name), "warehouse_id": "starter", "wait_timeout": "50s"}
        status, made = self.server.call("POST", "/api/2.0/sql/statements", body, token=token)
        assert (status, made["status"]["state"]) == (200, "SUCCEEDED"), made
        return made.get("result", {}).get("data_array")

    def get(self, path: str = "", *, token: str | None = None, status: int = 200) -> Any:
        """The body of `GET /api/millpond/features...`; `$` stands for the schema."""
        found, body = self.server.call("GET", "/api/millpond/features" + path.replace("$", self.name), token=token)
        assert found == status, body
        return body

    def names(self, query: str, *, token: str | None = None) -> list[str]:
        """The tables that a list holds, without the schema."""
        listed = self.get(f"?q={self.name}&{query}", token=token)["feature_tables"]
        return [each["name"].removeprefix(f"{self.name}.") for each in listed]

    def user(self, name: str, *grants: str) -> str:
        """The token of a new user with privileges on tables: `SELECT people`."""
        full_name = f"{name}-{self.tail}@example.com"
        token = self.server.new_user(full_name)
        if grants:
            self.sql(f"GRANT USE CATALOG ON CATALOG main TO `{full_name}`")
            self.sql(f"GRANT USE SCHEMA ON SCHEMA $ TO `{full_name}`")
        for grant in grants:
            privilege, _, table = grant.rpartition(" ")
            self.sql(f"GRANT {privilege} ON TABLE $.{table} TO `{full_name}`")
        return token


@pytest.fixture(scope="module")
def shop(any_server: Server) -> Iterator[Shop]:
    """A shop of the module's own."""
    with fill_shop(any_server, uuid.uuid4().hex[:8]) as made:
        yield made


@contextmanager
def fill_shop(server: Server, tail: str, experiment: str | None = None) -> Iterator[Shop]:
    """Three feature tables, of which `people` is used, and a table without a key.

    The run is in a new experiment, or in that which all may read.
    """
    made = Shop(server=server, name=f"main.shop_{tail}", tail=tail)
    made.sql("CREATE SCHEMA $")
    made.sql("CREATE TABLE $.orders (customer BIGINT, amount DOUBLE)")
    made.sql("INSERT INTO $.orders VALUES (1, 10.0), (1, 5.5), (2, 30.0)")
    made.sql(
        "CREATE TABLE $.people (id BIGINT NOT NULL, ts TIMESTAMP NOT NULL, spent DOUBLE COMMENT 'Orders in euros', "
        "visits INT, city STRING, CONSTRAINT people_pk PRIMARY KEY (id, ts TIMESERIES)) COMMENT 'Who buys'"
    )
    made.sql(
        "INSERT INTO $.people SELECT customer, TIMESTAMP '2026-01-01 00:00:00', sum(amount), 7, 'Graz' FROM $.orders "
        "GROUP BY customer"
    )
    made.sql("CREATE TABLE $.idle (id BIGINT NOT NULL, x DOUBLE, CONSTRAINT idle_pk PRIMARY KEY (id))")
    made.sql("CREATE TABLE $.loose (id BIGINT NOT NULL, y DOUBLE, CONSTRAINT loose_pk PRIMARY KEY (id))")
    made.sql("SET TAG ON COLUMN $.idle.x unit = kg")
    _train(made, experiment)
    wait_until(lambda: made.get("/$.people")["features"][0]["sources"], what="the lineage of people.spent")
    yield made
    made.server.call("DELETE", f"/api/2.0/serving-endpoints/e-{tail}")
    made.sql("DROP SCHEMA $ CASCADE")


def _train(shop: Shop, experiment: str | None) -> None:
    """A run that uses two columns of `people` and some of `loose`, its model, and an endpoint that serves it."""
    with signed_in(shop.server) as client, ExitStack() as stack:
        place = client.create_experiment(experiment) if experiment else "0"
        run = stack.enter_context(mlflow.start_run(experiment_id=place, run_name=f"train-{shop.tail}"))
        used = MetaDataset(FeatureSource(f"{shop.name}.people", ["id", "ts", "spent"]), name="people")
        mlflow.log_input(used)
        mlflow.log_input(MetaDataset(DeltaDatasetSource(delta_table_name=f"{shop.name}.loose"), name="loose"))
        mlflow.log_text("weights", "model/notes.txt")
        client.create_registered_model(f"{shop.name}.churn")
        client.create_model_version(f"{shop.name}.churn", f"runs:/{run.info.run_id}/model", run.info.run_id)
    served = {"entity_name": f"{shop.name}.churn", "entity_version": "1", "name": "m"}
    body = {"name": f"e-{shop.tail}", "config": {"served_entities": [served]}}
    status, answer = shop.server.call("POST", "/api/2.0/serving-endpoints", body)
    assert status == 200, answer
