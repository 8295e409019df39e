"""Cross-site requests: which page made a browser send this, and may it.

A browser adds our cookie (and a remembered Basic password) to requests that another site's page makes. `SameSite=Lax`
stops most of them, but not those of another port of the same host, and not websockets everywhere. So what changes
something, and every websocket, must come from a page of ours, as the headers say that no page can forge: `Origin` and
`Sec-Fetch-Site`. Programs send neither; they are let through unless a cookie is all that they show.

Source: OWASP Cross-Site Request Forgery Prevention Cheat Sheet; Fetch Metadata (W3C).
"""

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def is_foreign(connection: HTTPConnection, *, public_url: str | None, cookie: str) -> bool:
    """Whether a page of another site made this request that could change something.

    `cookie` is the name of the session's cookie; `public_url` is our address as browsers see it, where a proxy that
    changes the Host header stands between.
    """
    scope = connection.scope
    if scope["type"] == "http" and scope["method"] in _SAFE_METHODS:
        return False
    headers = connection.headers
    if headers.get("authorization", "")[:7].casefold() == "bearer ":
        return False  # no browser adds this by itself
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in {"same-origin", "none"}:
        return True
    if origin is not None:
        return not _is_ours(origin, connection, public_url)
    return site is None and cookie in connection.cookies


def _is_ours(origin: str, connection: HTTPConnection, public_url: str | None) -> bool:
    found = _host_and_port(origin)
    if found is None:  # "null": a sandboxed frame, a file, a redirect from elsewhere
        return False
    if public_url is not None and urlsplit(public_url)[:2] == urlsplit(origin)[:2]:
        return True
    # a proxy that ends TLS leaves the host but not the scheme, so the ports are those of the origin's own scheme
    scheme = urlsplit(origin).scheme
    return found == _host_and_port(f"{scheme}://{connection.headers.get('host', '')}")


def _host_and_port(url: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    if not parts.hostname or port is None or parts.username is not None or parts.path or parts.query:
        return None
    return parts.hostname.casefold(), port
