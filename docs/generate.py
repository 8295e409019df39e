"""Writes `docs/reference/` and the tutorial from the code: `python docs/generate.py`; `--check` says what is stale."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py; change the code instead. -->\n\n"


def settings_page() -> str:
    """Every setting with its variable, default and meaning."""
    from millpond.kernel.settings import Settings

    rows = "\n".join(_setting_rows(Settings, "MILLPOND_", ""))
    return f"""# Settings

{NOTE}A setting comes from a flag of `millpond up`, else from its variable, else from `millpond.toml` in the working
directory, else it has its default. Unknown keys and variables are errors.

| key in `millpond.toml` | variable | default | meaning |
|---|---|---|---|
{rows}

`MILLPOND_SECRET_KEY` replaces the signing key in the data directory; give it where several machines share a database.
"""


def _setting_rows(model: type[BaseModel], prefix: str, path: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _setting_rows(kind, f"{prefix}{name.upper()}__", f"{path}{name}.")
        else:
            yield f"| `{path}{name}` | `{prefix}{name.upper()}` | {_default(field)} | {field.description or ''} |"


def _default(field: FieldInfo) -> str:
    return "none" if field.default is None else f"`{field.default}`"


def cli_page() -> str:
    """Every command with its help text."""
    from millpond.cli.main import cli

    parts = [f"# The `millpond` command\n\n{NOTE}"]
    for name, command in _commands(cli, "millpond"):
        help_text = command.get_help(click.Context(command, info_name=name, max_content_width=100))
        parts.append(f"## `{name}`\n\n```text\n{help_text}\n```\n\n")
    return "".join(parts).rstrip() + "\n"


def _commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Each command below a group by its whole name, groups before what is in them."""
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")


def errors_page() -> str:
    """Every error code with its HTTP status and meaning."""
    from millpond.kernel import errors
    from millpond.kernel.http import STATUS_OF_CODE

    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MillpondError)
    ]
    rows = "\n".join(
        f"| `{kind.code}` | {STATUS_OF_CODE.get(kind.code, 500)} | {' '.join((kind.__doc__ or '').split())} |"
        for kind in kinds
    )
    return f"""# Errors

{NOTE}Every error is `{{"error_code": ..., "message": ..., "details": []}}` with an HTTP status; MLflow, SCIM and OAuth
clients get the same in their own shape. The message says what is wrong, which object, and what to do.

| code | status | meaning |
|---|---|---|
{rows}
"""


def tutorial_page() -> str:
    """The churn tutorial, which the package ships because `millpond demo` runs it."""
    from millpond.examples.churn import run

    return (run.HERE / "tutorial.md").read_text()


PAGES = {
    "reference/settings.md": settings_page,
    "reference/cli.md": cli_page,
    "reference/errors.md": errors_page,
    "tutorial.md": tutorial_page,
}


def main() -> None:
    """Write the pages, or with `--check` fail when one differs."""
    stale = [name for name, page in PAGES.items() if not _same(DOCS / name, page())]
    if "--check" in sys.argv:
        sys.exit(f"Out of date, run 'python docs/generate.py': {', '.join(stale)}" if stale else 0)
    for name in stale:
        (DOCS / name).write_text(PAGES[name]())


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    main()
