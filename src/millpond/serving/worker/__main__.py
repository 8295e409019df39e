"""`python -m millpond.serving.worker FD`: load a model, say so, then answer requests from the socket FD.

The process has been confined by `millpond.kernel.child` before this module runs. The user's environment variables
come in the first frame and not in the process's environment, because some of them (PYTHONPATH, LD_PRELOAD) would run
code before the confinement.
"""

import faulthandler
import os
import queue
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, cast

from millpond.kernel.redaction import RedactedOutput
from millpond.serving.frames import Frame, Kind, encode, read_frame
from millpond.serving.worker.answers import Answer, answered
from millpond.serving.worker.environment import check_environment
from millpond.serving.worker.functions import Functions
from millpond.serving.worker.redaction import Redaction

_MAX_REQUEST_BYTES = 1 << 32  # the server has its own, smaller limit; this only stops nonsense
_OUT_OF_MEMORY_EXIT = 70


class Channel:
    """The socket, written by several threads."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def receive(self) -> Frame:
        """The next frame; ends the process when the server has gone."""
        frame = read_frame(self._connection, max_body_bytes=_MAX_REQUEST_BYTES)
        if frame is None:
            os._exit(0)
        return frame

    def send(self, frame: Frame) -> None:
        """Send a frame; ends the process when the server has gone."""
        try:
            with self._lock:
                self._connection.sendall(encode(frame))
                self._connection.sendall(frame.body)
        except OSError:
            os._exit(0)


def main() -> None:
    """Load, then answer until the server closes the socket."""
    faulthandler.enable()
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    order = channel.receive().header
    model_dir = Path(order["model_dir"]) if order["model_dir"] else None
    redaction = Redaction(model_dir, order["secrets"])
    output = None
    if order["secrets"]:
        output = RedactedOutput(redaction.secrets)
        faulthandler.enable(output.descriptor)  # no thread can pass on what is written while the process dies
    os.environ.update(order["environment"])
    scorer = None
    if model_dir is not None:
        scorer = _load(channel, order, model_dir, redaction, output)
    else:
        channel.send(Frame(kind=Kind.READY, header={"build_log": "There is no model; functions are called here.\n"}))
    answer = _answerer(scorer, redaction)
    requests: queue.SimpleQueue[Frame] = queue.SimpleQueue()
    for number in range(order["threads"]):
        arguments = (channel, answer, requests, output)
        threading.Thread(target=_answer, args=arguments, name=f"predict-{number}", daemon=True).start()
    while True:
        requests.put(channel.receive())


def _load(
    channel: Channel, order: dict[str, Any], model_dir: Path, redaction: Redaction, output: RedactedOutput | None
) -> Any:
    environment = check_environment(model_dir)
    build_log = environment.build_log
    try:
        from millpond.serving.worker.scoring import Scorer, seed  # here, because it imports mlflow: two seconds

        seed()
        scorer = Scorer(model_dir, redaction, max_answer_bytes=order["max_answer_bytes"])
        trial = scorer.try_example(model_dir)
    except BaseException as error:  # the model's code may raise anything
        traceback.print_exc()
        message = environment.explain(error) + redaction.clean("".join(traceback.format_exception(error)))
        header = {"message": message, "build_log": f"{build_log}Loading failed.\n"}
        channel.send(Frame(kind=Kind.FAILED, header=header))
        _end(output, 1)
    header = {"build_log": build_log + trial, "notes": environment.notes}
    channel.send(Frame(kind=Kind.READY, header=header))
    return scorer


def _answerer(scorer: Any, redaction: Redaction) -> Callable[[Frame], Answer]:
    """What answers each kind of request."""
    functions = Functions()

    def answer(request: Frame) -> Answer:
        if request.kind is Kind.CALL:
            return answered(lambda: functions.call(request.body), redaction)
        if "content_type" not in request.header:
            return cast("Answer", scorer.score(request.body))
        work = scorer.read if request.kind is Kind.READ else scorer.answer
        return cast("Answer", work(request.header["content_type"], request.body))

    return answer


def _answer(
    channel: Channel,
    answerer: Callable[[Frame], Answer],
    requests: "queue.SimpleQueue[Frame]",
    output: RedactedOutput | None,
) -> None:
    while True:
        request = requests.get()
        answer = answerer(request)
        channel.send(Frame(kind=Kind.ANSWER, request_id=request.request_id, header=answer.header, body=answer.body))
        if answer.out_of_memory:
            _end(output, _OUT_OF_MEMORY_EXIT)  # what the model has hoarded is given back only so


def _end(output: RedactedOutput | None, code: int) -> NoReturn:
    """End the process now, but for what it has printed."""
    if output is not None:
        output.close()
    os._exit(code)


if __name__ == "__main__":
    main()
