"""Signing in: from a credential to a principal, and the credentials that one makes and revokes for oneself."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from millpond.identity import acts
from millpond.identity.attempts import AttemptLimiter, CheckingSlots, RememberedPasswords
from millpond.identity.credentials import (
    MAX_PASSWORD_LENGTH,
    NOBODYS_HASH,
    TOKEN_PREFIX,
    Claims,
    Signer,
    hash_password,
    hash_secret,
    new_secret,
    password_matches,
)
from millpond.identity.domain import (
    ADMINS,
    SYSTEM,
    Draft,
    IssuedToken,
    Principal,
    PrincipalKind,
    Token,
    Work,
    checked_name,
    checked_text,
)
from millpond.identity.snapshots import Snapshots
from millpond.identity.store import accounts, groups, tokens
from millpond.identity.store.groups import Standing
from millpond.identity.store.tokens import CredentialKind
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from millpond.kernel.freshness import Mark, snapshot_mark
from millpond.kernel.ids import new_id
from millpond.kernel.logs import get_logger

log = get_logger(__name__)

SESSION_PREFIX = "mps-"
SESSION_TTL = timedelta(days=7)
MAX_LIFETIME = timedelta(days=36_500)
MAX_TOKENS = 600
"""Personal access tokens of one principal. Source: the quota of the Databricks token API."""
MAX_COMMENT = 1000
_KEPT_AFTER_EXPIRY = timedelta(days=30)


class IdentityService:
    """Authentication and one's own credentials. Accounts and groups are in `directory.py`, others' tokens in
    `custody.py`, OAuth in `oauth.py`."""

    def __init__(self, database: Database, signer: Signer) -> None:
        self._database = database
        self._signer = signer
        self._attempts = AttemptLimiter()
        self._remembered = RememberedPasswords()
        self._slots = CheckingSlots()
        self._snapshots = Snapshots()

    def change_mark(self) -> tuple[Mark, bool]:
        """What tells whether anything can have changed about whoever asks, and whether it does so without a wait."""
        return snapshot_mark(self._database), self._database.is_sqlite

    @property
    def answers_at_once(self) -> bool:
        """Whether to find out who somebody is waits for nothing now."""
        return self._database.is_at_hand

    def authenticate(self, credential: str, *, path: str | None = None, method: str | None = None) -> Principal:
        """The active principal of a personal access token or a short-lived signed token.

        `path` and `method` are those of the HTTP request; a token that is good for some only is refused elsewhere.
        Raises Unauthenticated, and PermissionDenied for such a token.
        """
        if not credential.startswith(TOKEN_PREFIX):
            return self._by_signature(self._signer.read(credential), path, method)
        found = self._by_secret(credential, CredentialKind.PERSONAL, "The access token is wrong, expired or revoked.")
        return _within(found, path)

    def authenticate_link(self, signature: str, *, path: str) -> Principal:
        """The active principal in whose name a link to `path` was signed.

        Only a token for that very path will do: one that could do more has no business in an address, where it ends
        up in logs and histories. Raises Unauthenticated.
        """
        claims = self._signer.read(signature)
        if claims.paths != (path,):
            raise Unauthenticated("The link was altered; ask for a new one.")
        return self._by_signature(claims, path, "GET")

    def authenticate_session(self, secret: str) -> Principal:
        """The active principal of a browser session.

        Raises Unauthenticated.
        """
        return _within(self._by_secret(secret, CredentialKind.SESSION, "The session has ended; sign in again."), None)

    def authenticate_password(self, name: str, password: str, *, address: str = "") -> Principal:
        """The active user with this name and password; `address` is where the attempt comes from.

        Raises Unauthenticated, the same for an unknown name as for a wrong password, and ResourceExhausted after
        too many failures.
        """
        with self._database.read() as connection:
            account = accounts.find_by_name(connection, name)
            stored = accounts.password_hash(connection, account.id) if account and account.active else None
            principal = self._principal(connection, groups.standing_of(connection, account)) if account else None
        if stored is None or not self._remembered.knows(password, stored):
            self._check_password(name, password, stored, address)
        if principal is None:
            raise Unauthenticated("User name or password is wrong.")
        return _within(principal, None)

    def active_principal(self, name: str) -> Principal:
        """Somebody for whom the server acts without their credential, as for what they have set up to run.

        Raises NotFound when nobody active has the name.
        """
        with self._database.read() as connection:
            account = accounts.find_by_name(connection, name)
            if account is None or not account.active or account.kind is PrincipalKind.GROUP:
                raise NotFound(f"The account '{name}' does not exist or is not active.")
            return self._principal(connection, groups.standing_of(connection, account))

    def find_owner(self, name: str) -> Principal | None:
        """The active principal with a name, for what is done with the rights of who owns it; a group as a member is."""
        with self._database.read() as connection:
            account = accounts.find_by_name(connection, name)
            if account is None or not account.active:
                return None
            found = self._principal(connection, groups.standing_of(connection, account))
        if account.kind is not PrincipalKind.GROUP:
            return found
        return replace(found, groups=found.groups | {account.name}, is_admin=found.is_admin or account.name == ADMINS)

    def mint(
        self, principal: Principal, ttl_s: float, *, paths: Sequence[str] | None = None, work: Work | None = None
    ) -> str:
        """A signed token with which a part of this server acts as the principal for a time.

        Where it gets into users' code, give the `paths` that the code needs: then it is good for them and what is
        below them only, and cannot make a credential that outlives it. Code that runs for long gets one that is `lent`.
        """
        now = utc_now()
        claims = Claims(
            principal_id=principal.id,
            expires_at=now + timedelta(seconds=ttl_s),
            paths=None if paths is None else tuple(paths),
            work=work,
        )
        return self._signer.sign(claims, now=now)

    def borrowed(
        self, principal: Principal, ttl_s: float, *, paths: Sequence[str], loan: str, work: Work | None = None
    ) -> str:
        """As `mint`, a token that is good while there is a loan of the principal's, at the latest for `ttl_s`."""
        now = utc_now()
        claims = Claims(
            principal_id=principal.id, expires_at=now + timedelta(seconds=ttl_s), credential_id=loan,
            paths=tuple(paths), work=work,
        )  # fmt: skip
        return self._signer.sign(claims, now=now)

    @contextmanager
    def lent(self, principal: Principal, ttl_s: float, *, paths: Sequence[str], by: str) -> Iterator[str]:
        """As `mint`, for code that runs while the block does: then the token ends, at the latest after `ttl_s`.

        `by` names the server, which at its next start ends what it had lent when it was killed.
        """
        loan = new_id()
        with self._database.write() as connection:
            begin_loan(connection, principal.id, loan, by=by, ttl_s=ttl_s)
        try:
            yield self.borrowed(principal, ttl_s, paths=paths, loan=loan)
        finally:
            try:
                with self._database.write() as connection:
                    end_loan(connection, loan)
            except SQLAlchemyError as error:  # what it was for has ended all the same
                log.warning("a lent token could not be ended", ttl_s=ttl_s, exc_info=error)

    def end_lent(self, by: str) -> None:
        """End the tokens that a server had lent before it was started."""
        with self._database.write() as connection:
            tokens.remove_lent(connection, by)

    def sign_in(
        self, *, user_name: str | None = None, password: str | None = None, token: str | None = None, address: str = ""
    ) -> tuple[Principal, str]:
        """Open a browser session by password or by personal access token; returns the secret for the cookie.

        A session opened with a token ends when the token does. Raises Unauthenticated and ResourceExhausted.
        """
        if token:
            with self._database.read() as connection:
                held = tokens.find_held(connection, hash_secret(token.strip()), CredentialKind.PERSONAL, utc_now())
                if held is None:
                    raise Unauthenticated("The access token is wrong, expired or revoked.")
                principal = _within(self._principal(connection, held.standing), None)
            return principal, self.open_session(principal, held.token)
        principal = self.authenticate_password(user_name or "", password or "", address=address)
        return principal, self.open_session(principal)

    def close_session(self, secret: str) -> None:
        """End a browser session; harmless when it has ended."""
        with self._database.write() as connection:
            tokens.remove_by_hash(connection, hash_secret(secret))

    def create_token(
        self, principal: Principal, *, comment: str = "", lifetime: timedelta | None = None
    ) -> IssuedToken:
        """A new personal access token of the principal's own; None never expires.

        Raises InvalidArgument, and FailedPrecondition when the principal has too many.
        """
        secret = new_secret()
        with self._database.write() as connection:
            token = issue_personal(connection, principal.id, principal, secret, comment, lifetime)
        return IssuedToken(token=token, secret=secret)

    def list_tokens(self, principal: Principal) -> tuple[Token, ...]:
        """The principal's own personal access tokens that have not expired."""
        with self._database.read() as connection:
            return tokens.listed(connection, CredentialKind.PERSONAL, utc_now(), principal_id=principal.id)

    def revoke_token(self, principal: Principal, token_id: str) -> None:
        """Revoke a personal access token: one's own, or any for an administrator.

        Raises NotFound.
        """
        owner = None if principal.is_admin else principal.id
        with self._database.write() as connection:
            if not tokens.remove(connection, token_id, CredentialKind.PERSONAL, owner):
                acts.denied(principal, "revoke", "token", token_id)
                raise NotFound(f"Token '{token_id}' does not exist.")
            acts.changed(connection, principal.name, "revoke", "token", token_id)

    def comment_token(self, principal: Principal, token_id: str, comment: str) -> Token:
        """Change the comment of a personal access token: one's own, or any for an administrator.

        Raises NotFound.
        """
        owner = None if principal.is_admin else principal.id
        with self._database.write() as connection:
            if tokens.find(connection, token_id, CredentialKind.PERSONAL, owner) is None:
                raise NotFound(f"Token '{token_id}' does not exist.")
            tokens.set_comment(connection, token_id, checked_text(comment, "comment", MAX_COMMENT))
            token = tokens.find(connection, token_id, CredentialKind.PERSONAL)
        if token is None:
            raise NotFound(f"Token '{token_id}' does not exist.")
        return token

    def change_password(self, principal: Principal, *, current: str, new: str, address: str = "") -> None:
        """Replace one's own password and end one's browser sessions.

        Raises PermissionDenied when the current password is wrong, InvalidArgument when the new one will not do.
        """
        try:
            self.authenticate_password(principal.name, current, address=address)
        except Unauthenticated as error:
            acts.denied(principal, "change password", "user", principal.name)
            raise PermissionDenied("The current password is wrong.") from error
        hashed = hash_password(new)
        with self._database.write() as connection:
            accounts.set_password_hash(connection, principal.id, hashed)
            tokens.remove_sessions(connection, principal.id)
            acts.changed(connection, principal.name, "change password", "user", principal.name)

    def bootstrap(self, name: str, *, password: str, secret: str) -> bool:
        """Make the first administrator with this password and access token, if there is no user yet.

        The caller keeps both in a file *before* the call, so that a crash in between loses nothing. False when there
        is a user.
        """
        draft = Draft(name=checked_name(name, PrincipalKind.USER), display_name=name.split("@")[0])
        with self._database.read() as connection:
            if accounts.has_users(connection):
                return False
        password_hash, now = hash_password(password), utc_now()
        with self._database.write() as connection:
            groups.lock(connection)
            if accounts.has_users(connection):
                return False
            account = accounts.add(connection, PrincipalKind.USER, draft, now)
            groups.join(connection, groups.group_named(connection, ADMINS).id, [account.id])
            accounts.set_password_hash(connection, account.id, password_hash)
            add_credential(connection, account.id, secret, CredentialKind.PERSONAL, now, comment="first administrator")
            acts.changed(connection, SYSTEM.name, "create", "user", account.name, administrator=True)
        return True

    def purge_expired(self) -> int:
        """Remove sessions and tokens that expired long ago; how many there were."""
        with self._database.write() as connection:
            return tokens.remove_expired(connection, utc_now() - _KEPT_AFTER_EXPIRY)

    def _by_secret(self, secret: str, kind: CredentialKind, refusal: str) -> Principal:
        with self._database.read() as connection:
            held = tokens.find_held(connection, hash_secret(secret), kind, utc_now())
            if held is None:
                raise Unauthenticated(refusal)
            return self._principal(connection, held.standing)

    def _by_signature(self, claims: Claims, path: str | None, method: str | None) -> Principal:
        principal = _within(self._named_by(claims), path)
        if claims.work is not None:
            principal = replace(principal, work=claims.work)
        if claims.methods is not None and method not in claims.methods:
            raise PermissionDenied(f"This access token is good for {', '.join(claims.methods)} only.")
        if claims.paths is None:
            return principal
        narrowed = replace(principal, paths=claims.paths)
        if path is None or not narrowed.may_call(path):
            raise PermissionDenied(f"This access token is good for {', '.join(claims.paths)} only.")
        return narrowed

    def _named_by(self, claims: Claims) -> Principal:
        if claims.principal_id == SYSTEM.id:
            return SYSTEM
        with self._database.read() as connection:
            if claims.credential_id is not None:
                return self._principal(connection, _by_credential(connection, claims, claims.credential_id))
            account = accounts.find(connection, claims.principal_id)
            if account is None or not account.active:
                raise Unauthenticated("The account of this access token does not exist or is not active.")
            return self._principal(connection, groups.standing_of(connection, account))

    def _principal(self, connection: Connection, standing: Standing) -> Principal:
        return self._snapshots.principal(connection, standing)

    def _check_password(self, name: str, password: str, stored: str | None, address: str) -> None:
        self._attempts.check(name, address)
        with self._slots.slot():
            matches = password_matches(password, stored or NOBODYS_HASH)
        if stored is None or not matches or len(password) > MAX_PASSWORD_LENGTH:
            self._attempts.failed(name, address)
            acts.denied(None, "sign in", "user", name[:100])
            raise Unauthenticated("User name or password is wrong.")
        self._attempts.succeeded(name, address)
        self._remembered.remember(password, stored)

    def open_session(self, principal: Principal, parent: Token | None = None) -> str:
        """Open a browser session for who has proved who they are; the secret for the cookie. It ends with `parent`."""
        acts.identified(principal)
        secret, now = new_secret(SESSION_PREFIX), utc_now()
        ends = now + SESSION_TTL
        if parent is not None and parent.expires_at is not None:
            ends = min(ends, parent.expires_at)
        parent_id = parent.id if parent else None
        with self._database.write() as connection:
            tokens.remove_expired(connection, now - _KEPT_AFTER_EXPIRY)
            add_credential(
                connection, principal.id, secret, CredentialKind.SESSION, now, expires_at=ends, parent_id=parent_id
            )
            acts.changed(connection, principal.name, "sign in", principal.kind.words, principal.name)
        return secret


