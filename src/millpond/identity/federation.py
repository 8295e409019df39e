"""Accounts of an identity provider: whose a token is, in which groups, and the sign-in that gets one.

An account of the provider (issuer and subject) is tied to a user of ours when it first comes, by the claim that the
settings name. From then on the tie counts and not the claim: an address that the provider gives to somebody else, or a
new name, changes nothing.
"""

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from sqlalchemy import Connection

from millpond.identity import acts
from millpond.identity.directory import DirectoryService
from millpond.identity.domain import SYSTEM, USERS, Account, Draft, Entry, PrincipalKind
from millpond.identity.provider import IdentityProvider
from millpond.identity.service import IdentityService
from millpond.identity.store import accounts, groups, logins
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import AlreadyExists, Unauthenticated
from millpond.kernel.settings import OidcSettings

ATTEMPT_TTL_S = 600
_AUDIENCE = "sign-in attempt"
_MAX_GROUPS = 10_000


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A sign-in that goes on at the provider."""

    url: str
    cookie: str
    """What the browser must bring back, so that nobody can finish another's sign-in."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A sign-in that is done."""

    session: str
    """The secret for the session's cookie."""
    target: str
    """The page to go on to."""


class Federation:
    """Signs people and programs in by what the identity provider says."""

    def __init__(
        self,
        database: Database,
        identity: IdentityService,
        directory: DirectoryService,
        provider: IdentityProvider,
        *,
        key: bytes,
    ) -> None:
        self._database = database
        self._identity = identity
        self._directory = directory
        self._provider = provider
        self._settings: OidcSettings = provider.settings
        self._key = hashlib.sha256(_AUDIENCE.encode() + b"\0" + key).digest()

    @property
    def label(self) -> str:
        """What the button says."""
        return self._settings.label

    # People, in a browser

    def begin(self, *, redirect_uri: str, target: str) -> Begun:
        """Start a sign-in. Raises Unavailable when the provider does not answer."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        digest = hashlib.sha256(verifier.encode()).digest()
        url = self._provider.authorization_url(
            redirect_uri=redirect_uri,
            state=state,
            nonce=nonce,
            challenge=base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        )
        attempt = {
            "state": state,
            "nonce": nonce,
            "verifier": verifier,
            "redirect_uri": redirect_uri,
            "target": target,
            "aud": _AUDIENCE,
            "exp": utc_now() + timedelta(seconds=ATTEMPT_TTL_S),
        }
        return Begun(url=url, cookie=jwt.encode(attempt, self._key, algorithm="HS256"))

    def finish(self, cookie: str, answer: Mapping[str, str]) -> Finished:
        """End a sign-in with what the provider sent the browser back with.

        Raises Unauthenticated, Unavailable.
        """
        attempt = self._attempt(cookie)
        if not secrets.compare_digest(answer.get("state", "").encode(), attempt["state"].encode()):
            raise Unauthenticated("This answer belongs to another sign-in; start again.")
        if answer.get("iss", self._provider.issuer) != self._provider.issuer:  # RFC 9207
            raise Unauthenticated("This answer comes from another identity provider; start again.")
        if not answer.get("code"):
            code = "".join(c for c in answer.get("error", "no code") if c.isascii() and (c.isalpha() or c in "_ "))
            raise Unauthenticated(f"The identity provider did not sign you in ({code[:40]}).")
        token = self._provider.redeem(
            answer["code"], verifier=attempt["verifier"], redirect_uri=attempt["redirect_uri"]
        )
        audiences = (self._settings.client_id or "",)
        claims = self._provider.verify(token, audiences=audiences, nonce=attempt["nonce"])
        account = self._user(claims, create=self._settings.create_users)
        self._follow_groups(account, claims)
        principal = self._identity.active_principal(account.name)
        return Finished(session=self._identity.open_session(principal), target=attempt["target"])

    def _attempt(self, cookie: str) -> Mapping[str, str]:
        try:
            found: dict[str, str] = jwt.decode(cookie, self._key, algorithms=["HS256"], audience=_AUDIENCE)
        except jwt.PyJWTError as error:
            raise Unauthenticated(
                "This sign-in was not begun in this browser, or it took too long; start again."
            ) from error
        return found

    # Programs, with a token

    def exchange(self, token: str, client_id: str | None) -> tuple[str, datetime]:
        """Whose a provider's token is, by account id, and until when.

        With the application id of a service principal as `client_id` it is that one's, if its external id is the
        token's subject; without, it is a user's. Raises Unauthenticated, Unavailable.
        """
        if not self._settings.exchange_audiences:
            raise Unauthenticated(
                "Tokens of the identity provider are not exchanged here; see oidc.exchange_audiences."
            )
        claims = self._provider.verify(token, audiences=self._settings.exchange_audiences)
        account = self._service_principal(claims, client_id) if client_id else self._user(claims, create=False)
        if not account.active:
            raise _refused(claims, account.name)
        return account.id, datetime.fromtimestamp(claims["exp"], tz=UTC)

    def _service_principal(self, claims: Mapping[str, Any], client_id: str) -> Account:
        with self._database.read() as connection:
            account = accounts.find_by_name(connection, client_id)
        known = account is not None and account.kind is PrincipalKind.SERVICE_PRINCIPAL
        if account is None or not known or not account.external_id or account.external_id != claims["sub"]:
            raise _refused(claims, client_id)
        return account

    # Accounts

    def _user(self, claims: Mapping[str, Any], *, create: bool) -> Account:
        """The user to whom the provider's account is tied, now or before."""
        subject = str(claims["sub"])
        with self._database.read() as connection:
            tied = logins.find(connection, self._provider.issuer, subject)
            account = accounts.find(connection, tied) if tied else None
        if account is None:
            account = self._tie(subject, self._name(claims), claims, create=create)
        if not account.active:
            raise _refused(claims, account.name)
        return account

    def _name(self, claims: Mapping[str, Any]) -> str:
        claim = self._settings.user_claim
        name = claims.get(claim)
        if not isinstance(name, str) or not name.strip():
            raise Unauthenticated(f"The identity provider's token has no claim '{claim}'; see oidc.user_claim.")
        if claim == "email" and claims.get("email_verified", True) not in {True, "true"}:
            raise Unauthenticated("The identity provider has not verified this e-mail address.")
        return name.strip()

    def _tie(self, subject: str, name: str, claims: Mapping[str, Any], *, create: bool) -> Account:
        if create:
            self._create(name, claims)
        with self._database.write() as connection:
            groups.lock(connection)
            account = accounts.find_by_name(connection, name)
            # only case may differ: other characters that name_key takes for the same could be anybody's at the provider
            if account is None or account.kind is not PrincipalKind.USER or account.name.casefold() != name.casefold():
                raise _refused(claims, name)
            tied = logins.subject_of(connection, self._provider.issuer, account.id)
            if tied not in {None, subject}:
                raise _refused(claims, name)
            if tied is None:
                logins.add(connection, self._provider.issuer, subject, account.id)
                acts.changed(connection, SYSTEM.name, "tie to identity provider", "user", account.name, subject=subject)
        return account

    def _create(self, name: str, claims: Mapping[str, Any]) -> None:
        with self._database.read() as connection:
            if accounts.find_by_name(connection, name) is not None:
                return
        shown = claims.get("name")
        draft = Draft(name=name, display_name=shown[:255] if isinstance(shown, str) and shown else name)
        try:
            self._directory.create(SYSTEM, PrincipalKind.USER, draft)
        except AlreadyExists:  # the same person in another tab
            return

    # Groups

    def _follow_groups(self, account: Account, claims: Mapping[str, Any]) -> None:
        """Put the user into those of the mapped groups that the claim names, and out of the others of them."""
        claim, mapping = self._settings.groups_claim, self._settings.group_mapping
        if claim is None or not mapping:
            return
        if claim in (claims.get("_claim_names") or {}):
            raise Unauthenticated("You are in more groups than the identity provider writes into its token.")
        theirs = claims.get(claim) or []
        named = {theirs} if isinstance(theirs, str) else {str(each) for each in theirs[:_MAX_GROUPS]}
        wanted = {ours for their, ours in mapping.items() if their in named} - {USERS}
        managed = set(mapping.values()) - {USERS}
        with self._database.read() as connection:
            held = {group.name for group in groups.groups_of(connection, [account.id]).get(account.id, ())}
        if held & managed != wanted:
            self._change_groups(account, managed, wanted)

    def _change_groups(self, account: Account, managed: set[str], wanted: set[str]) -> None:
        ids = {name: self._group_id(name) for name in wanted}

        def edited(entry: Entry) -> Draft:
            kept = {group.id for group in entry.groups if group.name not in managed and group.name != USERS}
            held = entry.account
            return Draft(
                name=held.name,
                display_name=held.display_name,
                active=held.active,
                external_id=held.external_id,
                profile=held.profile,
                group_ids=frozenset(kept | set(ids.values())),
            )

        self._directory.update(SYSTEM, PrincipalKind.USER, account.id, edited)

    def _group_id(self, name: str) -> str:
        try:
            draft = Draft(name=name, display_name=name)
            return self._directory.create(SYSTEM, PrincipalKind.GROUP, draft).account.id
        except AlreadyExists:
            with self._database.read() as connection:
                return _group_named(connection, name).id


def open_federation(
    database: Database, identity: IdentityService, directory: DirectoryService, settings: OidcSettings, *, key: bytes
) -> Federation | None:
    """Sign-in at the provider of the settings; None without one. `key` signs what browsers carry there and back."""
    if settings.issuer is None:
        return None
    return Federation(database, identity, directory, IdentityProvider(settings), key=key)


def _group_named(connection: Connection, name: str) -> Account:
    account = accounts.find_by_name(connection, name)
    if account is None or account.kind is not PrincipalKind.GROUP:
        raise Unauthenticated(f"oidc.group_mapping names '{name}', which is no group.")
    return account


def _refused(claims: Mapping[str, Any], name: str) -> Unauthenticated:
    """One answer for who is not there, not active, and tied to somebody else; the log has the account."""
    acts.denied(None, "sign in", "identity provider's account", f"{name[:100]} ({str(claims.get('sub'))[:100]})")
    return Unauthenticated(f"Nobody may sign in here as '{name[:100]}'; ask an administrator.")
