"""Signing in at an identity provider: the two addresses between which the browser goes there and comes back."""

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from millpond.identity.federation import ATTEMPT_TTL_S, Federation
from millpond.identity.sessions import (
    SSO_CALLBACK_PATH,
    SSO_PATH,
    is_https,
    local_path,
    set_session_cookie,
)
from millpond.kernel.errors import MillpondError, NotFound, Unauthenticated
from millpond.ui.assets import Assets
from millpond.ui.sign_in import sign_in_page

ATTEMPT_COOKIE = "millpond_sign_in"


def router(federation: Federation | None, assets: Assets, *, public_url: str | None) -> APIRouter:
    """The start and the callback; without a provider both say that there is none."""
    routes = APIRouter(include_in_schema=False)

    @routes.get(SSO_PATH)
    def begin(request: Request, next: str = "/") -> Response:  # the name in the address
        target = local_path(next)
        try:
            begun = _configured(federation).begin(redirect_uri=redirect_uri(request), target=target)
        except MillpondError as error:
            return sign_in_page(assets, target=target, error=error, federation=federation)
        response = RedirectResponse(begun.url, status_code=303, headers={"Cache-Control": "no-store"})
        response.set_cookie(
            ATTEMPT_COOKIE,
            begun.cookie,
            max_age=ATTEMPT_TTL_S,
            path=SSO_PATH,
            httponly=True,
            samesite="lax",
            secure=is_https(request, public_url),
        )
        return response

    @routes.get(SSO_CALLBACK_PATH)
    def finish(request: Request) -> Response:
        response: Response
        try:
            cookie = request.cookies.get(ATTEMPT_COOKIE, "")
            done = _configured(federation).finish(cookie, _once(request))
        except MillpondError as error:
            response = sign_in_page(assets, target="/", error=error, federation=federation)
        else:
            response = RedirectResponse(local_path(done.target), status_code=303, headers={"Cache-Control": "no-store"})
            set_session_cookie(response, done.session, request, public_url=public_url)
        response.delete_cookie(ATTEMPT_COOKIE, path=SSO_PATH)  # one answer for one start
        return response

    def redirect_uri(request: Request) -> str:
        return (public_url or str(request.base_url)).rstrip("/") + SSO_CALLBACK_PATH

    return routes


def _configured(federation: Federation | None) -> Federation:
    if federation is None:
        raise NotFound("This server has no identity provider to sign in at; see oidc.issuer.")
    return federation


def _once(request: Request) -> dict[str, str]:
    """The parameters of the answer. Raises Unauthenticated when one is there twice."""
    pairs = request.query_params.multi_items()
    if len(dict(pairs)) != len(pairs):
        raise Unauthenticated("The identity provider's answer has a parameter twice; start again.")
    return dict(pairs)
