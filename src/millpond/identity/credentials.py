"""Secrets and how they are kept: random tokens by SHA-256, passwords by scrypt, short-lived tokens signed (JWT).

A token of 256 random bits needs no slow hash; a password does. The cost of scrypt (N=2^15, r=8, p=3) is one of the
equals of the OWASP Password Storage Cheat Sheet: a quarter of a second and 32 MiB. Hashes carry their cost, so that it
can be raised.
"""

import base64
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jwt

from millpond.home import write_private_once
from millpond.identity.domain import OPAQUE_PREFIX, Work
from millpond.kernel.errors import InvalidArgument, Unauthenticated

TOKEN_PREFIX = "dapi"  # noqa: S105 - a prefix, not a secret; clients and secret scanners know it
CLIENT_SECRET_PREFIX = "dose"  # noqa: S105 - the same for the secrets of service principals
MAX_PASSWORD_LENGTH = 1024
_MIN_PASSWORD_LENGTH = 8
_MIN_KEY_LENGTH = 16
_COST = {"n": 1 << 15, "r": 8, "p": 3}
_MAX_MEMORY = 256 << 20
_ALGORITHM = "HS256"
_ISSUER = "millpond"

NOBODYS_HASH = "scrypt$32768$8$3$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
"""Compared with when there is no such user, so that the answer takes as long; no password has this hash."""


def new_secret(prefix: str = TOKEN_PREFIX) -> str:
    """A new random token: the prefix and 64 hexadecimal digits."""
    return prefix + secrets.token_hex(32)


def hash_secret(secret: str) -> bytes:
    """What the database keeps of a random token.

    It is found by this hash: what the time of that search tells is about the hash, not the token.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def hash_password(password: str) -> str:
    """What the database keeps of a password: cost, salt and scrypt hash.

    Raises InvalidArgument for a password that is too short or too long.
    """
    if not _MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise InvalidArgument(f"A password has {_MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters.")
    salt = os.urandom(16)
    digest = _scrypt(password, salt, **_COST)
    cost = "$".join(map(str, _COST.values()))
    return f"scrypt${cost}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def password_matches(password: str, stored: str) -> bool:
    """Whether the password is the one that was hashed; takes the same time either way."""
    _, n, r, p, salt, digest = stored.split("$")
    found = _scrypt(password[: MAX_PASSWORD_LENGTH + 1], base64.b64decode(salt), n=int(n), r=int(r), p=int(p))
    return hmac.compare_digest(found, base64.b64decode(digest))


def _scrypt(password: str, salt: bytes, *, n: int, r: int, p: int) -> bytes:
    raw = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(raw, salt=salt, dklen=32, n=n, r=r, p=p, maxmem=_MAX_MEMORY)


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a short-lived signed token says."""

    principal_id: str
    expires_at: datetime
    credential_id: str | None = None
    """The credential that it was got with: it ends when that one is revoked or expires."""
    paths: tuple[str, ...] | None = None
    """The URL paths that it is good for, with all below them; None is good for every path and protocol."""
    methods: tuple[str, ...] | None = None
    """The HTTP methods that it is good for, where it is good for some only."""
    work: Work | None = None


class Signer:
    """Makes and checks short-lived signed tokens that name a principal."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, claims: Claims, *, now: datetime) -> str:
        """A token that says this."""
        body = {"iss": _ISSUER, "sub": claims.principal_id, "iat": now, "exp": claims.expires_at}
        if claims.credential_id is not None:
            body["cid"] = claims.credential_id
        if claims.paths is not None:
            body["paths"] = list(claims.paths)
        if claims.methods is not None:
            body["methods"] = list(claims.methods)
        if claims.work is not None:
            body["work"] = vars(claims.work)
        return jwt.encode(body, self._key, algorithm=_ALGORITHM)

    def read(self, token: str) -> Claims:
        """What a valid token says, with `OPAQUE_PREFIX` or without.

        Raises Unauthenticated when it is expired, altered or not ours.
        """
        try:
            body = jwt.decode(
                token.removeprefix(OPAQUE_PREFIX),
                self._key,
                algorithms=[_ALGORITHM],
                issuer=_ISSUER,
                options={"require": ["sub", "exp", "iat", "iss"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The access token has expired; get a new one.") from error
        except (jwt.InvalidTokenError, ValueError) as error:
            raise Unauthenticated("The access token is not valid.") from error
        return Claims(
            principal_id=str(body["sub"]),
            expires_at=datetime.fromtimestamp(body["exp"], tz=UTC),
            credential_id=body.get("cid"),
            paths=tuple(body["paths"]) if "paths" in body else None,
            methods=tuple(body["methods"]) if "methods" in body else None,
            work=Work(**body["work"]) if "work" in body else None,
        )


def load_signing_key(data_dir: Path) -> bytes:
    """The key of `MILLPOND_SECRET_KEY`, or of `<data>/secret.key`, which is made at the first start (mode 0600)."""
    configured = os.environ.get("MILLPOND_SECRET_KEY")
    if configured:
        if len(configured) < _MIN_KEY_LENGTH:
            raise InvalidArgument(f"MILLPOND_SECRET_KEY is shorter than {_MIN_KEY_LENGTH} characters; make it random.")
        return hashlib.sha256(configured.encode()).digest()
    path = data_dir / "secret.key"
    if not path.exists():
        write_private_once(path, secrets.token_hex(32))
    return bytes.fromhex(path.read_text().strip())
