"""A visit: one opening of a page by one person, what it may load, and how it acts.

A page is two functions: `load` runs in a thread and asks the services, `draw` builds elements from what was loaded.
Errors of `load` become friendly pages with the right status. NiceGUI runs handlers of an open page long after the
request; so each act proves the session anew, and a page of somebody who has signed out acts no more.
"""

from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from nicegui import Client, context, ui
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.identity.service import IdentityService
from millpond.identity.sessions import SESSION_COOKIE, SIGN_IN_PATH
from millpond.kernel.errors import MillpondError, Unauthenticated, Unavailable
from millpond.kernel.http import STATUS_OF_CODE
from millpond.kernel.logs import get_logger
from millpond.ui.services import Addresses, Services, addresses_for
from millpond.ui.theme import Theme

log = get_logger(__name__)

T = TypeVar("T")

_SESSION_KEY = "millpond_session"
_FAILED = "The server failed on this; its log has the details."


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Who opened which address, and the services as that person may use them."""

    principal: Principal
    url: str
    """Path and query, as in the browser's address."""
    path: Mapping[str, str]
    """The variable parts of the path."""
    query: Mapping[str, str]
    theme: Theme
    services: Services
    addresses: Addresses
    prove: Callable[[], Principal] = field(repr=False)
    """Authenticates the page's own session again; raises Unauthenticated."""

    def link(self, **changes: str | None) -> str:
        """This page's address with some query parameters set, or removed where None."""
        query = {**self.query, **changes}
        parts = [f"{quote(key)}={quote(value, safe='')}" for key, value in query.items() if value]
        return self.url.partition("?")[0] + ("?" + "&".join(parts) if parts else "")

    async def act(self, work: Callable[[Principal], T], *, done: str | None = None) -> "Outcome[T]":
        """Do something for an open page, in a thread, as whoever its session belongs to now.

        An error that a user may read is shown on the page; a session that has ended leads to the sign-in page.
        """
        try:
            value = await run_in_threadpool(self._prove_and_do, work)
        except Unauthenticated:
            ui.navigate.to(f"{SIGN_IN_PATH}?next={quote(self.url, safe='')}")
            return Outcome(error="Sign in again.")
        except MillpondError as error:
            return Outcome(error=error.message)
        except Exception as error:  # the boundary of an event, as of a request
            log.error("page event failed", url=self.url, exc_info=error)
            return Outcome(error=_FAILED)
        if done:
            ui.notify(done, type="positive")
        return Outcome(value=value, ok=True)

    def _prove_and_do(self, work: Callable[[Principal], T]) -> T:
        principal = self.prove()
        if principal.id != self.principal.id:
            raise Unauthenticated("Somebody else is signed in now.")
        return work(principal)


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[T]):
    """What came of an act: a value, or the sentence that says why not."""

    value: T | None = None
    ok: bool = False
    error: str = ""

    def notify_error(self) -> "Outcome[T]":
        """Show the error, if there is one."""
        if self.error:
            ui.notify(self.error, type="negative", timeout=8000, close_button="Dismiss", multi_line=True)
        return self


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """A page: where it is, what it loads and how it is drawn."""

    path: str
    section: str
    """The entry of the sidebar that it belongs to."""
    load: Callable[[Visit], T]
    draw: Callable[[Visit, T], Awaitable[None] | None]
    title: Callable[[Visit, T], str]


Frame = Callable[[Visit, Page[Any]], Any]
"""Draws what surrounds a page; a context manager."""


def add_page(
    page: Page[Any], services: Services, frame: Frame, draw_error: Callable[[Visit, MillpondError], None]
) -> None:
    """Serve a page with its frame, its errors and its status."""

    @ui.page(page.path, response_timeout=30)
    async def build(request: Request, client: Client) -> None:
        visit = await run_in_threadpool(_visit_of, request, services)
        _prepare(client, visit.theme, request.cookies.get(SESSION_COOKIE))
        try:
            data = await run_in_threadpool(page.load, visit)
        except MillpondError as error:
            _draw_error(client, visit, page, frame, draw_error, error)
            return
        except Exception as error:  # the boundary of a request
            log.error("page failed", url=visit.url, exc_info=error)
            _draw_error(client, visit, page, frame, draw_error, MillpondError(_FAILED))
            return
        ui.page_title(f"{page.title(visit, data)} · Millpond")
        with frame(visit, page):
            waiting = page.draw(visit, data)
            if waiting is not None:
                await waiting


def _prepare(client: Client, theme: Theme, session: str | None) -> None:
    """What the page needs before anything is drawn on it: whose it is, and its theme before the first paint."""
    client.storage[_SESSION_KEY] = session
    client.page = copy(client.page)
    client.page.dark = {Theme.AUTO: None, Theme.DARK: True, Theme.LIGHT: False}[theme]
    ui.add_head_html(f'<script>document.documentElement.dataset.theme="{theme.value}"</script>')
    outer = client.content.parent_slot
    if outer is not None:  # Quasar draws its page as a second <main> around ours
        outer.parent.props["role"] = "none"


def _draw_error(
    client: Client,
    visit: Visit,
    page: Page[Any],
    frame: Frame,
    draw: Callable[[Visit, MillpondError], None],
    error: MillpondError,
) -> None:
    client.status_code = STATUS_OF_CODE.get(error.code, 500)
    ui.page_title(f"{'Not found' if client.status_code == 404 else 'Error'} · Millpond")
    if error.code == Unavailable.code:  # a part of the server is still starting
        ui.add_head_html('<meta http-equiv="refresh" content="2">')
    with frame(visit, page):
        draw(visit, error)


def _visit_of(request: Request, services: Services) -> Visit:
    principal = current_principal()
    url = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return Visit(
        principal=principal,
        url=url,
        path=dict(request.path_params),
        query=dict(request.query_params),
        theme=services.preferences.theme(principal),
        services=services,
        addresses=addresses_for(request, services),
        prove=_proof(request, services.identity),
    )


def _proof(request: Request, identity: IdentityService) -> Callable[[], Principal]:
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return partial(identity.authenticate, credential.strip())
    return partial(identity.authenticate_session, request.cookies.get(SESSION_COOKIE, ""))


def leave_open_pages(session: str) -> None:
    """Send every open page of a session that was just closed to the sign-in page."""
    for client in list(Client.instances.values()):
        if client.storage.get(_SESSION_KEY) == session and client.has_socket_connection:
            client.open(SIGN_IN_PATH)


def later(visit: Visit, load: Callable[[Principal], T], fill: Callable[[Outcome[T]], None]) -> None:
    """Load something slow when the page is shown, then put it in its place."""
    filled = False

    async def run() -> None:
        nonlocal filled
        if not filled:  # else the browser only reconnected
            filled = True
            fill(await visit.act(load))

    context.client.on_connect(run)


def filling(place: ui.element, draw: Callable[[Outcome[T]], None]) -> Callable[[Outcome[T]], None]:
    """Replaces what a place holds, a skeleton mostly, with what `draw` makes."""

    def fill(outcome: Outcome[T]) -> None:
        place.clear()
        with place:
            draw(outcome)

    return fill