def begin_loan(connection: Connection, principal_id: str, loan: str, *, by: str, ttl_s: float | None = None) -> None:
    """Let tokens be good that are `borrowed` under this id, until `end_loan`, at the latest for `ttl_s`; `by` names who
    lends. Raises Unauthenticated where the principal is gone."""
    now = utc_now()
    ends = None if ttl_s is None else now + timedelta(seconds=ttl_s)
    add_credential(
        connection, principal_id, new_secret(), CredentialKind.LENT, now, comment=by, expires_at=ends, token_id=loan
    )


def begin_loan_of(connection: Connection, name: str, loan: str, *, by: str) -> None:
    """The same for whoever has a name; there is none where nobody has."""
    if (account := accounts.find_by_name(connection, name)) is not None:
        begin_loan(connection, account.id, loan, by=by)


def end_loan(connection: Connection, loan: str) -> None:
    """End a loan, and with it all tokens that hang on it; harmless where there is none."""
    tokens.remove(connection, loan, CredentialKind.LENT)


def _within(principal: Principal, path: str | None) -> Principal:
    """The principal, if the account is good for a path; all but those of workers are. Raises PermissionDenied."""
    if principal.paths is not None and (path is None or not principal.may_call(path)):
        acts.denied(principal, "open", "path", path or "sign in")
        raise PermissionDenied(f"{principal.name} is a worker; its credentials are good for {principal.paths[0]} only.")
    return principal


