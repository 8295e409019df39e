"""An OpenID Connect provider that does what a test says: also what an honest one never does."""

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from tests.applications import served

CLIENT, SECRET = "millpond", "the client's secret"


class Provider:
    """Signs people in without asking; `claims` and `sign` are the test's to change."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: dict[str, RSAPrivateKey] = {"one": rsa.generate_private_key(65537, 2048)}
        self.sign: Callable[[dict[str, Any]], str] = self.signed
        self.claims: dict[str, Any] = {}
        self.discovery: dict[str, Any] = {}
        self.keys_answer: Response | None = None
        self.asked: list[str] = []
        self._started: dict[str, dict[str, str]] = {}

    def reset(self) -> None:
        """Be honest again, about Ann."""
        self.keys = {"one": self.keys["one"]} if "one" in self.keys else {"one": rsa.generate_private_key(65537, 2048)}
        self.sign, self.discovery, self.keys_answer = self.signed, {}, None
        self.claims = {"sub": "ann-1", "email": "ann@example.com", "email_verified": True, "name": "Ann"}
        self.asked.clear()

    def signed(self, claims: dict[str, Any], *, key_id: str = "one") -> str:
        """A token that says this, signed as it should be."""
        return jwt.encode(claims, self.keys[key_id], algorithm="RS256", headers={"kid": key_id})

    def said(self, nonce: str | None = None, **changes: Any) -> dict[str, Any]:
        """What an honest token says about the one who signs in."""
        now = int(time.time())
        whole = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce, **self.claims, **changes}
        return {name: value for name, value in whole.items() if value is not None}

    def public_key(self, key_id: str) -> dict[str, Any]:
        """A key as the provider publishes it."""
        found = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.keys[key_id].public_key()))
        return {**found, "kid": key_id, "use": "sig", "alg": "RS256"}

    def app(self) -> FastAPI:
        """Its addresses."""
        app = FastAPI()

        @app.middleware("http")
        async def note(request: Request, call_next: Any) -> Response:
            self.asked.append(request.url.path)
            response: Response = await call_next(request)
            return response

        @app.get("/.well-known/openid-configuration")
        def discovery() -> dict[str, Any]:
            addresses = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
            return {"issuer": self.url, **{key: self.url + path for key, path in addresses.items()}, **self.discovery}

        @app.get("/keys")
        def keys() -> Response:
            return self.keys_answer or JSONResponse({"keys": [self.public_key(key_id) for key_id in self.keys]})

        @app.get("/authorize")
        def authorize(request: Request) -> Response:
            query = dict(request.query_params)
            assert query["response_type"] == "code"
            assert query["code_challenge_method"] == "S256"
            code = f"code-{len(self._started)}"
            self._started[code] = query
            return RedirectResponse(f"{query['redirect_uri']}?code={code}&state={query['state']}", status_code=302)

        @app.post("/token")
        async def token(request: Request) -> Response:
            form = dict(await request.form())
            basic = base64.b64encode(f"{CLIENT}:the+client%27s+secret".encode()).decode()
            started = self._started.pop(str(form["code"]), None)
            digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
            honest = (
                started is not None
                and request.headers.get("authorization") == f"Basic {basic}"
                and form["redirect_uri"] == started["redirect_uri"]
                and base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == started["code_challenge"]
            )
            if started is None or not honest:
                return JSONResponse({"error": "invalid_grant"}, status_code=400)
            return JSONResponse({"access_token": "x", "id_token": self.sign(self.said(started["nonce"]))})

        return app


@contextmanager
def running_provider() -> Iterator[Provider]:
    """A provider on a port of its own."""
    provider = Provider()
    with served(provider.app()) as url:
        provider.url = url
        yield provider
