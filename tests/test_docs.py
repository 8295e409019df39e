"""Documentation that is true: the reference is the code's, links lead somewhere, examples parse."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_the_reference_is_the_codes() -> None:
    """`docs/reference/` and the tutorial are what the generator writes now."""
    done = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link of a page names a file or folder."""
    targets = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples_parse(page: Path) -> None:
    """Each Python block is Python."""
    for block in re.findall(r"^```python[^\n]*\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        ast.parse(block)


def test_every_command_is_in_the_readme_or_the_guide() -> None:
    """A command that nobody documents does not exist for users."""
    from millpond.cli.main import cli

    text = (ROOT / "README.md").read_text() + "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    assert [name for name in cli.list_commands(None) if f"{name}" not in text] == []  # type: ignore[arg-type]


def test_the_readmes_commands_are_those_of_continuous_integration() -> None:
    """The script takes the test command from the README, so the README has exactly one."""
    commands = re.findall(r"^python3 -m venv .* pytest$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) == 1
    assert "README.md" in (ROOT / ".ci" / "run").read_text()
