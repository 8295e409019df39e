"""OAuth 2.0 for programs: short-lived access tokens for a service principal's secret, for another access token, and for
a token of the identity provider.

Sources: RFC 6749, section 4.4 (client credentials) and 5.2 (errors); RFC 7523, section 2.1 (JWT bearer); RFC 8693
(token exchange); RFC 9396 (authorization details). A token that was got with a secret names it, and each use looks it
up: when the secret is deleted or its holder deactivated, the token stops at once.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from millpond.identity import acts
from millpond.identity.credentials import Claims, Signer, hash_secret
from millpond.identity.domain import PrincipalKind, name_key
from millpond.identity.federation import Federation
from millpond.identity.service import IdentityService
from millpond.identity.store import tokens
from millpond.identity.store.tokens import CredentialKind
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import MillpondError

ACCESS_TOKEN_TTL_S = 3600
NARROWED_TTL_S = 900
"""Of a token that another one was narrowed to: a client gets the next one by itself."""
CLIENT_CREDENTIALS = "client_credentials"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a name
_SUBJECT_TOKEN_TYPES = ("urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token")
SCOPES = ("all-apis", "offline_access")
"""What a client may ask for; there is no narrower scope than all that its principal may do."""
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name
_ENDPOINT_PATH = re.compile(r"/serving-endpoints/[^/?#%\\]+")


class OAuthError(Exception):
    """An error in the words of RFC 6749, section 5.2."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code = code
        self.description = description


@dataclass(frozen=True, kw_only=True)
class AccessToken:
    """A token just issued."""

    value: str
    lifetime_s: int


class OAuthService:
    """The token endpoint."""

    def __init__(
        self, database: Database, signer: Signer, identity: IdentityService, federation: Federation | None = None
    ) -> None:
        self._database = database
        self._signer = signer
        self._identity = identity
        self._federation = federation

    def exchange(self, form: Mapping[str, str], client: tuple[str, str] | None) -> AccessToken:
        """The access token that a request to the token endpoint gets; `client` is what its Basic header said.

        Raises OAuthError.
        """
        _check_scope(form.get("scope", ""))
        match form.get("grant_type"):
            case "client_credentials":
                return self._client_credentials(form, client)
            case "urn:ietf:params:oauth:grant-type:jwt-bearer":
                return self._jwt_bearer(form)
            case "urn:ietf:params:oauth:grant-type:token-exchange" if self._federation is not None:
                return self._token_exchange(self._federation, form)
            case None:
                raise OAuthError("invalid_request", "grant_type is missing.")
            case other:
                raise OAuthError("unsupported_grant_type", f"grant_type '{other[:80]}' is not {CLIENT_CREDENTIALS}.")

    def _client_credentials(self, form: Mapping[str, str], client: tuple[str, str] | None) -> AccessToken:
        if client is not None and "client_secret" in form:
            raise OAuthError("invalid_request", "Send the client's secret in the header or in the form, not in both.")
        client_id, secret = client or (form.get("client_id", ""), form.get("client_secret", ""))
        if "assume_group" in form:
            raise OAuthError("invalid_request", "assume_group is not supported.")
        now = utc_now()
        with self._database.read() as connection:
            held = tokens.find_held(connection, hash_secret(secret), CredentialKind.CLIENT_SECRET, now)
        if (
            held is None
            or held.account.kind is not PrincipalKind.SERVICE_PRINCIPAL
            or name_key(held.account.name) != name_key(client_id)
        ):
            acts.denied(None, "sign in", PrincipalKind.SERVICE_PRINCIPAL.words, client_id[:100])
            raise OAuthError("invalid_client", "The client id or secret is wrong, expired or deleted.")
        acts.identified(held.account)
        ends = now + timedelta(seconds=ACCESS_TOKEN_TTL_S)
        claims = Claims(
            principal_id=held.account.id,
            expires_at=min(ends, held.token.expires_at or ends),
            credential_id=held.token.id,
            paths=_paths_of(form.get("authorization_details")),
        )
        return self._issue(claims)

    def _jwt_bearer(self, form: Mapping[str, str]) -> AccessToken:
        """A token narrowed to what `authorization_details` names, as a client of the serving data plane asks for."""
        assertion = form.get("assertion", "")
        try:
            claims = self._signer.read(assertion)
            acts.identified(self._identity.authenticate(assertion))  # its holder is active, and its secret still there
        except MillpondError as error:
            raise OAuthError("invalid_grant", f"The assertion is not valid: {error.message}") from error
        paths = _paths_of(form.get("authorization_details"))
        ends = claims.expires_at if paths is None else utc_now() + timedelta(seconds=NARROWED_TTL_S)
        narrowed = Claims(
            principal_id=claims.principal_id,
            expires_at=min(ends, claims.expires_at),
            credential_id=claims.credential_id,
            paths=paths,
        )
        return self._issue(narrowed)

    def _token_exchange(self, federation: Federation, form: Mapping[str, str]) -> AccessToken:
        """A token for who a token of the identity provider names; it lives no longer than that one."""
        if form.get("subject_token_type") not in _SUBJECT_TOKEN_TYPES or not form.get("subject_token"):
            raise OAuthError("invalid_request", f"Give subject_token and subject_token_type {_SUBJECT_TOKEN_TYPES[0]}.")
        if form.get("requested_token_type", ACCESS_TOKEN_TYPE) != ACCESS_TOKEN_TYPE or "assume_group" in form:
            raise OAuthError("invalid_request", "Only access tokens are issued, and no group is assumed.")
        try:
            account_id, ends = federation.exchange(form["subject_token"], form.get("client_id"))
        except MillpondError as error:
            raise OAuthError("invalid_grant", error.message) from error
        claims = Claims(
            principal_id=account_id,
            expires_at=min(ends, utc_now() + timedelta(seconds=ACCESS_TOKEN_TTL_S)),
            paths=_paths_of(form.get("authorization_details")),
        )
        return self._issue(claims)

    def _issue(self, claims: Claims) -> AccessToken:
        now = utc_now()
        lifetime_s = int((claims.expires_at - now).total_seconds())
        return AccessToken(value=self._signer.sign(claims, now=now), lifetime_s=max(lifetime_s, 0))


def _check_scope(text: str) -> None:
    unknown = [scope for scope in text.split() if scope not in SCOPES]
    if unknown:
        raise OAuthError("invalid_scope", f"Scope '{unknown[0][:80]}' is not known; ask for all-apis.")


def _paths_of(details: str | None) -> tuple[str, ...] | None:
    """The paths that authorization details narrow a token to; None when there are none."""
    if not details:
        return None
    try:
        found = json.loads(details)
        paths = tuple(item["object_path"] for item in found)
    except (ValueError, TypeError, KeyError) as error:
        raise OAuthError(
            "invalid_authorization_details", "They are not a JSON list with an object_path each."
        ) from error
    if not paths or not all(isinstance(path, str) and _ENDPOINT_PATH.fullmatch(path) for path in paths):
        raise OAuthError("invalid_authorization_details", "Each object_path must be /serving-endpoints/NAME.")
    return paths
