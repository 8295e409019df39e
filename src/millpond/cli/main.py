"""The `millpond` command."""

import importlib
import sys

import click

from millpond import __version__
from millpond.kernel.errors import MillpondError

_COMMANDS = {
    "up": "server",
    "down": "server",
    "status": "server",
    "logs": "server",
    "doctor": "doctor",
    "env": "connect",
    "login": "connect",
    "demo": "demo",
    "access": "access",
    "search": "search",
    "audit": "audit",
    "lineage": "lineage",
    "secrets": "secrets",
    "registry": "registry",
    "features": "features",
    "init": "init",
    "bundle": "bundle",
    "reproduce": "reproduce",
    "pins": "reproduce",
    "predictions": "predictions",
    "endpoint": "endpoint",
    "score": "score",
    "export": "export",
    "usage": "usage",
    "waste": "usage",
    "worker": "worker",
    "workers": "workers",
}


class _LazyGroup(click.Group):
    """Imports a command's file when it is called, so that each command starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"millpond.cli.{_COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="millpond")
def cli() -> None:
    """Millpond: the open, self-hosted lakehouse platform for machine learning."""


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(__version__)


def main() -> None:
    """Run the command; an error that a user may read is one line and exit code 1."""
    try:
        cli(standalone_mode=True)
    except MillpondError as error:
        click.echo(f"millpond: {error.message}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
