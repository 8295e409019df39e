"""Routes for requests that are small and asked for most: their handlers take what arrived whole, and answer at once.

They are routes of the application like others. `millpond.express` answers most of their requests before they get there.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from millpond.identity.domain import Principal
from millpond.kernel.http import first_headers


@dataclass(frozen=True, slots=True)
class Whole:
    """A POST request with all of its body."""

    path_params: Mapping[str, str]
    headers: Mapping[str, str]
    """By their names in lower case; of several with one name the first."""
    body: bytes


class WholeRoute(Route):
    """Leads a path's POST requests to a handler of whole ones."""

    def __init__(
        self,
        path: str,
        answer: Callable[[Whole], Awaitable[Response]],
        *,
        read: Callable[[Request], Awaitable[bytes]] = Request.body,
        is_plain: Callable[[Whole], bool] = lambda _asked: True,
        admit: Callable[[Principal, Mapping[str, str]], Response | Callable[[], None] | None] = lambda *_asked: None,
    ) -> None:
        """`read` gives a request's body; `is_plain` tells whether the answer will be a plain Response with a body.

        `admit` is asked before anything is done for a request of somebody: it gives the answer where there is no time,
        or what is to be called when the request is answered."""

        async def endpoint(request: Request) -> Response:
            return await answer(Whole(request.path_params, first_headers(request.scope), await read(request)))

        super().__init__(path, endpoint, methods=["POST"])
        self.answer = answer
        self.is_plain = is_plain
        self.admit = admit
