"""What is at rest tells nothing, moves nowhere, and survives every change of the master key."""

import shlex
import stat
import sys
from pathlib import Path

import pytest
from sqlalchemy import select, update

from millpond.cli import doctor
from millpond.kernel.errors import DataLoss, FailedPrecondition, PermissionDenied
from millpond.kernel.settings import Settings, load_settings
from millpond.secrets import store
from millpond.secrets.envelope import Key
from millpond.secrets.keyring import MasterKeyUnavailable
from tests.secrets.conftest import VALUE, Vault


def stored(vault: Vault) -> bytes:
    """Everything that the secrets' tables hold."""
    tables = (store.scopes, store.secrets, store.acls, store.master_key)
    with vault.database.read() as connection:
        return repr([connection.execute(select(table)).all() for table in tables]).encode()


def change(vault: Vault, name: str, **values: object) -> None:
    with vault.database.write() as connection:
        connection.execute(update(store.secrets).where(store.secrets.c.name_key == name).values(values))


def sealed(vault: Vault, key: str) -> bytes:
    with vault.database.read() as connection:
        query = select(store.secrets.c.sealed).where(store.secrets.c.name_key == key)
        return bytes(connection.execute(query).scalar_one())


def test_a_value_is_not_in_the_database(filled: Vault) -> None:
    assert VALUE not in stored(filled)
    first = sealed(filled, "token")
    filled.service.put_secret(filled.ann, "app", "token", VALUE)
    assert sealed(filled, "token")[12:] != first[12:]  # the same value twice does not look the same


def test_the_master_key_is_a_private_file(filled: Vault) -> None:
    (file,) = filled.keys.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(filled.keys.stat().st_mode) == 0o700
    assert file.read_text().strip().encode() not in stored(filled)


def test_a_ciphertext_opens_in_its_own_place_only(filled: Vault) -> None:
    """Neither under another key, nor in another scope, nor as another version, nor with a bit changed."""
    filled.service.put_secret(filled.ann, "app", "other", b"other")
    filled.service.create_scope(filled.ann, "second")
    filled.service.put_secret(filled.ann, "second", "token2", b"x")
    right = sealed(filled, "token")
    for key, scope, values in (
        ("other", "app", {"sealed": right}),
        ("token2", "second", {"sealed": right, "key": "token"}),
        ("token", "app", {"version": 2}),
        ("token", "app", {"version": 1, "sealed": right[:-1] + bytes([right[-1] ^ 1])}),
        ("token", "app", {"sealed": b""}),
    ):
        change(filled, key, **values)
        with pytest.raises(DataLoss, match="altered or is damaged"):
            filled.service.get_secret(filled.ann, scope, key)


def test_a_secret_that_is_put_again_is_well(filled: Vault) -> None:
    change(filled, "token", sealed=b"broken")
    filled.service.put_secret(filled.ann, "app", "token", b"mended")
    assert filled.service.get_secret(filled.ann, "app", "token") == b"mended"


def test_a_missing_master_key_is_named_and_nothing_is_lost(filled: Vault, tmp_path: Path) -> None:
    """No new key is made in its place, and bringing it back brings the secrets back."""
    (file,) = filled.keys.iterdir()
    file.rename(tmp_path / "kept")
    service = filled.reopened()
    for attempt in (
        lambda: service.get_secret(filled.ann, "app", "token"),
        lambda: service.put_secret(filled.ann, "app", "token", b"new"),
        lambda: service.create_scope(filled.ann, "second"),
        lambda: service.rotate_master_key(filled.admin),
    ):
        with pytest.raises(MasterKeyUnavailable, match=r"does not have.*Bring it back from a backup"):
            attempt()
    for wrong in ("", "zz", Key.new().text):
        file.write_text(wrong)
        with pytest.raises(MasterKeyUnavailable, match="bring it back from a backup") as caught:
            service.get_secret(filled.ann, "app", "token")
        assert not wrong or wrong not in caught.value.message
    (tmp_path / "kept").rename(file)
    assert service.get_secret(filled.ann, "app", "token") == VALUE


def test_rotation_changes_the_key_under_a_server_that_runs(filled: Vault) -> None:
    """Another process, which knows the old key only, reads, writes and makes scopes with the new one."""
    running = filled.reopened()
    assert running.get_secret(filled.ann, "app", "token") == VALUE
    done = filled.service.rotate_master_key(filled.admin)
    assert (done.scopes, len(list(filled.keys.iterdir()))) == (1, 2)
    (filled.keys / f"{done.previous_key_id}.key").unlink()
    assert running.get_secret(filled.ann, "app", "token") == VALUE
    running.put_secret(filled.ann, "app", "token", b"after")
    running.create_scope(filled.ann, "second")
    assert filled.reopened().get_secret(filled.ann, "app", "token") == b"after"
    assert {scope.master_key_id for scope in running.list_scopes(filled.ann)} == {done.key_id}


