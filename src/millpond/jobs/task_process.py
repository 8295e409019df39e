"""`task_process DIRECTORY [SOCKET PORT]... [--own-network]`: runs a task's code to its end, in a child of ours.

It may run in an interpreter that has none of our packages, so the standard library is all it has; notebooks need
IPython there. `began` is written before the code's first line and `result.json` after its last, each at once, so that
whoever looks after a crash knows whether the code ran, and how it ended.
"""

import builtins
import ctypes
import importlib
import importlib.metadata
import json
import os
import platform
import resource
import runpy
import sys
import traceback
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from millpond.engine import forwarder
from millpond.jobs.fetching import as_notebook
from millpond.jobs.nested import Nested
from millpond.jobs.written import write_at_once
from millpond.kernel.process_tree import kill_below
from millpond.kernel.redaction import RedactedOutput, Redactor
from millpond.sdk.dbutils import DbUtils
from millpond.sdk.dbutils.api import Api
from millpond.sdk.dbutils.notebook import Notebooks

_PR_SET_CHILD_SUBREAPER = 36
_LONGEST_TRACE = 8000
_MOST_VALUE = 5_000_000
"""Of what a notebook ends with, in characters. Source: Databricks' limit of get-output."""


def main() -> None:
    """Run it; how it ended is in `result.json`."""
    directory, *ways_out = [word for word in sys.argv[1:] if word != "--own-network"]
    order = json.loads(Path(directory, "order.json").read_text())
    if platform.system() == "Linux":  # what the code leaves behind stays below this process, and ends with it
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if "--own-network" in sys.argv:
        forwarder.open_ways_out(ways_out)
    resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"], order["file_bytes"]))
    os.environ.update(order["variables"])
    carry_out(Path(directory), order)


def carry_out(directory: Path, order: Mapping[str, Any]) -> None:
    """Do what an order says, and leave its result in the directory. Never returns."""
    redactor = Redactor([order["token"], *order["secrets"]])
    output = RedactedOutput(redactor)
    write_at_once(directory / "began", "")
    try:
        told, values = _done(directory, order, redactor)
    except BaseException as error:  # the boundary of a process: what failed around the code is told as well
        told, values = _failure(error), {}
    sys.stdout.flush()
    sys.stderr.flush()
    output.close()
    kill_below(os.getpid())
    told |= {name: redactor.clean(told[name]) for name in ("message", "error") if name in told}
    write_at_once(directory / "result.json", json.dumps({**told, "values": values}))
    os._exit(0)  # threads of the code do not keep the task


def _done(directory: Path, order: Mapping[str, Any], redactor: Redactor) -> tuple[dict[str, Any], dict[str, Any]]:
    """How it ended, and the values that it hands on."""
    sys.path[1:1] = [*unpacked(directory, order["wheels"]), *order["paths"]]
    api = Api(order["variables"]["DATABRICKS_HOST"], order["token"])
    nested = Nested(directory, order, api) if "notebook" in order else None
    utils = DbUtils(
        api, before=order["values"], parameters=order["parameters"], seen=redactor.add,
        notebooks=Notebooks(nested.run if nested else None),
    )  # fmt: skip
    if "update" in order:
        builtins.dbutils = utils  # type: ignore[attr-defined]
        return _update(order, api, redactor), {}
    if "project" in order:
        return _project(directory, order, api, utils), utils.jobs.taskValues.own
    if nested is None:
        builtins.dbutils = utils  # type: ignore[attr-defined]
        return _program(order), utils.jobs.taskValues.own
    return _notebook(directory, order, api, utils, redactor), utils.jobs.taskValues.own


def _update(order: Mapping[str, Any], api: Api, redactor: Redactor) -> dict[str, Any]:
    from millpond.jobs.update_run import run_update

    return run_update(order["update"], api, redactor)


def _project(directory: Path, order: Mapping[str, Any], api: Api, utils: DbUtils) -> dict[str, Any]:
    from millpond.jobs.project_run import run_dbt, run_mlflow_project

    root = Path(order["project"])
    if "dbt" in order:
        return run_dbt(directory, root, order["dbt"], api)
    return run_mlflow_project(directory, root, order["mlflow_project"], utils.jobs.taskValues.set)


def _notebook(
    directory: Path, order: Mapping[str, Any], api: Api, utils: DbUtils, redactor: Redactor
) -> dict[str, Any]:
    from millpond.jobs.notebook_run import NotebookRun, as_text  # with IPython, which a script's environment may lack

    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    sys.path[0] = order["modules"]
    told = NotebookRun(
        as_notebook(order["notebook"]), order["path"], utils=utils, api=api, installed=order["installed"],
        keep=lambda notebook: write_at_once(directory / "notebook.ipynb", redactor.clean(as_text(notebook))),
    ).run()  # fmt: skip
    if (value := told.pop("result", None)) is not None:
        output = {"result": redactor.clean(value[:_MOST_VALUE]), "truncated": len(value) > _MOST_VALUE}
        write_at_once(directory / "output.json", json.dumps(output))
    return told


def unpacked(directory: Path, wheels: Sequence[str]) -> list[str]:
    """Directories with what is in wheels."""
    places = []
    for number, wheel in enumerate(wheels):
        places.append(str(directory / "wheels" / str(number)))
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(places[-1])
    return places


def _called(package: str, entry_point: str) -> None:
    """Call an entry point of an installed package, of whatever group; else a function of the module of that name."""
    for found in importlib.metadata.distribution(package).entry_points:
        if found.name == entry_point:
            found.load()()
            return
    module = importlib.import_module(package.replace("-", "_"))
    if not callable(function := getattr(module, entry_point, None)):
        raise AttributeError(f"Package '{package}' has no entry point '{entry_point}', and no function of that name.")
    function()


def _program(order: Mapping[str, Any]) -> dict[str, Any]:
    """A script, or an entry point."""
    script = order.get("script")
    sys.argv = [script or order["entry_point"], *order["argv"]]
    sys.path[0] = os.path.dirname(script) if script else ""
    try:
        runpy.run_path(script, run_name="__main__") if script else _called(order["package"], order["entry_point"])
    except SystemExit as error:
        if error.code in (None, 0):
            return {"ok": True}
        if isinstance(error.code, int):
            return {"ok": False, "message": f"The script ended with code {error.code}.", "error": ""}
        print(error.code, file=sys.stderr)
        return {"ok": False, "message": str(error.code)[:_LONGEST_TRACE], "error": ""}
    except BaseException as error:
        return _failure(error)
    return {"ok": True}


def _failure(error: BaseException) -> dict[str, Any]:
    traceback.print_exception(error)
    trace = "".join(traceback.format_exception(error))[-_LONGEST_TRACE:]
    return {"ok": False, "message": f"{type(error).__name__}: {error}"[:_LONGEST_TRACE], "error": trace}


if __name__ == "__main__":
    main()
