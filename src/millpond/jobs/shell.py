"""IPython, as the executor of a notebook's cells: what they put out is recorded. It runs in tasks."""

import subprocess
import sys
from typing import Any, TextIO

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config

from millpond.jobs.recording import Recorder, Tee
from millpond.sdk.dbutils.notebook import NotebookExit, PythonRestart


class _Hook(DisplayHook):  # type: ignore[misc]
    """The value of a cell's last expression."""

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        self.shell.recorder.show(format_dict, md_dict, self.prompt_count)
        self.shell.log(format_dict)

    def write_output_prompt(self) -> None:
        """None: the log has what was printed."""

    def finish_displayhook(self) -> None:
        self.shell.log_stream.flush()


class _Publisher(DisplayPublisher):  # type: ignore[misc]
    """What `display` shows."""

    def publish(self, data: Any, metadata: Any = None, **_more: Any) -> None:
        self.shell.recorder.show(data, metadata)
        self.shell.log(data)


class Shell(InteractiveShell):  # type: ignore[misc]
    """One namespace, and a recorder."""

    displayhook_class = Type(_Hook)
    display_pub_class = Type(_Publisher)
    recorder: Recorder
    log_stream: TextIO

    def log(self, data: Any) -> None:
        """Print what stands for a displayed thing, beside the recorder."""
        if "text/plain" in data:
            print(data["text/plain"], file=self.log_stream)

    def system(self, cmd: str) -> None:
        """What `!` does, without a terminal, which there is none of here."""
        self.user_ns["_exit_code"] = run_shell(self.var_expand(cmd, depth=1))

    def show_error(self, error: BaseException) -> None:
        """Show what failed of ours, without the lines of it."""
        self._showtraceback(type(error), error, [f"{type(error).__name__}: {error}"])

    def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
        lines = [line for part in stb for line in part.split("\n")]
        self.recorder.error(getattr(etype, "__name__", str(etype)), str(evalue), lines)
        print("\n".join(lines), file=self.log_stream)


def open_shell(recorder: Recorder) -> Shell:
    """The shell of this process; from now on what is printed is recorded."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.xmode = "Context"
    config.InteractiveShell.cache_size = 0
    out, err = (
        open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 - they last as long as the process
        for number in (1, 2)
    )
    Shell.recorder, Shell.log_stream = recorder, out
    shell: Shell = Shell.instance(config=config)
    sys.stdout = Tee("stdout", out, recorder)
    sys.stderr = Tee("stderr", err, recorder)
    shell.set_custom_exc((NotebookExit, PythonRestart), lambda *_told, **_more: None)
    return shell


def run_shell(text: str) -> int:
    """Run a text in bash; what it prints is recorded as ours is. Its exit code."""
    child = subprocess.Popen(["/bin/bash", "-c", text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert child.stdout is not None
    for line in child.stdout:
        sys.stdout.write(line.decode(errors="replace"))
    return child.wait()
