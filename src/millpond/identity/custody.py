"""Credentials in an administrator's hands: everybody's access tokens, and the secrets of service principals."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from millpond.identity import acts
from millpond.identity.access import require_admin
from millpond.identity.credentials import CLIENT_SECRET_PREFIX, hash_secret, new_secret
from millpond.identity.domain import Account, Principal, PrincipalKind, Token, checked_text
from millpond.identity.service import MAX_COMMENT, add_credential, expiry, issue_personal
from millpond.identity.store import accounts, tokens
from millpond.identity.store.tokens import CredentialKind
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, NotFound

MAX_CLIENT_SECRETS = 5
"""Secrets of one service principal: enough to change them without a gap. Source: the limit of Databricks."""
DEFAULT_SECRET_LIFETIME = timedelta(days=730)


@dataclass(frozen=True, kw_only=True)
class TokenRecord:
    """A token with the accounts that hold it and made it."""

    token: Token
    owner: Account | None
    creator: Account | None


@dataclass(frozen=True, kw_only=True)
class ClientSecret:
    """A service principal's secret; `value` only when it has just been made."""

    token: Token
    secret_hash: str
    value: str | None = None


class CustodyService:
    """What administrators do with credentials that are not their own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_tokens(
        self, principal: Principal, *, created_by_id: str | None = None, created_by_name: str | None = None
    ) -> tuple[TokenRecord, ...]:
        """Everybody's personal access tokens, or those that one principal made."""
        require_admin(principal, "list everybody's access tokens")
        with self._database.read() as connection:
            maker = None
            if created_by_id is not None or created_by_name is not None:
                account = _creator(connection, created_by_id, created_by_name)
                if account is None:
                    return ()
                maker = account.name
            found = tokens.listed(connection, CredentialKind.PERSONAL, utc_now(), created_by=maker)
            return _records(connection, found)

    def get_token(self, principal: Principal, token_id: str) -> TokenRecord:
        """Anybody's personal access token.

        Raises NotFound.
        """
        require_admin(principal, "see others' access tokens")
        with self._database.read() as connection:
            token = tokens.find(connection, token_id, CredentialKind.PERSONAL)
            if token is None:
                raise NotFound(f"Token '{token_id[:64]}' does not exist.")
            return _records(connection, (token,))[0]

    def revoke_token(self, principal: Principal, token_id: str) -> None:
        """Revoke anybody's personal access token.

        Raises NotFound.
        """
        require_admin(principal, "revoke others' access tokens")
        with self._database.write() as connection:
            if not tokens.remove(connection, token_id, CredentialKind.PERSONAL):
                raise NotFound(f"Token '{token_id[:64]}' does not exist.")
            acts.changed(connection, principal.name, "revoke", "token", token_id)

    def comment_token(self, principal: Principal, token_id: str, comment: str) -> TokenRecord:
        """Change the comment of anybody's personal access token.

        Raises NotFound.
        """
        self.get_token(principal, token_id)
        with self._database.write() as connection:
            tokens.set_comment(connection, token_id, checked_text(comment, "comment", MAX_COMMENT))
        return self.get_token(principal, token_id)

    def create_token_for(
        self,
        principal: Principal,
        name: str,
        *,
        kind: PrincipalKind,
        comment: str = "",
        lifetime: timedelta | None = None,
    ) -> tuple[TokenRecord, str]:
        """A personal access token for a service principal or another user; also returns its secret.

        Raises NotFound, and FailedPrecondition when the account is not active.
        """
        require_admin(principal, "make access tokens for others")
        secret = new_secret()
        with self._database.write() as connection:
            account = accounts.find_by_name(connection, name)
            if account is None or account.kind is not kind:
                raise NotFound(f"There is no {kind.words} '{name[:100]}'.")
            if not account.active:
                raise FailedPrecondition(f"The {kind.words} '{account.name}' is not active; activate it first.")
            token = issue_personal(connection, account.id, principal, secret, comment, lifetime)
            return _records(connection, (token,))[0], secret

    def create_client_secret(
        self, principal: Principal, account_id: str, *, lifetime: timedelta | None = None
    ) -> ClientSecret:
        """A secret with which a service principal gets access tokens by OAuth; two years when no lifetime is given.

        Raises NotFound, and FailedPrecondition when the service principal has too many.
        """
        require_admin(principal, "make secrets of service principals")
        secret, now = new_secret(CLIENT_SECRET_PREFIX), utc_now()
        expires_at = expiry(now, lifetime or DEFAULT_SECRET_LIFETIME)
        with self._database.write() as connection:
            account = _service_principal(connection, account_id)
            if tokens.count(connection, account.id, CredentialKind.CLIENT_SECRET) >= MAX_CLIENT_SECRETS:
                raise FailedPrecondition(
                    f"Service principal '{account.display_name}' has {MAX_CLIENT_SECRETS} secrets; delete one first."
                )
            token = add_credential(
                connection,
                account.id,
                secret,
                CredentialKind.CLIENT_SECRET,
                now,
                expires_at=expires_at,
                created_by=principal.name,
            )
            acts.changed(connection, principal.name, "create", "client secret", token.id, holder_id=account.id)
        return ClientSecret(token=token, secret_hash=hash_secret(secret).hex(), value=secret)

    def list_client_secrets(self, principal: Principal, account_id: str) -> tuple[ClientSecret, ...]:
        """The secrets of a service principal that have not expired.

        Raises NotFound.
        """
        require_admin(principal, "list the secrets of service principals")
        with self._database.read() as connection:
            account = _service_principal(connection, account_id)
            found = tokens.listed(connection, CredentialKind.CLIENT_SECRET, utc_now(), principal_id=account.id)
            return tuple(
                ClientSecret(token=token, secret_hash=tokens.hash_of(connection, token.id).hex()) for token in found
            )

    def delete_client_secret(self, principal: Principal, account_id: str, secret_id: str) -> None:
        """Delete a secret; the access tokens that were got with it stop at once.

        Raises NotFound.
        """
        require_admin(principal, "delete secrets of service principals")
        with self._database.write() as connection:
            account = _service_principal(connection, account_id)
            if not tokens.remove(connection, secret_id, CredentialKind.CLIENT_SECRET, account.id):
                raise NotFound(f"Service principal '{account.display_name}' has no secret '{secret_id[:64]}'.")
            acts.changed(connection, principal.name, "delete", "client secret", secret_id, holder_id=account.id)


