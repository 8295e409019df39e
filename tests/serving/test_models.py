"""The cache of model files: complete or absent, whoever asks and whatever happens in between."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from millpond.identity.domain import Principal
from millpond.kernel.errors import NotFound
from millpond.serving.domain import ModelVersion
from millpond.serving.models import ModelCache

MODEL = ModelVersion(name="m", version="1", source="somewhere")


class Source:
    """Writes an MLmodel file, as often as it is asked; fails when it is told to."""

    def __init__(self) -> None:
        self.copies = 0
        self.fails = False
        self.gate = threading.Event()
        self.gate.set()

    def find_version(self, principal: Principal, name: str, version: str) -> ModelVersion:
        raise NotImplementedError

    def download(self, model: ModelVersion, destination: Path) -> None:
        self.copies += 1
        (destination / "weights").write_text("half")
        self.gate.wait(10)
        if self.fails:
            raise OSError("the disk is full")
        (destination / "MLmodel").write_text("flavors: {}")


def test_many_who_ask_at_once_get_one_copy(tmp_path: Path) -> None:
    source = Source()
    cache = ModelCache(tmp_path, source)
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(cache.hold, [MODEL] * 8))
    assert paths == {tmp_path / MODEL.key}
    assert source.copies == 1


def test_a_copy_that_fails_leaves_nothing_and_is_made_again(tmp_path: Path) -> None:
    source = Source()
    source.fails = True
    cache = ModelCache(tmp_path, source)
    with pytest.raises(OSError, match="disk is full"):
        cache.hold(MODEL)
    assert list(tmp_path.iterdir()) == []
    source.fails = False
    assert (cache.hold(MODEL) / "MLmodel").exists()


def test_files_without_a_model_are_refused(tmp_path: Path) -> None:
    class Empty(Source):
        def download(self, model: ModelVersion, destination: Path) -> None:
            (destination / "readme").write_text("no model")

    with pytest.raises(NotFound, match="no MLmodel file"):
        ModelCache(tmp_path, Empty()).hold(MODEL)


def test_pruning_spares_what_is_named_and_what_is_held(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path, Source())
    named, held, unused = (ModelVersion(name=name, version="1", source="s") for name in ("named", "held", "unused"))
    for model in (named, held, unused):
        cache.hold(model)
    cache.release(named)
    cache.release(unused)
    (tmp_path / ".draft.of.a.killed.server").mkdir()
    cache.prune(frozenset({named}))
    assert cache.find(unused) is None
    assert cache.find(named) is not None
    assert cache.find(held) is not None
    cache.release(held)
    cache.prune(frozenset())
    assert list(tmp_path.iterdir()) == []


def test_pruning_does_not_touch_a_copy_under_way(tmp_path: Path) -> None:
    source = Source()
    source.gate.clear()
    cache = ModelCache(tmp_path, source)
    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(cache.hold, MODEL)
        while source.copies == 0:
            pass
        cache.prune(frozenset())
        source.gate.set()
        assert (copying.result() / "weights").exists()


def test_another_model_of_the_same_name_and_number_has_its_own_files(tmp_path: Path) -> None:
    again = ModelVersion(name="m", version="1", source="elsewhere")
    cache = ModelCache(tmp_path, Source())
    assert cache.hold(MODEL) != cache.hold(again)
