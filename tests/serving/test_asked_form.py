"""How a request is to be answered is seen without making objects of all that it holds."""

import asyncio
import tracemalloc
from collections.abc import Callable

import pytest

from millpond.kernel.errors import InvalidArgument
from millpond.serving.event_stream import endpoint_in, without_endpoint
from millpond.serving.streaming import may_want_stream, wants_stream

MANY = b"[" + b"[]," * 300_000 + b"{}]"


def peak_bytes(work: Callable[[], object]) -> int:
    """The most memory that Python objects took."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def asks(body: bytes) -> bool:
    """Whether a request asks for parts."""
    return may_want_stream("application/json", body) and asyncio.run(wants_stream(body))


@pytest.mark.parametrize("body", [b'{"stream": true , "inputs": [1]}', b'{"inputs":[1],"stream":\n true\n}'])
def test_a_wish_for_parts_is_found_at_the_top(body: bytes) -> None:
    assert asks(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"stream": false}', b'{"stream": "true"}', b'{"stream": null}', b'[{"stream": true}]', b'{"a": ["stream"]}',
        b'{"inputs": {"stream": true}}', b'{"stream": true', b"[" * 100_000 + b'"stream"',
    ],
)  # fmt: skip
def test_nothing_else_is_one(body: bytes) -> None:
    assert not asks(body)


def test_other_types_than_json_have_none() -> None:
    assert not may_want_stream("text/csv", b'"stream"')


def test_a_large_request_makes_no_objects() -> None:
    wishing, named = b'{"a": ' + MANY + b', "stream": true}', b'{"a": ' + MANY + b', "model": "it"}'
    assert peak_bytes(lambda: asks(wishing)) < 1 << 20
    assert peak_bytes(lambda: endpoint_in(named)) < 1 << 20
    assert peak_bytes(lambda: asyncio.run(without_endpoint(named))) < 4 * len(named)
    assert endpoint_in(named) == "it"


def test_all_but_the_endpoint_goes_to_the_model_as_it_is() -> None:
    body = b'{"n": 1.0e2, "model": "it", "messages": [{"model": "x"}], "text": "gr\\u00f6\\u00dfe"}'
    left = asyncio.run(without_endpoint(body))
    assert left == b'{"n":1.0e2,"messages":[{"model": "x"}],"text":"gr\\u00f6\\u00dfe"}'


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"model": 1}', b'{"model": ""}', b'"it"'])
def test_a_request_without_an_endpoint_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArgument, match="needs the name"):
        endpoint_in(body)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a": ' + b"[" * 100_000, b'{"model": "it"} x'])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArgument, match="not JSON"):
        endpoint_in(body)


def test_too_many_names_are_refused() -> None:
    body = b'{"model": "it", ' + b",".join(b'"%d":1' % number for number in range(100_000)) + b"}"
    with pytest.raises(InvalidArgument, match="more than 100000 names"):
        asyncio.run(without_endpoint(body))
