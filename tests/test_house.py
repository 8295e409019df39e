"""The house style as failing tests: style, types, architecture."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["lint-imports", "--no-cache"]],
    ids=lambda command: command[0] + "-" + command[1] if len(command) > 1 else command[0],
)
def test_the_tree_passes(command: list[str]) -> None:
    """Each checker finds nothing."""
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_no_file_holds_two_nouns() -> None:
    """A source file past 500 lines is to be split."""
    long = {
        str(path.relative_to(ROOT)): count for path in (ROOT / "src").rglob("*.py") if (count := _lines(path)) > 500
    }
    assert not long


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())
