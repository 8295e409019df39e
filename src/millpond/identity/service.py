"""Signing in: from a credential to a principal, and the credentials that one can make and revoke."""

from datetime import timedelta

from millpond.identity import store
from millpond.identity.credentials import TOKEN_PREFIX, Signer, hash_password, hash_secret, new_secret, password_matches
from millpond.identity.domain import SYSTEM, IssuedToken, Principal, PrincipalKind, Token
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, NotFound, Unauthenticated
from millpond.kernel.ids import new_id

SESSION_PREFIX = "mps-"
SESSION_TTL = timedelta(days=7)
# Compared with when there is no such user, so that the answer takes as long; no password has this hash.
_NOBODYS_HASH = "scrypt$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


class IdentityService:
    """Authentication and credentials. Accounts and groups are in `directory.py`."""

    def __init__(self, database: Database, signer: Signer) -> None:
        self._database = database
        self._signer = signer

    def authenticate(self, credential: str) -> Principal:
        """The active principal of a personal access token or a short-lived signed token.

        Raises Unauthenticated.
        """
        if not credential.startswith(TOKEN_PREFIX):
            return self._by_signature(credential)
        with self._database.read() as connection:
            account = store.find_by_credential(connection, hash_secret(credential), ["personal"], utc_now())
        if account is None:
            raise Unauthenticated("The access token is wrong, expired or revoked.")
        return account.principal

    def authenticate_session(self, secret: str) -> Principal:
        """The active principal of a browser session.

        Raises Unauthenticated.
        """
        with self._database.read() as connection:
            account = store.find_by_credential(connection, hash_secret(secret), ["session"], utc_now())
        if account is None:
            raise Unauthenticated("The session has ended; sign in again.")
        return account.principal

    def authenticate_password(self, name: str, password: str) -> Principal:
        """The active user with this name and password.

        Raises Unauthenticated, the same for an unknown name as for a wrong password.
        """
        with self._database.read() as connection:
            account = store.find_account_by_name(connection, name)
            stored = store.find_password_hash(connection, account.id) if account and account.active else None
        matches = password_matches(password, stored or _NOBODYS_HASH)
        if account is None or stored is None or not matches:
            raise Unauthenticated("User name or password is wrong.")
        return account.principal

    def mint(self, principal: Principal, ttl_s: float) -> str:
        """A signed token with which a part of this server acts as the principal for a short time."""
        return self._signer.sign(principal.id, now=utc_now(), ttl_s=ttl_s)

    def open_session(self, principal: Principal) -> str:
        """A new browser session; returns the secret for the cookie."""
        secret = new_secret(SESSION_PREFIX)
        self._issue(principal.id, secret, kind="session", comment="browser", lifetime=SESSION_TTL)
        return secret

    def close_session(self, secret: str) -> None:
        """End a browser session; harmless when it has ended."""
        with self._database.write() as connection:
            store.delete_credential(connection, hash_secret(secret))

    def create_token(self, principal: Principal, *, comment: str = "", lifetime: timedelta | None = None) -> IssuedToken:
        """A new personal access token of the principal's own; None never expires."""
        if lifetime is not None and lifetime <= timedelta(0):
            raise InvalidArgument("lifetime_seconds must be positive, or absent for a token that does not expire.")
        secret = new_secret()
        token = self._issue(principal.id, secret, kind="personal", comment=comment, lifetime=lifetime)
        return IssuedToken(token=token, secret=secret)

    def list_tokens(self, principal: Principal) -> tuple[Token, ...]:
        """The principal's own personal access tokens."""
        with self._database.read() as connection:
            return store.list_tokens(connection, principal.id, "personal")

    def revoke_token(self, principal: Principal, token_id: str) -> None:
        """Revoke a personal access token: one's own, or any for an administrator.

        Raises NotFound.
        """
        with self._database.write() as connection:
            if not store.delete_token(connection, token_id, None if principal.is_admin else principal.id):
                raise NotFound(f"Token '{token_id}' does not exist.")

    def bootstrap(self, name: str, *, password: str, secret: str) -> bool:
        """Make the first administrator with this password and access token, if there is no account yet.

        The caller keeps both in a file *before* the call, so that a crash in between loses nothing. False when there
        is an account.
        """
        now = utc_now()
        with self._database.write() as connection:
            if store.count_accounts(connection):
                return False
            account = store.insert_account(
                connection,
                kind=PrincipalKind.USER,
                name=name,
                display_name=name.split("@")[0],
                is_admin=True,
                active=True,
                external_id=None,
                created_at=now,
            )
            store.set_password_hash(connection, account.id, hash_password(password))
            store.insert_token(
                connection,
                token_id=new_id(),
                principal_id=account.id,
                secret_hash=hash_secret(secret),
                kind="personal",
                comment="first administrator",
                created_at=now,
                expires_at=None,
            )
        return True

    def _by_signature(self, credential: str) -> Principal:
        principal_id = self._signer.subject(credential)
        if principal_id == SYSTEM.id:
            return SYSTEM
        with self._database.read() as connection:
            account = store.find_account(connection, principal_id)
        if account is None or not account.active:
            raise Unauthenticated("The account of this access token does not exist or is not active.")
        return account.principal

    def _issue(self, principal_id: str, secret: str, *, kind: str, comment: str, lifetime: timedelta | None) -> Token:
        now = utc_now()
        with self._database.write() as connection:
            return store.insert_token(
                connection,
                token_id=new_id(),
                principal_id=principal_id,
                secret_hash=hash_secret(secret),
                kind=kind,
                comment=comment,
                created_at=now,
                expires_at=now + lifetime if lifetime else None,
            )

