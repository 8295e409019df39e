"""`dbutils.fs`: files in volumes, through the Files API, and the task's own under `file:/`."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, NamedTuple

from millpond.sdk.dbutils.api import Api

_FILES, _DIRECTORIES = "/api/2.0/fs/files", "/api/2.0/fs/directories"


class FileInfo(NamedTuple):
    """What is in a directory; a directory's name ends in `/`."""

    path: str
    name: str
    size: int
    modificationTime: int
    """Milliseconds since 1970."""

    def isDir(self) -> bool:
        """Whether it is a directory."""
        return self.name.endswith("/")

    def isFile(self) -> bool:
        """Whether it is a file."""
        return not self.isDir()


class FileSystem:
    """Paths are `/Volumes/...`, with or without `dbfs:`, or `file:/...`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def ls(self, dir: str) -> list[FileInfo]:
        """What is in a directory, by name; of a file, itself. Raises FileNotFoundError, PermissionError."""
        if local := _local(dir):
            places = sorted(local.iterdir()) if local.is_dir() else [local]
            return [_local_info(place) for place in places]
        return sorted(self._entries(_path(dir)))

    def head(self, file: str, maxBytes: int = 65536) -> str:
        """The beginning of a file as text."""
        with self._reading(file) as stream:
            return str(stream.read(maxBytes).decode(errors="replace"))

    def put(self, file: str, contents: str, overwrite: bool = False) -> bool:
        """Write a text. Raises FileExistsError."""
        data = contents.encode()
        if local := _local(file):
            with local.open("wb" if overwrite else "xb") as stream:
                stream.write(data)
        else:
            self._api.open("PUT", _FILES + _path(file), query=_replacing(overwrite), data=data).close()
        print(f"Wrote {len(data)} bytes.")
        return True

    def mkdirs(self, dir: str) -> bool:
        """Make a directory and those above it."""
        if local := _local(dir):
            local.mkdir(parents=True, exist_ok=True)
        else:
            self._api.open("PUT", _DIRECTORIES + _path(dir)).close()
        return True

    def rm(self, dir: str, recurse: bool = False) -> bool:
        """Remove a file, or a directory with all in it where that is said."""
        if local := _local(dir):
            (shutil.rmtree if recurse and local.is_dir() else os.rmdir if local.is_dir() else os.remove)(local)
        elif self._is_directory(_path(dir)):
            for each in self._entries(_path(dir)) if recurse else ():
                self.rm(each.path, recurse=True)
            self._api.open("DELETE", _DIRECTORIES + _path(dir)).close()
        else:
            self._api.open("DELETE", _FILES + _path(dir)).close()
        return True

    def cp(self, from_: str, to: str, recurse: bool = False) -> bool:
        """Copy a file, or a directory where that is said, over what is there; not into itself."""
        if not self._is_directory(from_):
            name = from_.rstrip("/").rpartition("/")[2]
            target = f"{to.rstrip('/')}/{name}" if self._is_directory(to) else to
            _check_apart(from_, target)
            self._copy(from_, target)
            return True
        if not recurse:
            raise IsADirectoryError(f"'{from_}' is a directory; copy it with recurse=True.")
        _check_apart(from_, to)
        self.mkdirs(to)
        for each in self.ls(from_):
            self.cp(each.path, f"{to.rstrip('/')}/{each.name.rstrip('/')}", recurse=True)
        return True

    def mv(self, from_: str, to: str, recurse: bool = False) -> bool:
        """Copy, then remove."""
        self.cp(from_, to, recurse)
        return self.rm(from_, recurse)

    def _copy(self, from_: str, to: str) -> None:
        with self._reading(from_) as stream:
            if local := _local(to):
                with local.open("wb") as written:
                    shutil.copyfileobj(stream, written)
                return
            headers = {"Content-Length": str(_length(stream))}
            query = _replacing(True)
            self._api.open("PUT", _FILES + _path(to), query=query, data=stream, headers=headers).close()

    def _reading(self, file: str) -> Any:
        local = _local(file)
        return closing(local.open("rb") if local else self._api.open("GET", _FILES + _path(file)))

    def _is_directory(self, path: str) -> bool:
        if local := _local(path):
            return local.is_dir()
        try:
            self._api.open("HEAD", _DIRECTORIES + _path(path)).close()
        except (FileNotFoundError, RuntimeError):
            return False
        return True

    def _entries(self, path: str) -> Iterator[FileInfo]:
        token: str | None = None
        while True:
            try:
                page = self._api.ask(_DIRECTORIES + path, page_token=token)
            except RuntimeError:  # a file
                with self._api.open("HEAD", _FILES + path) as answer:
                    size = int(answer.headers.get("Content-Length") or 0)
                yield FileInfo(f"dbfs:{path}", path.rpartition("/")[2], size, 0)
                return
            yield from map(_info, page.get("contents", ()))
            token = page.get("next_page_token")
            if not token:
                return


def _info(entry: dict[str, Any]) -> FileInfo:
    end = "/" if entry.get("is_directory") else ""
    return FileInfo(
        f"dbfs:{entry['path']}{end}", entry["name"] + end, entry.get("file_size") or 0, entry.get("last_modified") or 0
    )


def _local_info(place: Path) -> FileInfo:
    about, end = place.stat(), "/" if place.is_dir() else ""
    return FileInfo(f"file:{place}{end}", place.name + end, about.st_size, int(about.st_mtime * 1000))


def _local(path: str) -> Path | None:
    return Path("/" + path[5:].lstrip("/")) if path.startswith("file:") else None


def _path(path: str) -> str:
    return "/" + path.removeprefix("dbfs:").strip("/")


def _check_apart(from_: str, to: str) -> None:
    """Raises ValueError for what would be written over, or into, itself: nothing of it would be left."""
    source, target = (str(local.resolve()) if (local := _local(path)) else _path(path) for path in (from_, to))
    if bool(_local(from_)) is bool(_local(to)) and f"{target}/".startswith(f"{source}/"):
        raise ValueError(f"'{to}' is, or is in, '{from_}'; nothing was copied or moved.")


def _replacing(overwrite: bool) -> dict[str, str | None]:
    return {"overwrite": "true" if overwrite else "false"}


def _length(stream: IO[bytes] | Any) -> int:
    if hasattr(stream, "headers"):
        return int(stream.headers["Content-Length"])
    return os.fstat(stream.fileno()).st_size
