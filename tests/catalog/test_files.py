"""The Files API over HTTP: paths, ranges, refusals, and uploads that break off, on both databases."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from millpond.catalog import locations
from millpond.catalog.domain import ObjectName, Volume
from millpond.catalog.files import Place
from millpond.catalog.storage.local import LocalTree
from millpond.identity.domain import Principal
from millpond.kernel.errors import NotFound
from tests.catalog.conftest import Site
from tests.catalog.test_storage import MIB, no_file_larger_than

FILES, DIRECTORIES = "/api/2.0/fs/files", "/api/2.0/fs/directories"
V = "/Volumes/sales/default/v"


@pytest.fixture
def volume(site: Site) -> Volume:
    """A volume of alice's."""
    site.catalog.create_catalog(site.people.alice, name="sales")
    return site.catalog.create_volume(site.people.alice, ObjectName.parse("sales.default.v"))


@pytest.fixture
def http(site: Site, volume: Volume) -> Iterator[httpx.Client]:
    """HTTP as alice."""
    with site.http(site.people.alice) as client:
        yield client


def on_disk(volume: Volume) -> list[str]:
    """Every file and directory below the volume."""
    root = locations.local_path(volume.storage_location)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def eventually(check: Callable[[], bool], timeout_s: float = 20) -> bool:
    """Whether a condition comes true before a deadline."""
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


RANGES = [
    (None, 200, b"0123456789", None),
    ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
    ("bytes=7-", 206, b"789", "bytes 7-9/10"),
    ("bytes=-4", 206, b"6789", "bytes 6-9/10"),
    ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
    ("bytes=10-", 416, b"", "bytes */10"),
    ("bytes=-0", 416, b"", "bytes */10"),
    ("bytes=5-2", 200, b"0123456789", None),
    ("bytes=0-1,3-4", 200, b"0123456789", None),
    ("lines=1-2", 200, b"0123456789", None),
]


def test_ranges(http: httpx.Client) -> None:
    """As RFC 9110 has them; several at once are answered with the whole."""
    assert http.put(f"{FILES}{V}/x", content=b"0123456789").status_code == 204
    for header, *expected in RANGES:
        answer = http.get(f"{FILES}{V}/x", headers={"Range": header} if header else {})
        assert [answer.status_code, answer.content, answer.headers.get("content-range")] == expected, header


def test_a_head_tells_what_a_get_would(http: httpx.Client) -> None:
    """Without a body; as a download that no browser runs."""
    etag = http.put(f"{FILES}{V}/page.html", content=b"<script>").headers["etag"]
    head, got = http.head(f"{FILES}{V}/page.html"), http.get(f"{FILES}{V}/page.html")
    for key in ("content-length", "content-type", "last-modified", "etag", "x-content-type-options"):
        assert head.headers[key] == got.headers[key]
    assert (head.headers["etag"], head.headers["content-length"], head.content) == (etag, "8", b"")
    assert head.headers["content-type"] == "application/octet-stream"


def test_a_changed_file_is_not_continued(http: httpx.Client) -> None:
    """A download that goes on after a break asks for the version it began with."""
    http.put(f"{FILES}{V}/x", content=b"0123456789")
    old, now = "Mon, 01 Jan 2024 00:00:00 GMT", http.head(f"{FILES}{V}/x").headers["last-modified"]
    assert http.get(f"{FILES}{V}/x", headers={"If-Unmodified-Since": old}).status_code == 412
    assert http.get(f"{FILES}{V}/x", headers={"If-Unmodified-Since": now, "Range": "bytes=5-"}).content == b"56789"


NOWHERE = {
    f"{V}/%2e%2e/x": 400, f"{V}/a%2F..%2F..%2Fx": 400, f"{V}/a%00b": 400, f"{V}/%FF%FE": 400, f"{V}/a%09b": 400,
    f"{V}/..%5C..%5Cx": 400, f"{V}/{'x' * 256}": 400, f"{V}/.millpond/x": 400, f"{V}": 400,
    "/Volumes/sales/default": 400, "/Volumes/sales/default/nope/x": 404, "/etc/passwd": 404, "//etc/passwd": 404,
    "/Volumes/sales'--/default/v/x": 404, "/WorkspaceInternal/Mlflow/x": 404, f"{V}/a%0Ab": 404,
}  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_paths_that_lead_nowhere(http: httpx.Client, volume: Volume, method: str) -> None:
    """Each is refused with a code that the SDK knows, and touches nothing."""
    for path, status in NOWHERE.items():
        with socket.create_connection((http.base_url.host, http.base_url.port or 80)) as raw:
            head = f"{method} {FILES}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: {http.headers['authorization']}\r\n"
            raw.sendall(f"{head}Content-Length: 1\r\nConnection: close\r\n\r\nx".encode())
            answer = b"".join(iter(lambda: raw.recv(65536), b"")).decode()
        assert int(answer.split()[1]) == status, answer
        assert '"error_code"' in answer
    assert on_disk(volume) == []


