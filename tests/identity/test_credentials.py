"""Secrets are kept as hashes, and signed tokens are believed only as they were signed."""

import base64
import json
import os
import stat
from dataclasses import replace
from datetime import timedelta
from importlib.util import find_spec, module_from_spec
from pathlib import Path

import jwt
import pytest

from millpond.identity import credentials
from millpond.identity.credentials import (
    NOBODYS_HASH,
    Claims,
    Signer,
    hash_password,
    load_signing_key,
    new_secret,
    password_matches,
)
from millpond.identity.domain import OPAQUE_PREFIX
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import InvalidArgument, Unauthenticated

KEY = b"0123456789abcdef0123456789abcdef"


def claims() -> Claims:
    return Claims(
        principal_id="7",
        expires_at=(utc_now() + timedelta(minutes=5)).replace(microsecond=0),
        credential_id="c",
        paths=("/serving-endpoints/x",),
    )


def test_a_password_is_kept_salted_with_its_cost() -> None:
    stored = hash_password("correct horse")
    assert stored != hash_password("correct horse")
    assert "correct" not in stored
    assert password_matches("correct horse", stored)
    assert not password_matches("Correct horse", stored)
    assert stored.split("$")[1:4] == ["16", "8", "1"]


def test_the_cost_outside_tests_is_what_owasp_asks_for() -> None:
    spec = find_spec(credentials.__name__)
    assert spec is not None
    assert spec.loader is not None
    as_imported = module_from_spec(spec)
    spec.loader.exec_module(as_imported)
    assert as_imported._COST == {"n": 1 << 15, "r": 8, "p": 3}
    assert NOBODYS_HASH.split("$")[1:4] == ["32768", "8", "3"]
    assert not password_matches("", NOBODYS_HASH)


@pytest.mark.parametrize("password", ["", "short", "x" * 1025])
def test_a_password_that_will_not_do_is_refused(password: str) -> None:
    with pytest.raises(InvalidArgument):
        hash_password(password)


def test_a_secret_has_256_random_bits() -> None:
    assert new_secret() != new_secret()
    assert len(bytes.fromhex(new_secret().removeprefix("dapi"))) == 32


def test_a_signed_token_says_what_was_signed() -> None:
    signer = Signer(KEY)
    token = signer.sign(claims(), now=utc_now())
    assert signer.read(token) == signer.read(OPAQUE_PREFIX + token) == claims()


def test_an_opaque_token_is_no_jwt_to_clients() -> None:
    """The SQL connector exchanges each JWT that it can read and whose issuer is not its host."""
    token = OPAQUE_PREFIX + Signer(KEY).sign(claims(), now=utc_now())
    with pytest.raises(jwt.DecodeError):
        jwt.decode(token, options={"verify_signature": False})


def test_a_token_that_is_not_ours_is_refused() -> None:
    signer = Signer(KEY)
    good = signer.sign(claims(), now=utc_now())
    head, body, mark = good.split(".")
    other_body = base64.urlsafe_b64encode(json.dumps({"sub": "1"}).encode()).decode().rstrip("=")
    unsigned = jwt.encode({"sub": "1", "iss": "millpond", "exp": 9e9, "iat": 0}, None, algorithm="none")
    foreign = jwt.encode({"sub": "1", "iss": "other", "exp": 9e9, "iat": 0}, KEY, algorithm="HS256")
    endless = jwt.encode({"sub": "1", "iss": "millpond", "iat": 0}, KEY, algorithm="HS256")
    for token in (
        Signer(b"x" * 32).sign(claims(), now=utc_now()), f"{head}.{other_body}.{mark}", f"{head}.{body}.", good[:-2],
        unsigned, foreign, endless, "", "a.b.c", "\0", "é", "." * 5000,
    ):  # fmt: skip
        with pytest.raises(Unauthenticated):
            signer.read(token)


def test_an_expired_token_says_so() -> None:
    signer = Signer(KEY)
    old = replace(claims(), expires_at=utc_now() - timedelta(seconds=1))
    with pytest.raises(Unauthenticated, match="expired"):
        signer.read(signer.sign(old, now=utc_now() - timedelta(hours=1)))


def test_the_signing_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    first = load_signing_key(tmp_path)
    assert load_signing_key(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["secret.key"]


def test_a_weak_configured_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLPOND_SECRET_KEY", "short")
    with pytest.raises(InvalidArgument, match="MILLPOND_SECRET_KEY"):
        load_signing_key(tmp_path)
