"""The files of served model versions, each in a directory of its own that workers may read."""

import os
import shutil
import threading
from collections import Counter
from pathlib import Path

from millpond.kernel.errors import NotFound
from millpond.kernel.ids import new_id
from millpond.serving.domain import ModelVersion
from millpond.serving.ports import ModelSource


class ModelCache:
    """`<root>/<key>`: a version's files, complete or absent. Thread-safe; everything here blocks."""

    def __init__(self, root: Path, source: ModelSource) -> None:
        self._root = root
        self._source = source
        self._guard = threading.Lock()
        self._held: Counter[str] = Counter()
        self._copying: dict[str, threading.Lock] = {}

    def hold(self, model: ModelVersion) -> Path:
        """The directory of a version, fetched when it is not there; stays until `release`. Raises NotFound."""
        with self._guard:
            self._held[model.key] += 1
            copying = self._copying.setdefault(model.key, threading.Lock())
        try:
            with copying:
                path = self._root / model.key
                if not path.exists():
                    self._fetch(model, path)
                return path
        except BaseException:
            self.release(model)
            raise

    def release(self, model: ModelVersion) -> None:
        """Say that a worker does not need the version any more."""
        with self._guard:
            self._held[model.key] -= 1

    def find(self, model: ModelVersion) -> Path | None:
        """The directory of a version, if it is there."""
        path = self._root / model.key
        return path if path.exists() else None

    def prune(self, wanted: frozenset[ModelVersion]) -> None:
        """Delete what no endpoint names and no worker holds, and what an interrupted copy left."""
        keep = {model.key for model in wanted}
        with self._guard:
            found = [path.name for path in self._root.iterdir()] if self._root.exists() else []
            unused = [name for name in found if name not in keep and not self._held[name] and not name.startswith(".")]
            trash = [self._root / f".{name}.{new_id()}" for name in unused]
            for name, path in zip(unused, trash, strict=True):
                (self._root / name).rename(path)
            if not +self._held:  # nothing is being copied: every hidden directory is a leftover
                trash += [self._root / name for name in found if name.startswith(".")]
        for path in trash:
            shutil.rmtree(path, ignore_errors=True)

    def _fetch(self, model: ModelVersion, path: Path) -> None:
        draft = self._root / f".{model.key}.{new_id()}"
        draft.mkdir(parents=True, mode=0o700)
        try:
            self._source.download(model, draft)
            if not (draft / "MLmodel").exists():
                raise NotFound(f"Version {model.version} of model '{model.name}' has no MLmodel file.")
            _flush(draft)
            draft.rename(path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _flush(directory: Path) -> None:
    """Bring the files to disk before the name that says that they are complete."""
    for folder, _, files in os.walk(directory):
        for name in files:
            with open(os.path.join(folder, name), "rb") as stream:
                os.fsync(stream.fileno())
