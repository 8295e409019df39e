"""The browser's side of a session: the cookie that carries it, and where to go after signing in."""

from starlette.requests import HTTPConnection
from starlette.responses import Response

from millpond.identity.service import SESSION_TTL

SESSION_COOKIE = "millpond_session"
SIGN_IN_PATH = "/sign-in"
SIGN_OUT_PATH = "/sign-out"
SSO_PATH = "/sign-in/sso"
SSO_CALLBACK_PATH = "/sign-in/sso/callback"


def set_session_cookie(response: Response, secret: str, connection: HTTPConnection, *, public_url: str | None) -> None:
    """Give the browser a session, out of reach of scripts and of requests that other sites make."""
    response.set_cookie(
        SESSION_COOKIE,
        secret,
        max_age=int(SESSION_TTL.total_seconds()),
        path="/",
        httponly=True,
        samesite="lax",
        secure=is_https(connection, public_url),
    )


def clear_session_cookie(response: Response, connection: HTTPConnection, *, public_url: str | None) -> None:
    """Take the session from the browser."""
    response.delete_cookie(
        SESSION_COOKIE, path="/", httponly=True, samesite="lax", secure=is_https(connection, public_url)
    )


def local_path(text: str | None) -> str:
    """A path of this site to go on to, or `/` for anything that could lead elsewhere.

    Browsers read `//host`, `/\\host` and a path with tabs or line ends in it as another site's address.
    """
    if not text or not text.startswith("/") or text.startswith("//") or "\\" in text or len(text) > 2000:
        return "/"
    if any(character <= " " or character == "\x7f" for character in text):
        return "/"
    path = text.partition("?")[0]
    return "/" if path in {SIGN_IN_PATH, SIGN_OUT_PATH, SSO_PATH, SSO_CALLBACK_PATH} else text


def is_https(connection: HTTPConnection, public_url: str | None) -> bool:
    """Whether browsers reach us by https."""
    return connection.scope["scheme"] in {"https", "wss"} or (public_url or "").startswith("https://")
