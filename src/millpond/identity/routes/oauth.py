"""Discovery and the token endpoint: what a client reads before it has any credential.

Sources: RFC 8414 (metadata), RFC 6749, sections 2.3.1, 4.4 and 5; `databricks/sdk/oauth.py` for what the SDK reads.
"""

import base64
import binascii
from typing import Annotated, Any
from urllib.parse import parse_qsl, unquote_plus

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from millpond.identity.oauth import (
    ACCESS_TOKEN_TYPE,
    CLIENT_CREDENTIALS,
    JWT_BEARER,
    SCOPES,
    TOKEN_EXCHANGE,
    OAuthError,
    OAuthService,
)

_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_MAX_FIELDS = 20


async def _form(request: Request) -> list[tuple[str, str]]:
    raw = (await request.body()).decode("utf-8", "replace")
    try:
        return parse_qsl(raw, keep_blank_values=False, max_num_fields=_MAX_FIELDS)
    except ValueError:
        return []


def router(oauth: OAuthService, workspace_id: int, *, public_url: str | None) -> APIRouter:
    """The public paths of OAuth."""
    router = APIRouter()

    def base_of(request: Request) -> str:
        return (public_url or str(request.base_url)).rstrip("/")

    @router.get("/.well-known/databricks-config")
    def databricks_config(request: Request) -> Response:
        body = {"oidc_endpoint": f"{base_of(request)}/oidc", "workspace_id": str(workspace_id), "cloud": "AWS"}
        return JSONResponse(body, headers=_NO_STORE)

    @router.get("/oidc/.well-known/oauth-authorization-server")
    @router.get("/oidc/.well-known/openid-configuration")
    def metadata(request: Request) -> Response:
        return JSONResponse(_metadata(f"{base_of(request)}/oidc"), headers=_NO_STORE)

    @router.post("/oidc/v1/token")
    def token(request: Request, form: Annotated[list[tuple[str, str]], Depends(_form)]) -> Response:
        header = request.headers.get("authorization", "")
        try:
            if len(dict(form)) != len(form):
                raise OAuthError("invalid_request", "A parameter is there twice.")
            issued = oauth.exchange(dict(form), _basic(header))
        except OAuthError as error:
            return _refusal(error, by_header=bool(header))
        body = {
            "access_token": issued.value,
            "token_type": "Bearer",
            "expires_in": issued.lifetime_s,
            "scope": SCOPES[0],
            "issued_token_type": ACCESS_TOKEN_TYPE,
        }
        return JSONResponse(body, headers=_NO_STORE)

    return router


def _metadata(issuer: str) -> dict[str, Any]:
    return {
        "issuer": issuer,
        "token_endpoint": f"{issuer}/v1/token",
        "grant_types_supported": [CLIENT_CREDENTIALS, JWT_BEARER, TOKEN_EXCHANGE],
        "response_types_supported": [],
        "scopes_supported": list(SCOPES),
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    }


def _basic(header: str) -> tuple[str, str] | None:
    """The client's id and secret of a Basic header; None when there is no header."""
    if not header:
        return None
    scheme, _, value = header.partition(" ")
    try:
        if scheme.casefold() != "basic":
            raise OAuthError(
                "invalid_client", "The client is authenticated by Basic, or by client_id and client_secret."
            )
        name, _, secret = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError) as error:
        raise OAuthError("invalid_client", "The Basic credential is not base64 of ID:SECRET.") from error
    return unquote_plus(name), unquote_plus(secret)


def _refusal(error: OAuthError, *, by_header: bool) -> Response:
    headers = dict(_NO_STORE)
    status = 400
    if error.code == "invalid_client":
        status = 401
        if by_header:
            headers["WWW-Authenticate"] = 'Basic realm="millpond"'
    body = {"error": error.code, "error_description": error.description}
    return JSONResponse(body, status_code=status, headers=headers)
