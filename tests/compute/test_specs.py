"""What a cluster may be asked to be."""

import pytest

from millpond.compute.machine import Machine
from millpond.compute.specs import completed, of_sessions
from millpond.kernel.errors import InvalidArgument

MACHINE = Machine(cores=4, memory_mb=16 << 10)
SPEC = {"spark_version": "1.0.x-scala2.12", "node_type_id": "local.1c2g", "num_workers": 0}


@pytest.mark.parametrize(
    "name",
    [
        "spark.sql.catalog.mine", "spark.sql.warehouse.dir", "spark.sql.extensions", "spark.sql.defaultCatalog",
        "spark.sql.streaming.checkpointLocation", "spark.sql.sources.commitProtocolClass",
    ],
)  # fmt: skip
def test_a_cluster_has_no_settings_that_its_sessions_may_not_change(name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"{name} is the server's"):
        completed(SPEC | {"spark_conf": {name: "x"}}, MACHINE, str, creator="ann")
    assert of_sessions({"spark_conf": {name: "x"}}) == {}  # of a cluster that was made before this was refused


def test_sessions_begin_with_what_is_theirs() -> None:
    conf = {"spark.sql.ansi.enabled": "true", "spark.master": "local[*]"}
    spec = completed(SPEC | {"spark_conf": conf}, MACHINE, str, creator="ann")
    assert of_sessions(spec) == {"spark.sql.ansi.enabled": "true"}
