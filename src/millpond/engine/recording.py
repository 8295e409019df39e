"""What the audit is told of Spark Connect's calls: who, which session and operation, which statement, what it reached.

Never the text of a statement, which may hold values of rows: its kind, and the names that were bound. An answer begins
when its event is written. Calls that only keep a session going (settings, releases) are told when they fail.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import lru_cache, partial
from typing import Any, TypeVar
from urllib.parse import unquote

from millpond.engine.wire import as_spark_error
from millpond.identity import acts
from millpond.identity.domain import Principal
from millpond.journal import calls
from millpond.journal.calls import Call
from millpond.kernel.errors import MillpondError

T = TypeVar("T")

_EXECUTE = "ExecutePlan"
_TOLD = frozenset({_EXECUTE, "AnalyzePlan", "AddArtifacts"})
_STATUS_OF_STATE = {"42501": 403, "28000": 401, "42P01": 404, "42704": 404, "0A000": 501, "53000": 429}
_REQUEST_IS_WRONG = frozenset({"0A", "22", "42", "46", "56"})
"""Classes of SQLSTATE that say so."""
_CANCELLED = 499
_INTERNAL_ERROR = 500


class recorded:
    """One call of a client. What it executes goes on by itself, and is told by `operating`.

    A class, as each query makes seven calls, and generators within generators took a twentieth of its time.
    """

    def __init__(self, method: str, context: Any) -> None:
        self._method = method
        self._call = Call(door="spark", act=method, kind="plan", name="", address=_address(context.peer()))
        self._call.silent = method not in _TOLD

    def __enter__(self) -> None:
        self._reset = calls.begin(self._call)

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        call = self._call
        try:
            if isinstance(error, Exception):
                call.end(*_outcome(error))
            elif error is None:
                if self._method == "AnalyzePlan":
                    call.silent = not call.objects  # then it told nothing of the catalog
                if self._method != _EXECUTE:
                    call.end(calls.OK)
        finally:
            calls.over(self._reset)


@contextmanager
def operating() -> Iterator[None]:
    """The work of an operation, which may outlast the call that began it."""
    call = calls.current()
    assert call is not None, "an operation begins within a call"
    try:
        with _failures(call):
            yield
            call.end(calls.OK)
    except asyncio.CancelledError:
        call.end(_CANCELLED, "OPERATION_CANCELED")
        raise


@contextmanager
def batch(principal: Principal, session: str, agent: str, query: str) -> Iterator[None]:
    """One batch of a streaming query, which no call of a client began."""
    call = Call(door="spark", act="StreamingBatch", kind="plan", name="writeStream", session=session, agent=agent)
    call.request = query
    with calls.during(call):
        acts.identified(principal)
        with _failures(call):
            yield
            call.end(calls.OK)


def answering() -> None:
    """The current operation is about to answer."""
    call = calls.current()
    if call is not None:
        call.end(calls.OK)


def note(request: Any) -> None:
    """What a request says about itself."""
    call = calls.current()
    if call is not None:
        call.session, call.agent = request.session_id, request.client_type
        call.request = getattr(request, "operation_id", "") or call.request


def within_call(work: Callable[..., T]) -> Callable[..., T]:
    """The work, to be done on a thread of an executor and yet within the current call."""
    return partial(copy_context().run, work)


@contextmanager
def _failures(call: Call) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        call.end(*_outcome(error))
        raise


def _outcome(error: Exception) -> tuple[int, str]:
    if not isinstance(error, MillpondError):
        return _INTERNAL_ERROR, "INTERNAL_ERROR"
    spark = as_spark_error(error)
    default = 400 if spark.sql_state[:2] in _REQUEST_IS_WRONG else _INTERNAL_ERROR
    return _STATUS_OF_STATE.get(spark.sql_state, default), spark.error_class


@lru_cache(1000)
def _address(peer: str) -> str:
    """`ipv4:127.0.0.1:4711`, `ipv6:%5B::1%5D:4711` or `unix:` as an address."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in {"ipv4", "ipv6"} else kind
