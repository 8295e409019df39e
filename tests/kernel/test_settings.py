"""Flags over environment over file over default; a wrong key is named."""

from pathlib import Path

import pytest

from millpond.kernel.errors import InvalidArgument
from millpond.kernel.settings import load_settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_each_source_yields_to_the_one_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file gives three values, the environment overrides two of them, a flag one of those."""
    (tmp_path / "millpond.toml").write_text('port = 1001\nspark_port = 1002\nhost = "0.0.0.0"\n')
    monkeypatch.setenv("MILLPOND_PORT", "2001")
    monkeypatch.setenv("MILLPOND_SPARK_PORT", "2002")
    settings = load_settings(port=3001, spark_port=None)
    assert (settings.port, settings.spark_port, settings.host) == (3001, 2002, "0.0.0.0")


def test_nested_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two underscores go one level down."""
    monkeypatch.setenv("MILLPOND_ENGINE__REMOTE", "sc://spark:15002")
    assert load_settings().engine.remote == "sc://spark:15002"


@pytest.mark.parametrize(
    ("toml", "message"),
    [("prot = 1", "prot"), ("[engine]\nremotee = 'x'", "engine.remotee"), ("port = 70000", "port")],
)
def test_a_wrong_key_of_the_file_is_named(tmp_path: Path, toml: str, message: str) -> None:
    """Unknown keys and impossible values are errors that say which."""
    (tmp_path / "millpond.toml").write_text(toml)
    with pytest.raises(InvalidArgument, match=message):
        load_settings()


def test_an_unknown_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable does not pass in silence."""
    monkeypatch.setenv("MILLPOND_PROT", "1")
    with pytest.raises(InvalidArgument, match="MILLPOND_PROT"):
        load_settings()


def test_a_password_is_not_in_the_settings_text() -> None:
    """Printing the settings shows no database password."""
    assert "s3cret" not in repr(load_settings(database_url="postgresql://u:s3cret@h/d"))
