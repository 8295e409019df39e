"""Sessions for MLflow's stores: on our engine, begun the way our database wants it, seeing only what the asker may.

Two rules live here. A session that writes begins IMMEDIATE on SQLite, so that MLflow's read-then-write cannot lose
updates or fail half-way; and as MLflow nests its sessions, an inner writing session is the outer one. Every ORM
statement of a session carries the criteria that limit it to what the principal may see or change.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2
from sqlalchemy import CursorResult, Select, event, exc
from sqlalchemy.orm import ORMExecuteState, Session, sessionmaker

from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, MillpondError
from millpond.kernel.logs import get_logger

log = get_logger(__name__)

Criteria = Callable[[bool], Sequence[Any]]
"""The loader criteria of the current principal; the argument says whether the session writes."""
Execute = Callable[[Select[Any], Mapping[str, Any]], CursorResult[Any]]
KEPT_LIMITS = 100
"""Criteria of so many principals are kept: to make them takes longer than a short read. They follow from what a
principal is, with its grants, alone; rights that were changed make another principal of it."""
_KEPT = 300


def to_mlflow_error(error: MillpondError) -> MlflowException:
    """Our error as MLflow's, with the same code."""
    code = error.code if error.code in databricks_pb2.ErrorCode.keys() else "INTERNAL_ERROR"  # noqa: SIM118 - an enum
    kind = _Precondition if isinstance(error, FailedPrecondition) else MlflowException
    return kind(error.message, error_code=databricks_pb2.ErrorCode.Value(code))


class _Precondition(MlflowException):  # type: ignore[misc]  # MLflow ships no types
    """A state in which something cannot be done: clients would repeat MLflow's 500 for minutes."""

    def get_http_status_code(self) -> int:
        """As our other routes answer it."""
        return 400


@contextmanager
def mlflow_errors() -> Iterator[None]:
    """Errors of ours leave the block as MLflow's."""
    try:
        yield
    except MillpondError as error:
        raise to_mlflow_error(error) from error


class SessionMaker:
    """What MLflow calls `ManagedSessionMaker`: `with maker(read_only=False) as session`."""

    def __init__(self, database: Database, criteria: Criteria) -> None:
        self._database = database
        self._criteria = criteria
        self._reading = sessionmaker(database.reading)
        self._writing = sessionmaker(database.engine.execution_options(millpond_begin="BEGIN IMMEDIATE"))
        self._active = threading.local()

    def __call__(self, read_only: bool = True) -> AbstractContextManager[Session]:
        """A session that commits when the block ends and rolls back when it raises."""
        if not read_only and getattr(self._active, "session", None) is not None:
            return self._nested(self._active.session)
        return self._read() if read_only else self._write()

    @property
    def is_writing(self) -> bool:
        """Whether this thread is in a session that writes."""
        return getattr(self._active, "session", None) is not None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For a write beside the sessions: inside a writing session it would wait for itself on SQLite."""
        if self.is_writing:
            raise AssertionError("a writing session is open in this thread")
        yield

    @contextmanager
    def columns(self) -> Iterator[Execute]:
        """For statements that select columns only, which need no session: it takes half the time of a short read."""
        criteria = tuple(self._criteria(False))
        with translated_errors(), self._database.read() as connection:
            yield lambda statement, values: connection.execute(limited(statement, criteria), values)

    @contextmanager
    def _read(self) -> Iterator[Session]:
        with self._open(self._reading, writes=False) as session, _translated(session):
            yield session

    @contextmanager
    def _write(self) -> Iterator[Session]:
        with self._open(self._writing, writes=True) as session, _translated(session):
            self._active.session = session
            try:
                yield session
            finally:
                self._active.session = None

    @contextmanager
    def _nested(self, session: Session) -> Iterator[Session]:
        with _translated(session):
            yield session

    @contextmanager
    def _open(self, maker: sessionmaker[Session], *, writes: bool) -> Iterator[Session]:
        criteria = tuple(self._criteria(writes))
        with maker() as session:
            if criteria:
                _limit(session, criteria)
            yield session


@lru_cache(maxsize=_KEPT)
def limited(statement: Select[Any], criteria: tuple[Any, ...]) -> Select[Any]:
    """A statement on MLflow's classes that finds what the criteria let it; kept, as both are."""
    return statement.options(*criteria) if criteria else statement


def _limit(session: Session, criteria: Sequence[Any]) -> None:
    @event.listens_for(session, "do_orm_execute")
    def _add_criteria(state: ORMExecuteState) -> None:
        if not state.is_column_load and (state.is_select or state.is_update or state.is_delete):
            state.statement = state.statement.options(*criteria)


@contextmanager
def _translated(session: Session) -> Iterator[None]:
    with translated_errors():
        try:
            yield
            session.commit()
        except BaseException:
            session.rollback()
            raise


@contextmanager
def translated_errors() -> Iterator[None]:
    """Errors of ours and of the database leave the block as MLflow's."""
    try:
        yield
    except MillpondError as error:
        raise to_mlflow_error(error) from error
    except exc.OperationalError as error:
        log.error("the database failed", error=str(error.orig))
        raise MlflowException(
            "The database is busy or unreachable; try again.", error_code=databricks_pb2.TEMPORARILY_UNAVAILABLE
        ) from error
    except exc.SQLAlchemyError as error:
        log.warning("the database refused a request", error=str(error))
        raise MlflowException(_reason(error), error_code=databricks_pb2.BAD_REQUEST) from error


def _reason(error: exc.SQLAlchemyError) -> str:
    original = getattr(error, "orig", None)
    return f"The database refused this: {original or type(error).__name__}"