def test_a_scope_wrapped_with_the_key_of_a_moment_ago_is_wrapped_again(
    filled: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rotation between choosing the key and adding the scope leaves no scope under the old key."""
    running = filled.reopened()
    choose = running._master_key

    def choose_and_be_overtaken() -> Key:
        key = choose()
        monkeypatch.setattr(running, "_master_key", choose)
        filled.service.rotate_master_key(filled.admin)
        return key

    monkeypatch.setattr(running, "_master_key", choose_and_be_overtaken)
    running.create_scope(filled.ann, "second")
    assert len({scope.master_key_id for scope in running.list_scopes(filled.ann)}) == 1


def test_a_rotation_that_is_cut_off_changes_nothing(filled: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever line it ends at: the old key stays in use, and the next try succeeds."""
    filled.service.create_scope(filled.ann, "second")
    for name in ("rewrap", "use_master_key"):
        with monkeypatch.context() as patched:

            def die(*_arguments: object) -> None:
                raise KeyboardInterrupt

            patched.setattr(store, name, die)
            with pytest.raises(KeyboardInterrupt):
                filled.service.rotate_master_key(filled.admin)
        assert filled.reopened().get_secret(filled.ann, "app", "token") == VALUE
    done = filled.service.rotate_master_key(filled.admin)
    for file in filled.keys.iterdir():
        if file.stem != done.key_id:
            file.unlink()
    assert filled.reopened().get_secret(filled.ann, "app", "token") == VALUE


def test_only_an_administrator_rotates(filled: Vault) -> None:
    with pytest.raises(PermissionDenied):
        filled.service.rotate_master_key(filled.ann)


def test_there_is_nothing_to_rotate_before_the_first_scope(vault: Vault) -> None:
    with pytest.raises(FailedPrecondition, match="no secret scope yet"):
        vault.service.rotate_master_key(vault.admin)
    assert not vault.keys.exists()


def test_the_key_moves_from_a_file_to_the_settings_to_a_command(filled: Vault, tmp_path: Path) -> None:
    """With both known meanwhile; then the old one is not needed."""
    first, second = Key.new().text, Key.new().text
    by_setting = filled.reopened(key=first)
    assert by_setting.get_secret(filled.ann, "app", "token") == VALUE  # the file's key is still the one in use
    by_setting.rotate_master_key(filled.admin)
    for file in filled.keys.iterdir():
        file.unlink()
    assert filled.reopened(key=first).get_secret(filled.ann, "app", "token") == VALUE
    with pytest.raises(FailedPrecondition, match="is the one in use"):
        filled.reopened(key=first).rotate_master_key(filled.admin)

    (tmp_path / "second").write_text(second)
    printing = f"cat {shlex.quote(str(tmp_path / 'second'))}"
    filled.reopened(key_command=printing, previous_key=first).rotate_master_key(filled.admin)
    assert filled.reopened(key_command=printing).get_secret(filled.ann, "app", "token") == VALUE
    with pytest.raises(MasterKeyUnavailable):
        filled.reopened(key=first).get_secret(filled.ann, "app", "token")
    assert list(filled.keys.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no-such-program-here", "could not be run"),
        (f"{sys.executable} -c \"print('hunter2'); exit(3)\"", "ended with code 3"),
        ("echo hunter2", "64 hexadecimal digits"),
        ("echo 'unclosed", "could not be run"),
    ],
)
def test_a_command_that_gives_no_key_is_named(vault: Vault, command: str, said: str) -> None:
    """By the setting, never by what it printed."""
    with pytest.raises(MasterKeyUnavailable, match=said) as caught:
        vault.reopened(key_command=command).create_scope(vault.ann, "app")
    assert "secrets.key_command" in caught.value.message
    assert "hunter2" not in caught.value.message


def test_the_settings_text_shows_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILLPOND_SECRETS__KEY", "5ec7e7" * 10 + "abcd")
    settings = load_settings()
    assert settings.secrets.key
    assert "5ec7e7" not in repr(settings)
    key = Key.new()
    assert key.text not in repr(key)


def test_doctor_knows_the_master_key(filled: Vault) -> None:
    """It is here; others can read it; it is gone."""
    (file,) = filled.keys.iterdir()
    settings = Settings(data_dir=filled.keys.parent, database_url=filled.database.url)
    assert doctor._secrets(settings).detail == f"master key {file.stem} is here"
    file.chmod(0o644)
    assert doctor._secrets(settings).mend == f"chmod 600 {file}"
    file.unlink()
    finding = doctor._secrets(settings)
    assert not finding.ok
    assert "MILLPOND_SECRETS__KEY" in finding.mend
