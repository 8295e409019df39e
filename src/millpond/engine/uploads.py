"""Files that a session uploads (artifacts): modules and data for its functions, and blocks of local data.

They are kept on disk for as long as the session lives, so that a fresh engine can be given them again.
"""

import asyncio
import hashlib
import shutil
import zipfile
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from millpond.engine import proto
from millpond.engine.engines import Engine
from millpond.engine.errors import unsupported
from millpond.engine.sessions import Session
from millpond.kernel.errors import InvalidArgument, ResourceExhausted

MAX_SESSION_BYTES = 16 << 30
_CHUNK_BYTES = 2 << 20
_FOR_FUNCTIONS = frozenset({"pyfiles", "files", "archives"})


@dataclass
class _Upload:
    name: str
    path: Path
    sent: int = 0
    crc_ok: bool = True


@dataclass
class _Kept:
    directory: Path
    files: dict[str, Path] = field(default_factory=dict)
    size_bytes: int = 0


class Uploads:
    """What all sessions have uploaded."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._kept: dict[str, _Kept] = {}
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, mode=0o700)

    async def receive(self, session: Session, requests: AsyncIterator[Any]) -> list[tuple[str, bool]]:
        """Keep what a stream of AddArtifactsRequests brings; returns each name and whether its checksum was right."""
        kept = self._of(session)
        current: _Upload | None = None
        done: list[_Upload] = []
        async for request in requests:
            kind = request.WhichOneof("payload")
            if kind == "batch":
                for artifact in request.batch.artifacts:
                    upload = self._begin(kept, artifact.name)
                    self._append(kept, upload, artifact.data)
                    done.append(upload)
            elif kind == "begin_chunk":
                current = self._begin(kept, request.begin_chunk.name)
                self._append(kept, current, request.begin_chunk.initial_chunk)
                done.append(current)
            elif current is not None:
                self._append(kept, current, request.chunk)
        for upload in done:
            if upload.crc_ok:
                kept.files[upload.name] = upload.path
        return [(upload.name, upload.crc_ok) for upload in done]

    def names(self, session: Session) -> frozenset[str]:
        """Names of what the session has uploaded."""
        kept = self._kept.get(session.id)
        return frozenset(kept.files) if kept else frozenset()

    async def restore(self, session: Session, engine: Engine, names: frozenset[str] | None = None) -> None:
        """Give an engine the session's files, all or those named."""
        kept = self._kept.get(session.id)
        for name, path in list(kept.files.items()) if kept else []:
            if names is not None and name not in names:
                continue
            if engine.uploads is None or name.startswith("cache/"):
                await engine.calls["AddArtifacts"](_requests(session, name, path))
            else:
                await asyncio.to_thread(_place, name, path, engine.uploads)

    def forget(self, session: Session) -> None:
        """Remove the session's files."""
        kept = self._kept.pop(session.id, None)
        if kept is not None:
            shutil.rmtree(kept.directory, ignore_errors=True)

    def copy(self, source: Session, target: Session) -> None:
        """Give another session of the same user the same files."""
        kept = self._kept.get(source.id)
        if kept is not None:
            mine = self._of(target)
            for name, path in list(kept.files.items()):  # more may come meanwhile
                mine.files[name] = Path(shutil.copy(path, mine.directory / path.name))

    def _of(self, session: Session) -> _Kept:
        if session.id not in self._kept:
            directory = self._directory / hashlib.sha256(session.id.encode()).hexdigest()[:32]
            directory.mkdir(mode=0o700)
            self._kept[session.id] = _Kept(directory=directory)
        return self._kept[session.id]

    def _begin(self, kept: _Kept, name: str) -> _Upload:
        check_name(name)
        path = kept.directory / hashlib.sha256(name.encode()).hexdigest()
        path.unlink(missing_ok=True)
        return _Upload(name=name, path=path)

    def _append(self, kept: _Kept, upload: _Upload, chunk: Any) -> None:
        kept.size_bytes += len(chunk.data)
        if kept.size_bytes > MAX_SESSION_BYTES:
            raise ResourceExhausted(
                f"A session may upload {MAX_SESSION_BYTES >> 30} GiB; write large data to a table or volume."
            )
        upload.crc_ok = upload.crc_ok and zlib.crc32(chunk.data) == chunk.crc
        with upload.path.open("ab") as stream:
            stream.write(chunk.data)


def check_name(name: str) -> None:
    """Refuse names that are no plain relative paths, and kinds of artifacts that the engine must not get."""
    path = PurePosixPath(name)
    kind = path.parts[0] if path.parts else ""
    if path.is_absolute() or ".." in path.parts or "\x00" in name or len(path.parts) < 2 or len(name) > 1000:
        raise InvalidArgument(f"The artifact name {name[:200]!r} is not a plain relative path.")
    if kind != "cache" and kind not in _FOR_FUNCTIONS:
        raise unsupported(f"Artifacts of kind '{kind}'; Python files, files, archives and local data can be uploaded.")


def _place(name: str, path: Path, directory: Path) -> None:
    """Put a file where Python functions find it; archives are unpacked."""
    relative = PurePosixPath(name.partition("#")[0])
    target = directory.joinpath(*relative.parts[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    if relative.suffix in {".zip", ".egg", ".whl", ".jar"} and zipfile.is_zipfile(path):
        folder = directory if relative.parts[0] == "pyfiles" else directory / (name.partition("#")[2] or relative.name)
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)  # zipfile leaves out absolute paths and ..
    else:
        shutil.copy(path, target)


def _requests(session: Session, name: str, path: Path) -> Iterator[bytes]:
    """A stream of AddArtifactsRequests that brings one file."""

    def request(**payload: Any) -> bytes:
        message = proto.base.AddArtifactsRequest(session_id=session.id, **payload)
        message.user_context.user_id = session.principal.id
        data: bytes = message.SerializeToString()
        return data

    kinds = proto.base.AddArtifactsRequest
    size = path.stat().st_size
    with path.open("rb") as stream:
        chunks = iter(lambda: stream.read(_CHUNK_BYTES), b"")
        first = next(chunks, b"")
        begin = kinds.ArtifactChunk(data=first, crc=zlib.crc32(first))
        if size <= _CHUNK_BYTES:
            yield request(batch=kinds.Batch(artifacts=[kinds.SingleChunkArtifact(name=name, data=begin)]))
            return
        count = -(-size // _CHUNK_BYTES)
        yield request(
            begin_chunk=kinds.BeginChunkedArtifact(name=name, total_bytes=size, num_chunks=count, initial_chunk=begin)
        )
        for chunk in chunks:
            yield request(chunk=kinds.ArtifactChunk(data=chunk, crc=zlib.crc32(chunk)))
