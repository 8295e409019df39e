"""Secrets and how they are kept: random tokens by SHA-256, passwords by scrypt, short-lived tokens signed (JWT).

A token of 256 random bits needs no slow hash; a password does (OWASP Password Storage Cheat Sheet: scrypt N=2^17, r=8).
"""

import base64
import hashlib
import hmac
import os
import secrets
from datetime import datetime, timedelta
from pathlib import Path

import jwt

from millpond.kernel.errors import Unauthenticated

TOKEN_PREFIX = "dapi"  # noqa: S105 - a prefix, not a secret; clients and secret scanners know it
_SCRYPT = {"n": 1 << 17, "r": 8, "p": 1, "maxmem": 256 << 20}
_ALGORITHM = "HS256"
_ISSUER = "millpond"


def new_secret(prefix: str = TOKEN_PREFIX) -> str:
    """A new random token: the prefix and 64 hexadecimal digits."""
    return prefix + secrets.token_hex(32)


def hash_secret(secret: str) -> bytes:
    """What the database keeps of a random token."""
    return hashlib.sha256(secret.encode()).digest()


def hash_password(password: str) -> str:
    """What the database keeps of a password: salt and scrypt hash."""
    salt = os.urandom(16)
    digest = hashlib.scrypt(password.encode(), salt=salt, dklen=32, **_SCRYPT)
    return "$".join(["scrypt", base64.b64encode(salt).decode(), base64.b64encode(digest).decode()])


def password_matches(password: str, stored: str) -> bool:
    """Whether the password is the one that was hashed; takes the same time either way."""
    _, salt, digest = stored.split("$")
    found = hashlib.scrypt(password.encode(), salt=base64.b64decode(salt), dklen=32, **_SCRYPT)
    return hmac.compare_digest(found, base64.b64decode(digest))


class Signer:
    """Makes and checks short-lived signed tokens that name a principal."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, principal_id: str, *, now: datetime, ttl_s: float) -> str:
        """A token for a principal that expires after `ttl_s` seconds."""
        claims = {"iss": _ISSUER, "sub": principal_id, "iat": now, "exp": now + timedelta(seconds=ttl_s)}
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)

    def subject(self, token: str) -> str:
        """The principal id of a valid token.

        Raises Unauthenticated when it is expired, altered or not ours.
        """
        try:
            claims = jwt.decode(
                token, self._key, algorithms=[_ALGORITHM], issuer=_ISSUER, options={"require": ["sub", "exp"]}
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The access token has expired; get a new one.") from error
        except jwt.InvalidTokenError as error:
            raise Unauthenticated("The access token is not valid.") from error
        return str(claims["sub"])


def load_signing_key(data_dir: Path) -> bytes:
    """The key of `MILLPOND_SECRET_KEY`, or of `<data>/secret.key`, which is made at the first start (mode 0600)."""
    configured = os.environ.get("MILLPOND_SECRET_KEY")
    if configured:
        return hashlib.sha256(configured.encode()).digest()
    path = data_dir / "secret.key"
    if not path.exists():
        _write_key(path)
    return bytes.fromhex(path.read_text().strip())


def _write_key(path: Path) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(secrets.token_hex(32))
        stream.flush()
        os.fsync(stream.fileno())
    try:
        os.link(draft, path)  # fails when another process was first: then its key counts
    except FileExistsError:
        pass
    draft.unlink()
