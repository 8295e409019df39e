"""A plugin of MLflow's client: what is needed to reproduce a run is captured when the run starts.

MLflow asks run context providers for tags. This one answers with the name of a capture, and sends the capture itself to
the server from a thread beside the run. It does so only where the tracking server is a Millpond, and never raises:
a run does not fail for it. `MILLPOND_CAPTURE=off` turns it off.
"""

import atexit
import contextlib
import os
import sys
import threading
import time
import uuid
from typing import Any

from mlflow.tracking.context.abstract_context import RunContextProvider

from millpond.sdk import CAPTURE_TAG, PROCESS_WORD, REPRODUCES_TAG, REPRODUCTION_TAG, randomness, sending
from millpond.sdk.bundle import end_bundle, start_bundle
from millpond.sdk.code import cells
from millpond.sdk.opened import OpenedFiles

_AGENT = "SPARK_CONNECT_USER_AGENT"
_OWN = ("millpond.kernel.child", "millpond.tracking.loading")
"""Processes of the server's own have one of these; they capture nothing."""
_ASKED_AGAIN_S = 60.0


class RunCapture(RunContextProvider):  # type: ignore[misc]  # MLflow ships no types
    """Tells runs of this process which capture is theirs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, tuple[float, bool]] = {}
        self._active = os.environ.get("MILLPOND_CAPTURE", "").lower() != "off" and not any(
            name in sys.modules for name in _OWN
        )
        if self._active:
            self._begin()

    def _begin(self) -> None:
        """Give the process a name, which Spark sessions tell too, and watch which files it opens."""
        self._pid = os.getpid()
        self._process = uuid.uuid4().hex
        self._sent: list[str] = []
        self._captured = ("", -1)
        self._began_ms = time.time_ns() // 1_000_000
        agent = [word for word in os.environ.get(_AGENT, "").split() if not word.startswith(PROCESS_WORD)]
        os.environ[_AGENT] = " ".join([*(agent or ["_SPARK_CONNECT_PYTHON"]), PROCESS_WORD + self._process])
        self._opened = OpenedFiles()
        self._random = randomness.begin()
        atexit.register(self._end, self._pid)
        if os.environ.get("MLFLOW_RUN_ID"):
            threading.Thread(target=self._adopt, args=(os.environ["MLFLOW_RUN_ID"],), name="millpond-adopt").start()

    def _adopt(self, run_id: str) -> None:
        """A run that others have made, as `mlflow run` does: MLflow asks for no tags when it goes on here."""
        with contextlib.suppress(Exception):
            if self.in_context():
                for key, value in self.tags().items():
                    sending.set_tag(run_id, key, value)

    # -- what MLflow asks ---------------------------------------------------------------------------------------

    def in_context(self) -> bool:
        """Whether runs go to a Millpond."""
        try:
            return self._active and self._is_ours(_tracking_uri())
        except Exception:  # the boundary to the user's program
            return False

    def tags(self) -> dict[str, str]:
        """The name of the capture; that of the run that is being reproduced, in a process that does so."""
        told = {CAPTURE_TAG: self._capture()}
        run, _, reproduction = os.environ.get("MILLPOND_REPRODUCES", "").partition("/")
        return {**told, REPRODUCES_TAG: run, REPRODUCTION_TAG: reproduction} if reproduction else told

    def _is_ours(self, uri: str) -> bool:
        if not uri.startswith(("http:", "https:", "databricks")):
            return False
        asked, answer = self._answers.get(uri, (0.0, False))
        if not asked or (not answer and time.monotonic() - asked > _ASKED_AGAIN_S):
            answer = sending.takes_captures()
            self._answers[uri] = (time.monotonic(), answer)
        return answer

    # -- capturing ----------------------------------------------------------------------------------------------

    def _capture(self) -> str:
        """The capture of what the process does now; made once, in a notebook once for each cell."""
        with self._lock:
            if os.getpid() != self._pid:  # a fork is a process of its own
                self._begin()
            count = len(cells() or ())
            name, known = self._captured
            if known != count:
                name = f"{self._process}-{len(self._sent) + 1}"
                self._sent.append(name)
                self._captured = (name, count)
                seen = {"process": self._process, "process_started_ms": self._began_ms, "random": self._random}
                seen |= {"seeds": randomness.seeds(), "cells": cells()}
                threading.Thread(target=self._send, args=(name, seen), name="millpond-capture").start()
            return name

    def _send(self, name: str, seen: dict[str, Any]) -> None:
        with contextlib.suppress(Exception):  # the server says later that the capture has not come
            sending.put(name, "start", start_bundle(seen, self._opened.paths()))

    def _end(self, pid: int) -> None:
        """What is only known when the process ends. A capture that was never begun has no end."""
        if os.getpid() != pid or not self._sent:
            return
        with contextlib.suppress(Exception):
            sending.put(self._sent[-1], "end", end_bundle(self._opened.paths(), self._began_ms))


def _tracking_uri() -> str:
    import mlflow

    return str(mlflow.get_tracking_uri())
