"""A driver, and what outlives nobody."""

from pathlib import Path

import pytest

from millpond.compute import drivers
from millpond.compute.drivers import Driver
from millpond.kernel.errors import Unavailable
from millpond.kernel.process import ChildSpec
from millpond.kernel.process_usage import seen
from millpond.kernel.zygote import Zygote, available
from tests.compute import FINDS_TESTS
from tests.servers import wait_until

pytestmark = pytest.mark.skipif(not available(), reason="clusters need Linux")


def test_a_driver_that_ends_ends_all_below_it_and_starts_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        drivers, "Zygote", lambda preload, env, log_path: Zygote(preload, env={**env, **FINDS_TESTS}, log_path=log_path)
    )
    driver = Driver((), tmp_path / "log")
    driver.start()
    told = tmp_path / "pid"
    spec = ChildSpec(module="tests.compute.escaping_process", args=(str(told),))
    try:
        child = driver.spawn(spec)
        wait_until(lambda: told.exists() and told.read_text().endswith(" "), timeout_s=30)
        escaped = int(told.read_text())
        assert escaped in seen()
    finally:
        driver.close()
    wait_until(lambda: escaped not in seen() and not child.running, timeout_s=30)
    child.kill()
    with pytest.raises(Unavailable):
        driver.spawn(spec)
