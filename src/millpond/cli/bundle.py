"""`millpond bundle`: what a directory declares, checked, planned, deployed and removed."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from millpond.bundles.deploying import Deployment, Plan
from millpond.bundles.planning import Act
from millpond.bundles.reading import read_bundle
from millpond.bundles.running import start_run
from millpond.cli.api import Api, api_command
from millpond.kernel.errors import FailedPrecondition, InvalidArgument

_SIGNS = {Act.CREATE: "+", Act.CHANGE: "~", Act.REPLACE: "±", Act.DELETE: "-"}


@click.group()
def bundle() -> None:
    """Jobs, pipelines, endpoints, models, schemas and volumes as files: validate, plan, deploy, run, destroy."""


def _bundle_command(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which bundle, and its first argument, the deployment."""

    @click.option("-t", "--target", help="A target of the bundle; without, its default.")
    @click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="A variable's value; repeat it.")
    @click.option("--directory", type=click.Path(path_type=Path, file_okay=False), default=".", help="Where "
                  "databricks.yml is; without, here.")  # fmt: skip
    @api_command
    @wraps(command)
    def with_bundle(api: Api, target: str | None, variables: tuple[str, ...], directory: Path, **more: Any) -> None:
        found = read_bundle(directory, target, _given(variables))
        command(Deployment(found, api), **more)

    return with_bundle


def _given(variables: tuple[str, ...], option: str = "--var") -> dict[str, str]:
    pairs = [each.partition("=") for each in variables]
    if wrong := [name for name, mark, _ in pairs if not mark or not name]:
        raise InvalidArgument(f"{option} takes NAME=VALUE, not '{wrong[0]}'.")
    return {name: value for name, _, value in pairs}


_approve = click.option("--auto-approve", is_flag=True, help="Do not ask before something is removed.")
_force = click.option("--force-lock", is_flag=True, help="Take the lock of a deployment that broke off.")


@bundle.command()
@_bundle_command
def validate(deployment: Deployment) -> None:
    """Check the bundle's files for a target, and say what is in it."""
    known = deployment.bundle
    click.echo(f"{known.name}, target {known.target}, as {deployment.user}, in {known.root_path}")
    for each in deployment.wanted:
        click.echo(f"  {each.name}")


@bundle.command()
@_bundle_command
def plan(deployment: Deployment) -> None:
    """Say what a deployment would do."""
    state = deployment.state()
    if state.by:
        click.echo(f"Deployed last by {state.by} at {state.at}.")
    _show(deployment.plan())


@bundle.command()
@_approve
@_force
@_bundle_command
def deploy(deployment: Deployment, auto_approve: bool, force_lock: bool) -> None:
    """Make the server hold what the bundle declares; asks before anything is removed."""

    def agree(planned: Plan) -> bool:
        removed = [step for step in planned.steps if step.removes]
        return not removed or auto_approve or _ask(planned)

    if not deployment.deploy(click.echo, agree, force_lock=force_lock):
        raise FailedPrecondition("Nothing was deployed.")
    click.echo("Deployed.")


@bundle.command()
@_approve
@_force
@_bundle_command
def destroy(deployment: Deployment, auto_approve: bool, force_lock: bool) -> None:
    """Remove all that the bundle deployed to the target, with the data in it."""
    if not deployment.destroy(click.echo, lambda planned: auto_approve or _ask(planned), force_lock=force_lock):
        raise FailedPrecondition("Nothing was removed.")
    click.echo("Removed.")


@bundle.command()
@click.argument("job")
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE", help="A job parameter's value; repeat it.")
@click.option("--only", multiple=True, metavar="TASK", help="Run this task, or refresh this table, alone; repeat it.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the run's end.")
@_bundle_command
def run(deployment: Deployment, job: str, parameters: tuple[str, ...], only: tuple[str, ...], no_wait: bool) -> None:
    """Run JOB, a key of the bundle's jobs or pipelines, as it was deployed last; what fails ends the command with 1."""
    started = start_run(deployment, job, _given(parameters, "--param"), only)
    click.echo(f"Run {started.id}: {started.page}")
    if not no_wait:
        result = started.follow(click.echo)
        if result != "SUCCESS":
            raise FailedPrecondition(f"The run ended with {result}.")


def _ask(planned: Plan) -> bool:
    _show(planned)
    return click.confirm("Removing cannot be undone. Go on?", default=False)


def _show(planned: Plan) -> None:
    for step in planned.steps:
        if step.act is not Act.KEEP:
            data = ", with all data in it" if step.removes and step.kind.holds_data else ""
            click.echo(f"{_SIGNS[step.act]} {step.act} {step.name}: {step.what}{data}")
    if planned.uploads or planned.removed_files:
        click.echo(f"  files: {len(planned.uploads)} to upload, {len(planned.removed_files)} to remove")
    kept = sum(step.act is Act.KEEP for step in planned.steps)
    click.echo(f"{kept} stay as they are." if planned.changes else "Nothing to do: the server holds what is declared.")
