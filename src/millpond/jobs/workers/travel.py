"""A task on its way to a worker: its files and what its process is told, in one archive."""

import io
import json
import tarfile
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from millpond.jobs.carrying import Order

_TOLD = "travel.json"
_PACKAGE = Path(__file__).parents[2]


def packed(directory: Path, order: Order) -> IO[bytes]:
    """The archive of a task's directory; a file without a name, gone when it is closed."""
    archive = tempfile.TemporaryFile(dir=directory.parent)  # noqa: SIM115 - whoever sends it closes it
    told = {"order": asdict(order), "directory": str(directory), "package": str(_PACKAGE)}
    data = json.dumps(told).encode()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        about = tarfile.TarInfo(_TOLD)
        about.size = len(data)
        tar.addfile(about, io.BytesIO(data))
        tar.add(directory, arcname=".", filter=_plain)
    archive.seek(0)
    return archive


def unpacked(archive: IO[bytes], directory: Path) -> Order:
    """What is to be done, once the files lie in a directory of this machine."""
    told: dict[str, Any] = {}
    with tarfile.open(fileobj=archive, mode="r|") as tar:
        for member in tar:
            if member.name == _TOLD and not told:
                stream = tar.extractfile(member)
                assert stream is not None
                told = json.loads(stream.read())
            else:
                tar.extract(member, directory, filter="data")
    before, package = Path(told["directory"]), Path(told["package"])
    return Order(**told["order"]).moved(before, package, directory)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return member if member.isreg() or member.isdir() else None