def test_names_of_all_kinds_are_kept(http: httpx.Client, volume: Volume) -> None:
    """Encoded by the client, decoded once."""
    for name in ("a b", "ü", "a%2Fb", "?q=1", "#f", "a+b", "'quoted\"", "*.csv", "C:", "日本", "~", "-rf"):
        assert http.put(f"{FILES}{V}/d/{quote(name)}", content=name.encode()).status_code == 204, name
        assert http.get(f"{FILES}{V}/d/{quote(name)}").content == name.encode()
    listed = http.get(f"{DIRECTORIES}{V}/d").json()["contents"]
    assert {entry["name"] for entry in listed} == {name.split("/")[-1] for name in on_disk(volume) if "/" in name}
    assert listed[0].keys() == {"path", "name", "is_directory", "file_size", "last_modified"}


def test_others_get_nothing(site: Site, http: httpx.Client) -> None:
    """Not even that there is a volume; and no way past the door without a token."""
    http.put(f"{FILES}{V}/x", content=b"secret")
    with site.http(site.people.bob) as other:
        for method, url in (
            ("GET", f"{FILES}{V}/x"), ("PUT", f"{FILES}{V}/y"), ("DELETE", f"{FILES}{V}/x"),
            ("POST", f"{FILES}{V}/y?action=initiate-upload"), ("GET", f"{DIRECTORIES}{V}"),
            ("PUT", f"{DIRECTORIES}{V}/d"), ("POST", f"/api/2.0/fs/create-download-url?path={V}/x"),
        ):  # fmt: skip
            assert other.request(method, url).status_code == 404, (method, url)
    assert httpx.get(f"{site.url}{FILES}{V}/x").status_code == 401


def test_an_upload_that_breaks_off_leaves_nothing(
    http: httpx.Client, volume: Volume, capsys: pytest.CaptureFixture[str]
) -> None:
    """The connection ends before the announced length; the log does not call that a failure of the server."""
    with socket.create_connection((http.base_url.host, http.base_url.port or 80)) as raw:
        head = f"PUT {FILES}{V}/x HTTP/1.1\r\nHost: x\r\nAuthorization: {http.headers['authorization']}\r\n"
        raw.sendall(f"{head}Content-Length: {8 * MIB}\r\n\r\n".encode() + b"x" * 3 * MIB)
        assert eventually(lambda: len(on_disk(volume)) == 2)
    assert eventually(lambda: on_disk(volume) == [".millpond"])
    assert http.get(f"{FILES}{V}/x").status_code == 404
    assert "request failed" not in capsys.readouterr().out


def test_a_full_disk_answers_507_and_leaves_nothing(http: httpx.Client, volume: Volume) -> None:
    """A status that no client retries; the server lives on."""
    http.put(f"{FILES}{V}/x", content=b"before")
    with no_file_larger_than(20 * MIB):
        answer = http.put(f"{FILES}{V}/x?overwrite=true", content=b"x" * 25 * MIB)
    assert (answer.status_code, answer.json()["error_code"]) == (507, "RESOURCE_EXHAUSTED")
    assert http.get(f"{FILES}{V}/x").content == b"before"
    assert on_disk(volume) == [".millpond", "x"]


def test_a_presigned_url_opens_one_path_only(site: Site, http: httpx.Client) -> None:
    """With the header that goes with it, and without the client's own token."""
    http.put(f"{FILES}{V}/x", content=b"data")
    http.put(f"{FILES}{V}/y", content=b"other")
    link = http.post("/api/2.0/fs/create-download-url", json={"path": f"dbfs:{V}/x"}).json()
    headers = {item["name"]: item["value"] for item in link["headers"]}
    assert httpx.get(link["url"], headers=headers).content == b"data"
    assert httpx.get(link["url"].replace("/v/x", "/v/y"), headers=headers).status_code == 403
    for method in ("PUT", "DELETE"):
        assert httpx.request(method, link["url"], headers=headers).status_code == 403
    assert httpx.get(f"{site.url}/api/2.1/unity-catalog/catalogs", headers=headers).status_code == 403
    up = http.post("/api/2.0/fs/create-upload-url", params={"path": f"{V}/z z"}).json()
    headers = {item["name"]: item["value"] for item in up["headers"]}
    assert httpx.put(up["url"], headers=headers, content=b"new").status_code == 204
    assert http.get(f"{FILES}{V}/z z").content == b"new"