def issue_personal(
    connection: Connection, holder_id: str, maker: Principal, secret: str, comment: str, lifetime: timedelta | None
) -> Token:
    """Add a personal access token, with the checks that all of them undergo."""
    now = utc_now()
    expires_at = expiry(now, lifetime)
    comment = checked_text(comment, "comment", MAX_COMMENT)
    if tokens.count(connection, holder_id, CredentialKind.PERSONAL) >= MAX_TOKENS:
        raise FailedPrecondition(f"There are {MAX_TOKENS} access tokens already; delete some first.")
    token = add_credential(
        connection,
        holder_id,
        secret,
        CredentialKind.PERSONAL,
        now,
        comment=comment,
        expires_at=expires_at,
        created_by=maker.name,
    )
    acts.changed(connection, maker.name, "create", "token", token.id, holder_id=holder_id)
    return token


def add_credential(
    connection: Connection,
    holder_id: str,
    secret: str,
    kind: CredentialKind,
    now: datetime,
    *,
    comment: str = "",
    expires_at: datetime | None = None,
    parent_id: str | None = None,
    created_by: str = "",
    token_id: str | None = None,
) -> Token:
    """Add a credential of a holder who may have been deleted a moment ago: then raises Unauthenticated."""
    try:
        return tokens.add(
            connection,
            principal_id=holder_id,
            created_by=created_by,
            secret_hash=hash_secret(secret),
            kind=kind,
            comment=comment,
            created_at=now,
            expires_at=expires_at,
            parent_id=parent_id,
            token_id=token_id,
        )
    except IntegrityError as error:
        raise Unauthenticated("The account or its access token has just been deleted.") from error


def expiry(now: datetime, lifetime: timedelta | None) -> datetime | None:
    """When a credential of this lifetime expires; None is never.

    Raises InvalidArgument for a lifetime that is not positive or longer than a century.
    """
    if lifetime is None:
        return None
    if not timedelta(0) < lifetime <= MAX_LIFETIME:
        raise InvalidArgument(
            f"The lifetime is {lifetime.total_seconds():.0f} s; give 1 to {MAX_LIFETIME.total_seconds():.0f}, "
            "or none for a token that does not expire."
        )
    return now + lifetime


def _by_credential(connection: Connection, claims: Claims, credential_id: str) -> Standing:
    held = tokens.find_held_by_id(connection, credential_id, utc_now())
    if held is None or held.account.id != claims.principal_id:
        raise Unauthenticated("The secret behind this access token is deleted or expired, or its holder is not active.")
    return held.standing
