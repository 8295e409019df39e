"""Signing in and out: plain HTML that needs no script, with a name and password or an access token."""

from html import escape
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from millpond.identity.federation import Federation
from millpond.identity.middleware import client_address
from millpond.identity.service import IdentityService
from millpond.identity.sessions import (
    SESSION_COOKIE,
    SIGN_IN_PATH,
    SIGN_OUT_PATH,
    SSO_PATH,
    clear_session_cookie,
    local_path,
    set_session_cookie,
)
from millpond.kernel.errors import MillpondError, Unauthenticated
from millpond.kernel.http import STATUS_OF_CODE
from millpond.ui.assets import Assets
from millpond.ui.theme import LOGO
from millpond.ui.visit import leave_open_pages


def router(
    identity: IdentityService, assets: Assets, *, public_url: str | None, federation: Federation | None = None
) -> APIRouter:
    """The sign-in page, what its forms post to, and signing out."""
    routes = APIRouter(include_in_schema=False)

    @routes.get(SIGN_IN_PATH)
    def show(next: str = "/") -> Response:  # the name in the address
        return sign_in_page(assets, target=local_path(next), federation=federation)

    @routes.post(SIGN_IN_PATH)
    async def sign_in(request: Request) -> Response:
        form = _read_form(await request.body())  # the door bounds it
        target = local_path(form.get("next"))
        try:
            secret = await run_in_threadpool(_open_session, identity, form, client_address(request))
        except MillpondError as error:
            return sign_in_page(assets, target=target, form=form, error=error, federation=federation)
        response = RedirectResponse(target, status_code=303)
        set_session_cookie(response, secret, request, public_url=public_url)
        return response

    @routes.post(SIGN_OUT_PATH)
    async def sign_out(request: Request) -> Response:
        secret = request.cookies.get(SESSION_COOKIE)
        if secret:
            await run_in_threadpool(identity.close_session, secret)
            leave_open_pages(secret)
        response = RedirectResponse(SIGN_IN_PATH, status_code=303)
        clear_session_cookie(response, request, public_url=public_url)
        return response

    return routes


def _open_session(identity: IdentityService, form: dict[str, str], address: str) -> str:
    if form.get("token"):
        _, secret = identity.sign_in(token=form["token"], address=address)
        return secret
    if not form.get("user") or not form.get("password"):
        raise Unauthenticated("Give a user name and password, or an access token.")
    _, secret = identity.sign_in(user_name=form["user"].strip(), password=form["password"], address=address)
    return secret


def _read_form(body: bytes) -> dict[str, str]:
    try:
        fields = parse_qs(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=20)
    except ValueError:  # more fields than any form of ours has
        return {}
    return {name: values[-1] for name, values in fields.items()}


def sign_in_page(
    assets: Assets,
    *,
    target: str,
    form: dict[str, str] | None = None,
    error: MillpondError | None = None,
    federation: Federation | None = None,
) -> HTMLResponse:
    """The page, with what was wrong with the last try, and with a way to the identity provider where there is one."""
    form = form or {}
    by_token = "token" in form
    html = _PAGE.format(
        head=assets.head,
        logo=LOGO,
        target=escape(target),
        provider=_provider_link(federation, target) if federation else "",
        user=escape(form.get("user", "")),
        error=f'<p class="mp-notice mp-bad" role="alert">{escape(error.message)}</p>' if error else "",
        token_open=" open" if by_token else "",
        user_focus="" if by_token else " autofocus",
        token_focus=" autofocus" if by_token else "",
    )
    status = STATUS_OF_CODE.get(error.code, 500) if error else 200
    return HTMLResponse(html, status_code=status, headers={"Cache-Control": "no-store"})


def _provider_link(federation: Federation, target: str) -> str:
    address = f"{SSO_PATH}?next={quote(target, safe='')}"
    return f'<a class="mp-button mp-wide" href="{escape(address)}">{escape(federation.label)}</a>'


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · Millpond</title>
{head}
</head>
<body class="mp-body mp-sign-in">
<main>
<h1>{logo}<span>Millpond</span></h1>
<div class="mp-card">
<h2>Sign in</h2>
{error}
{provider}
<form method="post" action="/sign-in">
<input type="hidden" name="next" value="{target}">
<label for="user">User name</label>
<input id="user" name="user" class="mp-input" value="{user}" autocomplete="username" required{user_focus}>
<label for="password">Password</label>
<input id="password" name="password" class="mp-input" type="password" autocomplete="current-password" required>
<button class="mp-button mp-primary" type="submit">Sign in</button>
</form>
<details{token_open}>
<summary>Use an access token</summary>
<form method="post" action="/sign-in">
<input type="hidden" name="next" value="{target}">
<label for="token">Access token</label>
<input id="token" name="token" class="mp-input mp-mono" type="password" autocomplete="off" spellcheck="false"
 required{token_focus}>
<button class="mp-button mp-primary" type="submit">Sign in with token</button>
</form>
</details>
</div>
<p class="mp-note">The first administrator’s password and token are in <code>credentials.json</code> in the data
directory; <code>millpond env</code> prints the token.</p>
</main>
</body>
</html>
"""
