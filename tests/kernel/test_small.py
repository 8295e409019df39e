"""Ids, pages, masks and error shapes."""

import uuid

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from millpond.kernel.errors import AlreadyExists, InvalidArgument, NotFound
from millpond.kernel.http import install_error_handlers
from millpond.kernel.ids import new_id
from millpond.kernel.logs import mask_secrets
from millpond.kernel.paging import cut_page, decode_token, encode_token, page_size


def test_ids_are_unique_and_of_version_7() -> None:
    """RFC 9562: version and variant bits are set."""
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {(uuid.UUID(value).version, uuid.UUID(value).variant) for value in ids} == {(7, uuid.RFC_4122)}


@given(st.text())
def test_page_tokens_carry_any_key(key: str) -> None:
    """A key of any characters comes back from its token."""
    key = key.encode(errors="replace").decode()
    assert decode_token(encode_token(key)) == (key or None)


@given(st.lists(st.integers(0, 10_000), unique=True), st.integers(1, 50))
def test_pages_put_together_are_the_list(values: list[int], size: int) -> None:
    """Following the tokens gives each item once, in order."""
    rows = [f"{value:05}" for value in sorted(values)]
    seen: list[str] = []
    token = None
    while True:
        after = decode_token(token)
        page = cut_page([row for row in rows if after is None or row > after][: size + 1], size, str)
        seen += page.items
        token = page.next_page_token
        if token is None:
            break
    assert seen == rows


@pytest.mark.parametrize("token", ["%%%", "\N{SNOWMAN}", "a"])
def test_a_foreign_page_token_is_refused(token: str) -> None:
    """Rubbish is the client's error, not ours."""
    with pytest.raises(InvalidArgument):
        decode_token(token)


def test_page_sizes_are_bounded() -> None:
    """0 asks for the server's size; a large one is cut; a negative one is refused."""
    assert (page_size(0), page_size(None), page_size(10**9)) == (100, 100, 1000)
    with pytest.raises(InvalidArgument):
        page_size(-1)


@pytest.mark.parametrize(
    "secret",
    [
        "dapi" + "0123456789abcdef" * 4,
        "Bearer abcdefghijklmnop",
        "Basic dXNlcjpwYXNzd29yZA==",
        "eyJhbGciOi.eyJzdWIi.sig",
    ],
)
def test_credentials_are_masked_in_logs(secret: str) -> None:
    """What identifies a secret may stay; what is secret may not."""
    masked = mask_secrets(f"request with {secret} failed")
    assert secret not in masked
    assert secret.split()[-1][-8:] not in masked


@pytest.fixture
def client() -> TestClient:
    """An application whose routes fail in each way."""
    app = FastAPI()
    install_error_handlers(app)
    failures = {
        "missing": NotFound("Table 'x' does not exist."),
        "taken": AlreadyExists("Name 'x' is taken."),
        "bug": RuntimeError("secret detail"),
    }
    for prefix in ("/api/2.1/unity-catalog", "/api/2.0/mlflow", "/api/2.0/preview/scim/v2"):

        @app.get(prefix + "/{which}")
        def fail(which: str, number: int = 0) -> None:
            raise failures[which]

    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/api/2.1/unity-catalog/missing", 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "details": []}),
        ("/api/2.1/unity-catalog/taken", 409, {"error_code": "RESOURCE_ALREADY_EXISTS"}),
        ("/api/2.0/mlflow/taken", 400, {"error_code": "RESOURCE_ALREADY_EXISTS"}),
        ("/api/2.0/preview/scim/v2/missing", 404, {"status": "404", "detail": "Table 'x' does not exist."}),
        ("/api/2.0/preview/scim/v2/taken", 409, {"scimType": "uniqueness"}),
        ("/api/2.1/unity-catalog/bug", 500, {"error_code": "INTERNAL_ERROR"}),
        ("/api/2.1/unity-catalog/bug?number=x", 400, {"error_code": "INVALID_PARAMETER_VALUE"}),
    ],
)
def test_errors_have_the_shape_of_their_client(
    client: TestClient, path: str, status: int, body: dict[str, object]
) -> None:
    """Each dialect gets its own status and fields, and no detail of a failure inside."""
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.json().items() >= body.items()
    assert "secret detail" not in answer.text
