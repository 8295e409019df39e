"""Slices of the machine: what fits, on which cores, and when a cluster grows."""

import pytest

from millpond.compute.machine import (
    Load,
    Machine,
    NodeType,
    Shape,
    Size,
    choose_cores,
    observed,
    over_memory,
    scaled,
)
from millpond.kernel.errors import InvalidArgument

MACHINE = Machine(cores=4, memory_mb=16 << 10, cores_factor=1.5)
SMALL = NodeType(id="local.1c2g", cores=1, memory_mb=2048)


def test_node_types_are_the_slices_that_the_machine_has_room_for() -> None:
    names = [each.id for each in MACHINE.node_types]
    assert names == ["local.1c2g", "local.1c4g", "local.2c4g", "local.2c8g", "local.4c8g", "local.4c16g"]
    assert MACHINE.node_type("local.2c8g") == NodeType(id="local.2c8g", cores=2, memory_mb=8192)
    with pytest.raises(InvalidArgument, match=r"local\.1c2g, local\.1c4g"):
        MACHINE.node_type("m5.large")


def test_cores_are_given_away_up_to_a_factor_and_memory_once() -> None:
    assert MACHINE.capacity == Size(cores=6, memory_mb=16384)
    assert MACHINE.lacking(Size(cores=5, memory_mb=1000), Size(cores=1, memory_mb=15384)) == ""
    assert MACHINE.lacking(Size(cores=5), Size(cores=2)) == "needs 2 cores, and 1 of 6 are free"
    assert "needs 16000 MiB, and 384 of 16384" in MACHINE.lacking(Size(memory_mb=16000), Size(memory_mb=16000))
    with pytest.raises(InvalidArgument, match="larger than this machine"):
        MACHINE.check_ever(Size(cores=7))


def test_a_cluster_takes_its_driver_and_each_worker() -> None:
    shape = Shape(driver=NodeType(id="d", cores=2, memory_mb=4096), worker=SMALL)
    assert shape.size(0) == Size(cores=2, memory_mb=4096)
    assert shape.size(3) == Size(cores=5, memory_mb=10240)


def test_clusters_run_on_the_cores_that_the_fewest_others_have() -> None:
    assert choose_cores([0, 1, 2, 3], [], 2) == (0, 1)
    assert choose_cores([0, 1, 2, 3], [(0, 1)], 2) == (2, 3)
    assert choose_cores([0, 1], [(0, 1), (0,)], 1) == (1,)
    assert choose_cores([0, 1], [], 5) == (0, 1)


def test_it_grows_when_it_is_busy_and_shrinks_when_one_less_would_do_for_a_minute() -> None:
    shape = Shape(driver=SMALL, worker=SMALL)

    def after(seconds: int, used: float, workers: int) -> int:
        load = Load()
        for _ in range(seconds):
            load = observed(load, used_cores=used, shape=shape, workers=workers, elapsed_s=1.0)
        return scaled(load, workers=workers, least=1, most=3)

    assert [after(seconds, 1.9, 1) for seconds in (4, 5)] == [1, 2]
    assert after(60, 3.9, 3) == 3
    assert [after(seconds, 0.1, 2) for seconds in (59, 60)] == [2, 1]
    assert after(500, 0.1, 1) == 1
    assert after(60, 1.2, 1) == 1  # busy with one core, not with two


def test_of_a_cluster_that_uses_too_much_memory_the_largest_process_ends() -> None:
    assert over_memory({1: 500, 2: 1500}, 2000) is None
    assert over_memory({1: 500, 2: 1501}, 2000) == 2
    assert over_memory({}, 2000) is None
