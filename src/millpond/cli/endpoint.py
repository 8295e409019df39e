"""`millpond endpoint`: new versions answer recorded traffic, and take over an endpoint's traffic in steps."""

import json
import sys
import time
from typing import Any
from urllib.parse import quote

import click

from millpond.cli.api import Api, api_command
from millpond.kernel.errors import InvalidArgument

_POLL_S = 1.0
_UNDER_WAY = ("RUNNING", "PAUSED")


@click.group()
def endpoint() -> None:
    """Bring new versions to serving endpoints."""


@endpoint.group()
def canary() -> None:
    """A served entity takes over in steps, as long as it does no worse than the present one."""


@canary.command()
@click.argument("name", metavar="ENDPOINT")
@click.argument("entity", metavar="SERVED_ENTITY")
@click.option("--steps", default="5,25,50,100", show_default=True, help="Shares of the traffic in percent.")
@click.option("--minutes", type=float, default=10.0, show_default=True, help="A step lasts so long at least.")
@click.option("--requests", type=int, default=100, show_default=True, help="And has answered so many requests.")
@click.option("--error-increase", type=float, default=0.01, show_default=True,
              help="The share of requests that may fail beyond the present entity's.")  # fmt: skip
@click.option("--p50", type=float, help="The median latency, as a multiple of the present entity's.")
@click.option("--p99", type=float, default=2.0, show_default=True, help="The same for the slowest hundredth.")
@click.option("--different", type=float, help="The share of copies of requests to which it may answer otherwise.")
@click.option("--wait", is_flag=True, help="Return when it has ended; the exit code is 1 unless it is complete.")
@api_command
def start(
    api: Api, name: str, entity: str, steps: str, minutes: float, requests: int, error_increase: float,
    p50: float | None, p99: float, different: float | None, wait: bool,
) -> None:  # fmt: skip
    """Let SERVED_ENTITY, which the endpoint serves with 0 % of the traffic, take over in steps."""
    rails = {
        "min_requests": requests, "max_error_increase": error_increase, "max_p50_factor": p50, "max_p99_factor": p99,
        "max_different": different,
    }  # fmt: skip
    body = {"served_entity_name": entity, "steps": _steps(steps), "step_minutes": minutes, "guardrails": rails}
    told = api.post(_path(name), body)["canary"]
    _print(told)
    while wait and told["state"] in _UNDER_WAY:
        time.sleep(_POLL_S)
        before, told = told, api.get(_path(name))["canary"]
        if (before["state"], before["step"]) != (told["state"], told["step"]):
            _print(told)
    if wait and told["state"] != "COMPLETED":
        sys.exit(1)


@canary.command()
@click.argument("name", metavar="ENDPOINT")
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer as it is.")
@api_command
def status(api: Api, name: str, as_json: bool) -> None:
    """Say how the endpoint's last canary is doing."""
    told = api.get(_path(name))["canary"]
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    _print(told)


@canary.command()
@click.argument("name", metavar="ENDPOINT")
@api_command
def pause(api: Api, name: str) -> None:
    """Take no further step; it is still rolled back when it does worse."""
    _print(api.post(_path(name) + "/pause")["canary"])


@canary.command()
@click.argument("name", metavar="ENDPOINT")
@api_command
def resume(api: Api, name: str) -> None:
    """Go on with a paused canary."""
    _print(api.post(_path(name) + "/resume")["canary"])


@canary.command()
@click.argument("name", metavar="ENDPOINT")
@api_command
def promote(api: Api, name: str) -> None:
    """Give it all the traffic now."""
    _print(api.post(_path(name) + "/promote")["canary"])


@canary.command()
@click.argument("name", metavar="ENDPOINT")
@api_command
def abort(api: Api, name: str) -> None:
    """End it, with the traffic as it was before."""
    _print(api.post(_path(name) + "/abort")["canary"])