def test_a_narrow_token_gets_no_url_that_leads_further(site: Site, http: httpx.Client) -> None:
    """Users' code has one for MLflow's paths, that of others too: a model's, which somebody else has pickled."""
    http.put(f"{FILES}{V}/x", content=b"data")
    signing = "/api/2.0/fs/create-download-url"
    for paths, status in (((signing, f"{FILES}/Models"), 403), ((signing, f"{FILES}{V}"), 200)):
        token = site.people.identity.mint(site.people.alice, 60, paths=paths)
        answer = httpx.post(site.url + signing, json={"path": f"{V}/x"}, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status, answer.text
        assert httpx.post(site.url + signing, json={"path": f"{V}/x"}, auth=("token", token)).status_code == status


def test_an_upload_session_is_its_makers(site: Site, http: httpx.Client) -> None:
    """For one path; and bad numbers, actions and bodies are named."""
    begun = http.post(f"{FILES}{V}/x", params={"action": "initiate-upload"}).json()
    token = begun["multipart_upload"]["session_token"]
    site.catalog.update_volume(site.people.alice, ObjectName.parse("sales.default.v"), owner=site.people.bob.name)
    with site.http(site.people.bob) as other:
        query = {"session_token": token, "part_number": 1}
        assert other.put(f"{FILES}{V}/x", params=query, content=b"x").status_code == 404
    site.catalog.update_volume(site.people.admin, ObjectName.parse("sales.default.v"), owner=site.people.alice.name)
    assert http.put(f"{FILES}{V}/y", params={"session_token": token, "part_number": 1}).status_code == 404
    for number in ("0", "10001", "x"):
        answer = http.put(f"{FILES}{V}/x", params={"session_token": token, "part_number": number}, content=b"x")
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    complete = {"action": "complete-upload", "session_token": token}
    for body in ({}, {"parts": []}, {"parts": [{"part_number": 2, "etag": "x"}]}, {"parts": [{"part_number": 1}]}):
        assert http.post(f"{FILES}{V}/x", params=complete, json=body).status_code == 400
    assert http.post(f"{FILES}{V}/x", params={"action": "nonsense"}).status_code == 400


def test_another_room_answers_for_its_prefix(site: Site, http: httpx.Client, tmp_path: Path) -> None:
    """With its own rights and its own tree."""

    def resolve(principal: Principal, parts: tuple[str, ...], write: bool) -> Place:
        if principal.id != site.people.alice.id:
            raise NotFound("Nothing here.")
        return Place(tree=LocalTree(tmp_path / "artifacts", shown="/WorkspaceInternal/Mlflow"), parts=parts)

    site.files.register("WorkspaceInternal/Mlflow", resolve)
    path = "/WorkspaceInternal/Mlflow/Artifacts/1/Runs/2/model.pkl"
    assert http.put(f"{FILES}{path}", content=b"model").status_code == 204
    assert http.get(f"{FILES}{path}").content == b"model"
    assert (tmp_path / "artifacts/Artifacts/1/Runs/2/model.pkl").read_bytes() == b"model"
    with site.http(site.people.bob) as other:
        assert other.get(f"{FILES}{path}").status_code == 404


def test_a_gigabyte_does_not_live_in_memory(site: Site, http: httpx.Client) -> None:
    """Up in one piece and down again, while the server's memory stays where it was."""
    size, piece = 1 << 30, os.urandom(MIB)

    def pieces() -> Iterator[bytes]:
        for _ in range(size // MIB):
            yield piece

    http.put(f"{FILES}{V}/warm", content=b"x")
    before = peak_memory_bytes(reset=True)
    answer = http.put(f"{FILES}{V}/big", content=pieces(), timeout=250)
    assert answer.status_code == 204
    received = 0
    with http.stream("GET", f"{FILES}{V}/big", timeout=250) as stream:
        for chunk in stream.iter_bytes(4 * MIB):
            received += len(chunk)
    assert received == size
    assert peak_memory_bytes() - before < 200 * MIB


def peak_memory_bytes(*, reset: bool = False) -> int:
    """The most memory that this process (server and client) has held; from now on, when reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
