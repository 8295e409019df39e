"""Artifacts on a disk and in an object store keep the same promises."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from millpond.kernel.errors import InvalidArgument, NotFound, StorageFull
from millpond.kernel.settings import S3Settings
from millpond.tracking.artifact_files import ArtifactFiles, LocalFiles
from millpond.tracking.embed import _artifact_files

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # boto3's and moto's own


@pytest.fixture(scope="module")
def bucket() -> Iterator[S3Settings]:
    """An object store with an empty bucket `pond`."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = S3Settings(
        endpoint_url=f"http://{host}:{port}", access_key_id="key", secret_access_key="secret", allow_http=True
    )
    client = boto3.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name=settings.region,
    )
    client.create_bucket(Bucket="pond")
    client.close()
    yield settings
    server.stop()


@pytest.fixture(params=["disk", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactFiles:
    """An empty root."""
    if request.param == "disk":
        return LocalFiles(tmp_path)
    for name in ("MLFLOW_S3_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "")  # so that it goes again, which `_artifact_files` sets
        monkeypatch.delenv(name)
    found, _repository = _artifact_files(f"s3://pond/{tmp_path.name}/artifacts", request.getfixturevalue("bucket"))
    return found


def put(files: ArtifactFiles, path: str, *pieces: bytes) -> None:
    """Write a file."""
    writer = files.writer(path)
    for piece in pieces:
        writer.write(piece)
    writer.commit()
    writer.abort()  # harmless now


def content(files: ArtifactFiles, path: str) -> bytes:
    """Read a file."""
    place, is_copy = files.fetch(path)
    data = place.read_bytes()
    if is_copy:
        place.unlink()
        place.parent.rmdir()
    return data


def test_what_is_written_is_read_listed_and_deleted(files: ArtifactFiles) -> None:
    put(files, "7/run/artifacts/größe ✓.txt", b"one ", b"two")
    put(files, "7/run/artifacts/deep/b", b"")
    assert content(files, "7/run/artifacts/größe ✓.txt") == b"one two"
    assert sorted(files.list("7/run/artifacts")) == [("deep", True, None), ("größe ✓.txt", False, 7)]
    files.delete("7/run/artifacts/deep/b")
    assert files.list("7/run/artifacts/deep") == []
    with pytest.raises(NotFound):
        files.fetch("7/run/artifacts/deep/b")


def test_a_file_is_replaced_whole(files: ArtifactFiles) -> None:
    put(files, "7/run/note", b"first, and longer")
    put(files, "7/run/note", b"second")
    assert content(files, "7/run/note") == b"second"


def test_nothing_remains_of_a_broken_upload(files: ArtifactFiles) -> None:
    writer = files.writer("7/run/part")
    writer.write(b"half")
    writer.abort()
    with pytest.raises(NotFound):
        files.fetch("7/run/part")
    assert files.list("7/run") == []


def test_what_is_not_there_is_named(files: ArtifactFiles) -> None:
    with pytest.raises(NotFound, match="7/run/missing"):
        files.fetch("7/run/missing")
    assert files.list("7/nowhere") == []


@pytest.mark.parametrize("path", ["../x", "/x", "7/../../x", "", "7//x"])
def test_paths_stay_below_the_root(files: ArtifactFiles, path: str) -> None:
    for act in (files.writer, files.fetch, files.delete, files.list):
        with pytest.raises(InvalidArgument):
            act(path)


def test_a_link_out_of_the_root_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "root" / "out").symlink_to(tmp_path)
    files = LocalFiles(tmp_path / "root")
    for path in ("link", "out/secret"):
        with pytest.raises(InvalidArgument):
            files.fetch(path)
        with pytest.raises(InvalidArgument):
            files.writer(path)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    put(files, "7/file", b"x")
    for path in ("7/file/below", "7"):
        with pytest.raises(InvalidArgument):
            files.writer(path)


def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path) -> None:
    writer: Any = LocalFiles(tmp_path).writer("7/file")
    writer._file.close()

    class Full:
        def write(self, _data: bytes) -> None:
            raise OSError(errno.ENOSPC, "no space")

        def close(self) -> None:
            pass

    writer._file = Full()
    with pytest.raises(StorageFull, match="disk that holds the artifacts is full"):
        writer.write(b"x")
    writer.abort()
    assert list((tmp_path / "7").iterdir()) == []
