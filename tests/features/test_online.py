"""Online stores through the feature store's client."""

from typing import Any

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from millpond.features import FeatureEngineeringClient
from tests.servers import Server, wait_until


def test_a_feature_table_is_served_online(
    fe: FeatureEngineeringClient, spark: SparkSession, schema: str, server: Server
) -> None:
    """As the public guide does it: a store, its capacity, a table published, written again, followed."""
    store = fe.create_online_store(name="guide-store", capacity="CU_2")
    assert fe.get_online_store(name="guide-store") == store
    assert fe.update_online_store(name="guide-store", capacity="CU_4").capacity == "CU_4"
    assert "guide-store" in [each.name for each in fe.list_online_stores()]
    times = [pd.Timestamp("2026-01-01", tz="UTC"), pd.Timestamp("2026-01-02", tz="UTC")]
    rows = pd.DataFrame({"id": [1, 1], "ts": times, "spend": [1.0, 2.0]})
    fe.create_table(name=f"{schema}.spend", primary_keys=["id", "ts"], timeseries_columns="ts", df=rows)

    def published(mode: str) -> list[Any]:
        made = fe.publish_table(
            online_store=store, source_table_name=f"{schema}.spend", online_table_name=f"{schema}.spend_online",
            publish_mode=mode,
        )  # fmt: skip
        path = f"/api/millpond/online-tables/{made.online_table_name}"
        wait_until(lambda: server.call("GET", path)[1]["is_pending"] is False, timeout_s=60, what="the rows online")
        return server.call("POST", f"{path}/read", {"keys": [{"id": 1}, {"id": 2}], "columns": ["spend"]})[1]["rows"]

    assert published("SNAPSHOT") == [{"spend": 2.0}, None]
    fe.write_table(name=f"{schema}.spend", df=pd.DataFrame({"id": [1, 2], "ts": times, "spend": [9.0, 8.0]}))
    assert published("TRIGGERED") == [{"spend": 2.0}, {"spend": 8.0}], "the newest, not the last that came"
    with pytest.raises(ValueError, match="still has online tables"):
        fe.delete_online_store(name="guide-store")
    fe.delete_online_table(name=f"{schema}.spend_online")
    fe.delete_online_store(name="guide-store")
    assert fe.get_online_store(name="guide-store") is None
