"""Work beside an event loop, which it lets on."""

import time

import pytest

from millpond.kernel.turns import Turns


def test_work_pauses_for_as_long_as_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, pauses = [0.0], list[float]()
    monkeypatch.setattr(time, "thread_time", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", pauses.append)
    for piece_s in Turns().of((0.001, 0.0005, 0.001, 0.001, 0.005)):
        clock[0] += piece_s
    assert pauses == pytest.approx([0.0025, 0.006]), "a turn is 2 ms or what the last piece made of it"