@endpoint.command()
@click.argument("name", metavar="ENDPOINT")
@click.argument("version", metavar="VERSION")
@click.option("--model", default="", help="The model, where it is not the endpoint's own.")
@click.option("--requests", type=int, default=1000, show_default=True, help="The newest so many are replayed.")
@click.option("--served-entity", help="Only those that this served entity answered.")
@click.option("--tolerance", type=float, default=1e-9, show_default=True, help="How far numbers may be apart.")
@click.option("--max-different", type=float, default=1.0, show_default=True,
              help="The share of predictions that may differ: beyond it the exit code is 1.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the report as it is.")
@api_command
def replay(
    api: Api, name: str, version: str, model: str, requests: int, served_entity: str | None, tolerance: float,
    max_different: float, as_json: bool,
) -> None:  # fmt: skip
    """Let VERSION (a number, @ALIAS or a stage) answer requests of the endpoint's inference table, and compare.

    No client sees its answers. The exit code is 0 where they are like those that were given, 1 where too many differ or
    fail, 2 where it could not be carried out.
    """
    path = _path(name, "replays")
    body = {
        "entity_name": model, "entity_version": version, "requests": requests, "served_entity": served_entity,
        "tolerance": tolerance,
    }  # fmt: skip
    found = api.post(path, body)["replay"]
    while found["state"] in ("queued", "running"):
        time.sleep(_POLL_S)
        found = api.get(f"{path}/{found['id']}")["replay"]
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(_replay_lines(found)))
    sys.exit(_replay_exit(found, max_different))


def _replay_exit(found: dict[str, Any], max_different: float) -> int:
    report = found["report"]
    if found["state"] != "done" or report is None:
        return 2
    fails = report["outcomes"].get("fails", 0) > 0
    return 1 if fails or report["different"] > max_different * report["rows"] else 0


def _replay_lines(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['model']} version {found['version']}: {found['state']}. {found['message']}"]
    report = found["report"]
    if found["state"] != "done" or report is None:
        return lines
    lines.append(", ".join(f"{count} {outcome}" for outcome, count in report["outcomes"].items()))
    numbers = report["numbers"]
    if numbers:
        told = ", ".join(f"{name} {value:.3g}" for name, value in numbers["quantiles"].items())
        lines.append(
            f"numbers are {numbers['mean_apart']:.3g} apart in the mean, {told}, {numbers['largest']:.3g} at most"
        )
    lines += [f"  {old} -> {new}: {count}" for old, new, count in report.get("labels") or () if old != new]
    times = [f"{name} {report['old_ms'][name]} -> {report['new_ms'][name]} ms" for name in ("p50", "p99")]
    lines.append(f"in the model: {', '.join(times)}")
    lines += [f"{each['requests']} requests: {each['message']}" for each in report.get("errors") or ()]
    lines += [
        f"  request {each['request_id']}, row {each['row']}: {each['old']} -> {each['new']}"
        for each in report.get("examples") or ()
    ]
    return lines


def _path(name: str, what: str = "canary") -> str:
    return f"/api/millpond/serving-endpoints/{quote(name, safe='')}/{what}"


def _steps(text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",")]
    except ValueError as error:
        raise InvalidArgument(f"--steps is a list of percentages such as 5,25,50,100, not '{text[:80]}'.") from error


def _print(told: dict[str, Any]) -> None:
    step = f"step {told['step']} of {len(told['steps'])}, {told['traffic_percentage']} % of the traffic"
    click.echo(f"{told['served_entity_name']}: {told['state']}, {step}. {told['message']}")
    for which, name in (("canary", told["served_entity_name"]), ("baseline", told["baseline_name"])):
        seen = told["seen"][which]
        times = ", ".join(f"{each[:3]} {seen[each]:g} ms" for each in ("p50_ms", "p99_ms") if seen[each] is not None)
        click.echo(f"  {name}: {seen['requests']} requests, {seen['errors']} failed{', ' + times if times else ''}")
    if told["seen"]["compared"]:
        click.echo(f"  {told['seen']['different']} of {told['seen']['compared']} copies answered otherwise")
