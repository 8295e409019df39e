"""The contract of `FileTree`, for the local disk and for S3 (a real server of its protocol on this machine)."""

import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from millpond.catalog.storage import FileTree
from millpond.catalog.storage.local import LocalTree
from millpond.catalog.storage.s3 import S3Tree, client
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    MillpondError,
    NotFound,
    PermissionDenied,
    StorageFull,
)
from millpond.kernel.ids import new_id
from millpond.kernel.settings import S3Settings

MIB = 1 << 20


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    """A server of the S3 protocol with one bucket, in a process of its own, as a store is."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = S3Settings(
        endpoint_url=f"http://127.0.0.1:{port}", access_key_id="key", secret_access_key="secret", allow_http=True
    )
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    with (tmp_path_factory.mktemp("s3") / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for_port(port)
        client(settings).create_bucket(Bucket="lake")
        yield settings
    finally:
        process.kill()
        process.wait()


def wait_for_port(port: int, timeout_s: float = 60) -> None:
    """Until somebody listens."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens on port {port}"
            time.sleep(0.05)
        else:
            return


@pytest.fixture(params=["local", "s3"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> FileTree:
    """An empty tree of each kind."""
    if request.param == "local":
        return LocalTree(tmp_path / "root", shown="/Volumes/c/s/v")
    return S3Tree(f"s3://lake/{new_id()}", request.getfixturevalue("s3"), shown="/Volumes/c/s/v")


@pytest.fixture
def local(tmp_path: Path) -> LocalTree:
    """An empty tree on the disk."""
    return LocalTree(tmp_path / "root", shown="/Volumes/c/s/v")


def put(tree: FileTree, path: str, data: bytes, *, overwrite: bool = False) -> str:
    """Write a file in one go."""
    writer = tree.writer(tuple(path.split("/")))
    try:
        writer.write(data)
        return writer.commit(overwrite=overwrite)
    finally:
        writer.abort()


def get(tree: FileTree, path: str, start: int = 0, length: int = 1 << 40) -> bytes:
    """Read a file, or part of it."""
    parts = tuple(path.split("/"))
    found = tree.status(parts)
    return b"".join(tree.read(parts, start=start, length=min(length, found.size_bytes if found else length)))


def names(tree: FileTree, path: str = "", limit: int = 100) -> list[str]:
    """Everything in a directory, by pages."""
    parts = tuple(path.split("/")) if path else ()
    found, token = [], None
    while True:
        page = tree.list_directory(parts, token=token, limit=limit)
        found += [entry.name + ("/" if entry.is_directory else "") for entry in page.entries]
        token = page.next_token
        if token is None:
            return sorted(found)


def test_what_is_written_is_read(tree: FileTree) -> None:
    """Whole and in part; also nothing at all, and a name of many letters."""
    put(tree, "a/b/ü x%2F+?#&.bin", b"0123456789")
    assert get(tree, "a/b/ü x%2F+?#&.bin") == b"0123456789"
    assert get(tree, "a/b/ü x%2F+?#&.bin", start=3, length=4) == b"3456"
    put(tree, "empty", b"")
    assert get(tree, "empty") == b""
    assert names(tree) == ["a/", "empty"]
    assert names(tree, "a/b") == ["ü x%2F+?#&.bin"]


def test_a_file_is_saved_on_this_machines_disk(tree: FileTree, tmp_path: Path) -> None:
    put(tree, "a/b", b"0123456789")
    put(tree, "empty", b"")
    for number, name in enumerate(["a/b", "empty"]):
        tree.save(tuple(name.split("/")), tmp_path / f"saved {number}")
        assert (tmp_path / f"saved {number}").read_bytes() == get(tree, name)
    with pytest.raises(NotFound):
        tree.save(("gone",), tmp_path / "saved")


def test_a_file_of_many_pieces_is_whole(tree: FileTree) -> None:
    """Larger than what is sent at once."""
    data = os.urandom(MIB) * 40
    writer = tree.writer(("big",))
    for start in range(0, len(data), 3 * MIB):
        writer.write(data[start : start + 3 * MIB])
    writer.commit(overwrite=False)
    assert get(tree, "big") == data


def test_a_file_is_invisible_until_it_is_whole(tree: FileTree) -> None:
    """And leaves nothing when it is given up."""
    writer = tree.writer(("x",))
    writer.write(b"half" * 8 * MIB)
    assert tree.status(("x",)) is None
    assert names(tree) == []
    writer.abort()
    assert tree.sweep(utc_now() + timedelta(days=1)) == 0


def test_an_existing_file_is_replaced_only_when_asked(tree: FileTree) -> None:
    """Else it stays as it was, though somebody else wrote it meanwhile."""
    put(tree, "x", b"first")
    with pytest.raises(AlreadyExists, match="/Volumes/c/s/v/x"):
        put(tree, "x", b"second")
    assert get(tree, "x") == b"first"
    put(tree, "x", b"third", overwrite=True)
    assert get(tree, "x") == b"third"


def test_the_etag_changes_with_the_content(tree: FileTree) -> None:
    """And is the one that the writer gave."""
    first = put(tree, "x", b"first")
    found = tree.status(("x",))
    assert found is not None
    assert (found.etag, found.size_bytes, found.is_directory) == (first, 5, False)
    assert put(tree, "x", b"second", overwrite=True) != first


def test_a_reader_keeps_the_version_it_began_with(tree: FileTree) -> None:
    """While the file is replaced."""
    put(tree, "x", b"a" * 3 * MIB)
    pieces = tree.read(("x",), start=0, length=3 * MIB)
    begun = next(pieces)
    put(tree, "x", b"b" * 3 * MIB, overwrite=True)
    assert set(begun + b"".join(pieces)) == {ord("a")}


def test_directories_are_made_listed_and_removed(tree: FileTree) -> None:
    """Made with those above; removed only when empty."""
    tree.make_directory(("a", "b", "c"))
    tree.make_directory(("a", "b", "c"))
    assert names(tree, "a") == ["b/"]
    assert names(tree, "a/b/c") == []
    with pytest.raises(FailedPrecondition, match="not empty"):
        tree.remove_directory(("a", "b"))
    tree.remove_directory(("a", "b", "c"))
    assert tree.status(("a", "b", "c")) is None


def test_files_and_directories_are_not_confused(tree: FileTree) -> None:
    """Each refusal names the path."""
    put(tree, "d/f", b"x")
    refused = [
        lambda: tree.remove_file(("d",)),
        lambda: tree.make_directory(("d", "f")),
        lambda: tree.remove_directory(("d", "f")),
        lambda: tree.list_directory(("nowhere",), token=None, limit=9),
        lambda: tree.remove_file(("nowhere",)),
        lambda: tree.remove_directory(("nowhere",)),
        lambda: tree.remove_directory(()),
        lambda: tree.writer(()),
        lambda: list(tree.read(("nowhere",), start=0, length=1)),
    ]
    for act in refused:
        with pytest.raises(MillpondError) as caught:
            act()
        assert isinstance(caught.value, (NotFound, InvalidArgument, AlreadyExists, FailedPrecondition))
        assert "/Volumes/c/s/v" in caught.value.message


def test_pages_show_each_name_once(tree: FileTree) -> None:
    """Files and directories together."""
    for number in range(23):
        put(tree, f"p/f{number:02}", b"")
    tree.make_directory(("p", "f05d"))
    assert names(tree, "p", limit=4) == sorted([*(f"f{n:02}" for n in range(23)), "f05d/"])


def test_an_upload_in_parts_is_joined(tree: FileTree) -> None:
    """In the order of numbers, whatever the order of arrival; a part sent again replaces the former."""
    token = tree.begin_upload(("up", "x"))
    etags = {}
    for number, data in ((2, b"b" * 6 * MIB), (1, b"z" * 5 * MIB), (3, b"c"), (1, b"a" * 5 * MIB)):
        part = tree.part_writer(("up", "x"), token, number)
        part.write(data)
        etags[number] = part.commit(overwrite=True)
        part.abort()
    assert tree.status(("up", "x")) is None
    tree.complete_upload(("up", "x"), token, sorted(etags.items()), overwrite=False)
    assert get(tree, "up/x") == b"a" * 5 * MIB + b"b" * 6 * MIB + b"c"
    assert tree.sweep(utc_now() + timedelta(days=1)) == 0


def test_parts_that_do_not_fit_are_refused(tree: FileTree) -> None:
    """A wrong ETag, a missing part; then the upload can still be given up."""
    token = tree.begin_upload(("x",))
    part = tree.part_writer(("x",), token, 1)
    part.write(b"data")
    etag = part.commit(overwrite=True)
    part.abort()
    for etags in ([(1, '"other"')], [(1, etag), (2, etag)]):
        with pytest.raises(InvalidArgument):
            tree.complete_upload(("x",), token, etags, overwrite=False)
    tree.abort_upload(("x",), token)
    tree.abort_upload(("x",), token)
    assert tree.status(("x",)) is None


def test_an_upload_that_ended_is_not_completed(local: LocalTree) -> None:
    """Nor does it take more parts."""
    token = local.begin_upload(("x",))
    local.abort_upload(("x",), token)
    with pytest.raises(NotFound, match="ended"):
        local.complete_upload(("x",), token, [(1, '"e"')], overwrite=False)
    with pytest.raises(NotFound, match="ended"):
        local.part_writer(("x",), token, 1)


def test_leftovers_of_a_crash_are_swept_when_old(tree: FileTree) -> None:
    """Not those that are still written."""
    token = tree.begin_upload(("x",))
    part = tree.part_writer(("x",), token, 1)
    part.write(b"data")
    part.commit(overwrite=True)
    part.abort()
    assert tree.sweep(datetime(2000, 1, 1, tzinfo=UTC)) == 0
    assert tree.sweep(utc_now() + timedelta(hours=1)) == 1
    assert names(tree) == []


def test_all_is_removed_more_than_once(tree: FileTree) -> None:
    """As a janitor that was cut off does."""
    put(tree, "a/b", b"x")
    tree.remove_all()
    tree.remove_all()
    assert tree.status(("a", "b")) is None


def test_an_empty_root_is_an_empty_directory(tree: FileTree) -> None:
    """Though nobody has made it."""
    assert names(tree) == []


def test_links_are_not_followed(local: LocalTree, tmp_path: Path) -> None:
    """Not to read, write, list or remove, at the end or on the way; they are not listed either."""
    put(local, "d/f", b"mine")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    root = tmp_path / "root"
    (root / "dir").symlink_to(tmp_path / "secret")
    (root / "file").symlink_to(tmp_path / "secret" / "key")
    acts = [
        lambda: list(local.read(("dir", "key"), start=0, length=9)),
        lambda: list(local.read(("file",), start=0, length=9)),
        lambda: local.save(("dir", "key"), tmp_path / "saved"),
        lambda: local.save(("file",), tmp_path / "saved"),
        lambda: local.list_directory(("dir",), token=None, limit=9),
        lambda: put(local, "dir/new", b"x", overwrite=True),
        lambda: local.make_directory(("dir", "new")),
        lambda: local.remove_file(("dir", "key")),
        lambda: local.remove_directory(("dir",)),
    ]
    for act in acts:
        with pytest.raises((NotFound, InvalidArgument, PermissionDenied)):
            act()
    assert names(local) == ["d/"]
    assert not (tmp_path / "saved").exists()
    assert local.status(("file",)) is None
    put(local, "file", b"replaced", overwrite=True)
    assert (tmp_path / "secret" / "key").read_text() == "secret"


def test_a_root_that_became_a_link_is_not_followed(local: LocalTree, tmp_path: Path) -> None:
    """Neither to read nor to write, though it was a directory when the tree was made."""
    put(local, "f", b"mine")
    token = local.begin_upload(("g",))
    (tmp_path / "root").rename(tmp_path / "secret")
    (tmp_path / "root").symlink_to(tmp_path / "secret")
    acts = [
        lambda: list(local.read(("f",), start=0, length=9)),
        lambda: local.status(("f",)),
        lambda: local.list_directory((), token=None, limit=9),
        lambda: put(local, "new", b"x"),
        lambda: local.make_directory(("new",)),
        lambda: local.remove_file(("f",)),
        lambda: local.begin_upload(("g",)),
        lambda: local.part_writer(("g",), token, 1),
    ]
    for act in acts:
        with pytest.raises((NotFound, InvalidArgument)):
            act()
    assert local.status(()) is None
    assert local.sweep(utc_now() + timedelta(days=1)) == 0
    assert {each.name for each in (tmp_path / "secret").rglob("*")} == {".millpond", token, "f"}


def test_what_is_no_file_is_not_opened(local: LocalTree, tmp_path: Path) -> None:
    """A FIFO would hang the server."""
    local.make_directory(())
    os.mkfifo(tmp_path / "root" / "pipe")
    with pytest.raises(InvalidArgument, match="not a file"):
        list(local.read(("pipe",), start=0, length=1))
    assert names(local) == []


def test_one_of_many_writers_creates_a_file(local: LocalTree) -> None:
    """Without overwrite, exactly one; and the file is one of theirs, whole."""
    barrier, won = threading.Barrier(8), []

    def write(number: int) -> None:
        barrier.wait()
        try:
            put(local, "x", bytes([number]) * MIB)
            won.append(number)
        except AlreadyExists:
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert get(local, "x") == bytes(won) * MIB


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """A disk that is full after so many bytes of a file, for root and for everybody."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_and_leaves_nothing(local: LocalTree, tmp_path: Path) -> None:
    """The file before stays; no half of the new one stays."""
    put(local, "x", b"before")
    with no_file_larger_than(4 * MIB), pytest.raises(StorageFull, match="no room left"):
        put(local, "x", b"y" * 9 * MIB, overwrite=True)
    assert get(local, "x") == b"before"
    assert sorted(path.name for path in (tmp_path / "root").rglob("*") if path.is_file()) == ["x"]


def test_a_full_disk_while_joining_keeps_the_parts(local: LocalTree) -> None:
    """So that the upload can be completed when there is room."""
    token, etags = local.begin_upload(("x",)), []
    for number in (1, 2):
        part = local.part_writer(("x",), token, number)
        part.write(b"p" * 3 * MIB)
        etags.append((number, part.commit(overwrite=True)))
    with no_file_larger_than(4 * MIB), pytest.raises(StorageFull):
        local.complete_upload(("x",), token, etags, overwrite=False)
    assert local.status(("x",)) is None
    local.complete_upload(("x",), token, etags, overwrite=False)
    assert get(local, "x") == b"p" * 6 * MIB
