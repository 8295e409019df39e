"""An OpenID Connect provider as this server meets it: discovery, keys, tokens. Everything here may block.

Which addresses are asked is the operator's choice and the provider's, never a user's: the issuer comes from the
settings, all else from its discovery document, which must say that it is the issuer's. Only https, except for an
issuer on this machine; no redirect is followed, and no answer read without a bound.

Sources: OpenID Connect Core 1.0, section 3.1; OpenID Connect Discovery 1.0, section 4; RFC 7636 (PKCE); RFC 8725
(JSON Web Token Best Current Practices).
"""

import hmac
import ipaddress
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import jwt

from millpond.kernel.errors import MillpondError, ResourceExhausted, Unauthenticated, Unavailable
from millpond.kernel.logs import get_logger, mask_secrets
from millpond.kernel.settings import OidcSettings

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a private key. None that a shared secret makes: everybody knows the public keys."""
_LEEWAY_S = 60
_TIMEOUT_S = 10
_MAX_ANSWER_BYTES = 1 << 20
_KEPT_S = 3600
_AGAIN_S = 30
"""An unknown key is a reason to ask for the keys again, but not for everybody who sends one."""
_CALLS_AT_ONCE = 8
_MAX_SUBJECT = 255
log = get_logger(__name__)


class IdentityProvider:
    """The provider of the settings, which name an issuer and a client."""

    def __init__(self, settings: OidcSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.issuer = settings.issuer or ""
        self._clock = clock
        self._tls = httpx.create_ssl_context()  # the slow part of a client; which is new each time, without cookies
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(_CALLS_AT_ONCE)
        self._metadata: tuple[float, Mapping[str, Any]] | None = None
        self._keys: tuple[float, Mapping[str, jwt.PyJWK]] | None = None
        _check_address(self.issuer, self.issuer)

    def authorization_url(self, *, redirect_uri: str, state: str, nonce: str, challenge: str) -> str:
        """Where a browser is sent to sign in. Raises Unavailable."""
        with self._place():
            address = self._endpoint("authorization_endpoint")
        query = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": self.settings.scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"

    def redeem(self, code: str, *, verifier: str, redirect_uri: str) -> str:
        """The ID token for a code. Raises Unauthenticated, Unavailable."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": self.settings.client_id or "",
        }
        with self._place():
            auth = self._client_auth(form)
            status, answer = self._call("POST", self._endpoint("token_endpoint"), data=form, auth=auth)
        token = answer.get("id_token")
        if status != 200 or not isinstance(token, str):
            log.warning("the identity provider refused a code", status=status, error=str(answer.get("error"))[:100])
            raise Unauthenticated("The identity provider did not confirm the sign-in; start it again.")
        return token

    def _client_auth(self, form: dict[str, str]) -> httpx.BasicAuth | None:
        """Show who we are, in a header or in the form, as the provider wants it."""
        try:
            secret = self.settings.secret()
        except OSError as error:
            raise Unavailable("The file of oidc.client_secret_file cannot be read by the server.") from error
        methods = self._discovered().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if secret is not None and "client_secret_basic" not in methods:
            form["client_secret"] = secret
        elif secret is not None:
            return httpx.BasicAuth(_form_encoded(form["client_id"]), _form_encoded(secret))
        return None

    def verify(self, token: str, *, audiences: Sequence[str], nonce: str | None = None) -> Mapping[str, Any]:
        """The claims of an ID token for one of the audiences, and with the nonce where one is given.

        Raises Unauthenticated, and Unavailable when the provider's keys cannot be had.
        """
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS:
                raise jwt.InvalidAlgorithmError("its algorithm is not one that is accepted")
            with self._place():
                key = self._key(header.get("kid"))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=list(audiences),
                issuer=self.issuer,
                leeway=_LEEWAY_S,
                options={"require": ["iss", "sub", "aud", "exp", "iat"]},
            )
            _check_subject(claims)
            if nonce is not None:
                _check_sign_in(claims, audiences, nonce)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise Unauthenticated(f"The identity provider's token is not valid: {_reason(error)}.") from error
        return claims

    # Discovery and keys

    def _endpoint(self, name: str) -> str:
        address = self._discovered().get(name)
        if not isinstance(address, str):
            raise Unavailable(f"The discovery document of {self.issuer} names no {name}.")
        _check_address(address, self.issuer)
        return address

    def _discovered(self) -> Mapping[str, Any]:
        with self._lock:
            if self._metadata is None or self._clock() - self._metadata[0] > _KEPT_S:
                self._metadata = self._clock(), self._discover()
            return self._metadata[1]

    def _discover(self) -> Mapping[str, Any]:
        status, found = self._call("GET", self.issuer.rstrip("/") + "/.well-known/openid-configuration")
        if status != 200 or found.get("issuer") != self.issuer:
            raise Unavailable(
                f"{self.issuer} has no discovery document of its own (status {status}, issuer "
                f"{str(found.get('issuer'))[:100]!r}); check oidc.issuer, to its last slash."
            )
        return found

    def _key(self, key_id: object) -> jwt.PyJWK:
        address = self._endpoint("jwks_uri")
        with self._lock:
            age_s = self._clock() - self._keys[0] if self._keys else _KEPT_S + 1
            known = self._keys[1] if self._keys else {}
            if age_s > _KEPT_S or (_chosen(known, key_id) is None and age_s > _AGAIN_S):
                known = self._fetch_keys(address)
                self._keys = self._clock(), known
            key = _chosen(known, key_id)
        if key is None:
            raise jwt.InvalidKeyError("it is signed with a key that the provider does not have")
        return key

    def _fetch_keys(self, address: str) -> Mapping[str, jwt.PyJWK]:
        status, found = self._call("GET", address)
        if status != 200:
            raise Unavailable(f"The keys of {self.issuer} cannot be had: status {status}.")
        try:
            keys = jwt.PyJWKSet.from_dict(dict(found)).keys
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            raise Unavailable(f"The keys of {self.issuer} cannot be read: {_reason(error)}.") from error
        signing = [key for key in keys if key.public_key_use in {None, "sig"} and key.algorithm_name in ALGORITHMS]
        return {key.key_id or "": key for key in signing}

    # HTTP

    def _call(self, method: str, address: str, **options: Any) -> tuple[int, Mapping[str, Any]]:
        """Status and JSON object of an answer. Raises Unavailable."""
        headers = {"Accept": "application/json"}
        try:
            with (
                httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False, verify=self._tls) as client,
                client.stream(method, address, headers=headers, **options) as response,
            ):
                body = _read(response)
                found = httpx.Response(200, content=body).json()
        except (httpx.HTTPError, ValueError) as error:
            log.error("the identity provider does not answer", address=address, reason=mask_secrets(str(error)[:300]))
            raise Unavailable(
                f"The identity provider {self.issuer} does not answer as it should; try again."
            ) from error
        return response.status_code, found if isinstance(found, dict) else {}

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the few requests that may wait for the provider; raises ResourceExhausted when they all do."""
        if not self._places.acquire(blocking=False):
            raise ResourceExhausted("Too many people are signing in at the same time; try again.")
        try:
            yield
        finally:
            self._places.release()


def _chosen(known: Mapping[str, jwt.PyJWK], key_id: object) -> jwt.PyJWK | None:
    """The key with an id; without one, the only key."""
    if isinstance(key_id, str):
        return known.get(key_id)
    return next(iter(known.values())) if len(known) == 1 else None


def _check_subject(claims: Mapping[str, Any]) -> None:
    if not 0 < len(claims["sub"]) <= _MAX_SUBJECT or not claims["sub"].isprintable():
        raise jwt.InvalidTokenError("its subject is not one")


def _check_sign_in(claims: Mapping[str, Any], audiences: Sequence[str], nonce: str) -> None:
    """The token is the answer to this sign-in, and for the client that it names where it could be for others."""
    if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise jwt.InvalidTokenError("it belongs to another sign-in")
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if (several or "azp" in claims) and claims.get("azp") not in audiences:
        raise jwt.InvalidAudienceError("it was issued to another client")


def _check_address(address: str, issuer: str) -> None:
    """Pass for https, and for http on this machine where the issuer is there too. Raises MillpondError."""
    parts, home = urlsplit(address), urlsplit(issuer)
    plain = parts.scheme == "http" and home.scheme == "http" and _is_local(parts.hostname) and _is_local(home.hostname)
    if not parts.hostname or parts.username is not None or not (parts.scheme == "https" or plain):
        raise MillpondError(
            f"The identity provider's address '{address[:200]}' is not https://HOST/...; it is not used."
        )


def _is_local(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _read(response: httpx.Response) -> bytes:
    body = b""
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > _MAX_ANSWER_BYTES:
            raise ValueError(f"the answer has more than {_MAX_ANSWER_BYTES} bytes")
    return body


def _form_encoded(text: str) -> str:
    """As RFC 6749, section 2.3.1 wants names and secrets in a Basic header."""
    return urlencode({"": text})[1:]


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return mask_secrets(text[0].lower() + text[1:200]).rstrip(".")
