"""Saved queries, and the history of statements."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from millpond.identity import acts
from millpond.identity.access import WORKSPACE, Act, allows, require, require_admin
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.kernel.ids import new_id
from millpond.kernel.paging import Page, cut_page, decode_token, page_size
from millpond.sql.domain import (
    HistoryFilter,
    QueryDraft,
    SavedQuery,
    Statement,
    StatementState,
    checked_draft,
    query_grant_id,
)
from millpond.sql.store import queries as rows
from millpond.sql.store import statements as statement_rows
from millpond.sql.visibility import reach_of, seen_by


class FindName(Protocol):
    """Says how a principal's name is written; None when there is no such principal."""

    def __call__(self, name: str, /) -> str | None:
        """The name as its principal has it."""


class QueryService:
    """Saved queries and history, for users. Every method blocks."""

    def __init__(
        self, database: Database, find_name: FindName, find_running: Callable[[str], Statement | None]
    ) -> None:
        """`find_running` knows better than the database about a statement that has not ended."""
        self._database = database
        self._find_name = find_name
        self._find_running = find_running

    def create(self, principal: Principal, draft: QueryDraft) -> SavedQuery:
        """Save a query. Raises InvalidArgument."""
        require(principal, Act.CREATE_IN, WORKSPACE)
        now = utc_now()
        query = SavedQuery(
            id=new_id(),
            owner=principal.name,
            modified_by=principal.name,
            trashed=False,
            draft=checked_draft(draft),
            created_at=now,
            updated_at=now,
        )
        with self._database.write() as connection:
            rows.add(connection, query)
            acts.changed(connection, principal.name, "create", "query", draft.name)
        return query

    def get(self, principal: Principal, query_id: str) -> SavedQuery:
        """A query, also one in the trash. Raises NotFound, for another's too."""
        with self._database.read() as connection:
            query = rows.find(connection, query_id)
        return _required(principal, query, query_id, Act.READ)

    def find_name_of(self, principal: Principal, query_id: str) -> str:
        """A query's name; empty for one that is gone, or another's."""
        with self._database.read() as connection:
            query = rows.find(connection, query_id)
        return query.draft.name if query and allows(principal, Act.READ, query.securable) else ""

    def list_page(
        self, principal: Principal, *, max_results: int | None = None, page_token: str | None = None
    ) -> Page[SavedQuery]:
        """Queries that the principal may see, in the order in which they were made."""
        size = page_size(max_results, default=20)
        with self._database.read() as connection:
            found = rows.list_page(
                connection, reach_of(principal, "query", query_grant_id), after=decode_token(page_token), limit=size + 1
            )
        return cut_page(found, size, lambda query: query.id)

    def search(self, principal: Principal, words: Sequence[str], *, limit: int) -> tuple[SavedQuery, ...]:
        """Queries that the principal may see and that hold all of the words, in lower case; last changed first."""
        with self._database.read() as connection:
            return tuple(rows.holding(connection, words, reach_of(principal, "query", query_grant_id), limit=limit))

    def update(
        self,
        principal: Principal,
        query_id: str,
        change: Callable[[QueryDraft], QueryDraft],
        *,
        owner: str | None = None,
    ) -> SavedQuery:
        """Change a query, or give it to somebody. Raises NotFound, PermissionDenied, InvalidArgument."""
        found = None if owner is None else self._find_name(owner)
        if owner is not None and found is None:
            raise InvalidArgument(f"There is no user '{owner[:80]}' who could own the query.")
        with self._database.write() as connection:
            act = Act.WRITE if owner is None else Act.MANAGE
            query = _required(principal, rows.find(connection, query_id, lock=True), query_id, act)
            query = replace(
                query,
                draft=checked_draft(change(query.draft)),
                owner=found or query.owner,
                modified_by=principal.name,
                updated_at=utc_now(),
            )
            rows.change(connection, query)
            acts.changed(connection, principal.name, "update", "query", query.draft.name)
        return query

    def trash(self, principal: Principal, query_id: str) -> None:
        """Put a query into the trash, from which it goes for good after the days of the history. Raises NotFound."""
        with self._database.write() as connection:
            query = _required(principal, rows.find(connection, query_id, lock=True), query_id, Act.MANAGE)
            rows.change(connection, replace(query, trashed=True, updated_at=utc_now()))
            acts.changed(connection, principal.name, "delete", "query", query.draft.name)

    def history(
        self,
        principal: Principal,
        wanted: HistoryFilter,
        *,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> Page[Statement]:
        """Statements that were sent, newest first: the principal's own, those of warehouses that the principal may
        monitor, an administrator's everybody's.

        Raises PermissionDenied for who asks for others' and may see none, InvalidArgument.
        """
        size = page_size(max_results)
        with self._database.read() as connection:
            seen = seen_by(connection, principal)
            if seen and set(wanted.principal_ids) - {principal.id} and not seen["seen_in"]:
                require_admin(principal, "read other users' query history")
            wanted = replace(wanted, **seen)
            found = statement_rows.list_page(
                connection, _with_unended(wanted), before=decode_token(page_token), limit=size + 1
            )
        page = cut_page(found, size, lambda statement: statement.id).map(self._current)
        return replace(page, items=tuple(one for one in page.items if not wanted.states or one.state in wanted.states))

    def _current(self, statement: Statement) -> Statement:
        return statement if statement.state.is_final else self._find_running(statement.id) or statement


def _with_unended(wanted: HistoryFilter) -> HistoryFilter:
    """The filter as the database can answer it, which is not told when a statement begins to run."""
    if StatementState.RUNNING in wanted.states:
        return replace(wanted, states=(*wanted.states, StatementState.PENDING))
    return wanted


def _required(principal: Principal, query: SavedQuery | None, query_id: str, act: Act) -> SavedQuery:
    if query is None:
        raise NotFound(f"Query '{query_id[:80]}' does not exist.")
    require(principal, act, query.securable)
    return query