def _creator(connection: Connection, created_by_id: str | None, created_by_name: str | None) -> Account | None:
    if created_by_id is None:
        return accounts.find_by_name(connection, created_by_name or "")
    account = accounts.find(connection, created_by_id)
    same = account is not None and created_by_name in {None, account.name}
    return account if same else None


def _records(connection: Connection, found: tuple[Token, ...]) -> tuple[TokenRecord, ...]:
    owners = accounts.find_many(connection, sorted({token.principal_id for token in found}))
    makers = {name: accounts.find_by_name(connection, name) for name in {token.created_by for token in found}}
    return tuple(
        TokenRecord(token=token, owner=owners.get(token.principal_id), creator=makers[token.created_by])
        for token in found
    )


def _service_principal(connection: Connection, account_id: str) -> Account:
    account = accounts.find(connection, account_id, PrincipalKind.SERVICE_PRINCIPAL)
    if account is None:
        raise NotFound(f"There is no service principal with id '{account_id[:40]}'.")
    return account


def lifetime_of(text: str | None) -> timedelta | None:
    """The lifetime that OAuth secrets are given in: seconds and an `s`, as in `3600s`.

    Raises InvalidArgument.
    """
    if text is None:
        return None
    digits = text.removesuffix("s")
    if not (digits.isascii() and digits.isdecimal() and 0 < len(digits) <= 10):
        raise InvalidArgument(f"The lifetime '{text[:40]}' is not a number of seconds such as '3600s'.")
    return timedelta(seconds=int(digits))
