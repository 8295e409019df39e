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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

from millpond.kernel.redaction import RedactedOutput
from millpond.serving.frames import Frame, FrameReader, Kind, encode
from millpond.serving.worker.answers import Answer, answered
from millpond.serving.worker.environment import check_environment
from millpond.serving.worker.functions import Functions
from millpond.serving.worker.redaction import Redaction
from millpond.serving.worker.streams import Streams

_MAX_REQUEST_BYTES = 1 << 32  # the server has its own, smaller limit; this only stops nonsense
_OUT_OF_MEMORY_EXIT = 70
_JOINED_BYTES = 1 << 16
_AT_ONCE = 64
"""How many requests a quick model is given at once: it answers those together that have come while it was busy."""


class Channel:
    """The socket, written by several threads."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = FrameReader(connection, max_body_bytes=_MAX_REQUEST_BYTES)
        self._lock = threading.Lock()

    def receive(self) -> list[Frame]:
        """The frames that have come, at least one; ends the process when the server has gone."""
        frames = self._reader.read()
        if not frames:
            os._exit(0)
        return frames

    def send(self, frames: Sequence[Frame]) -> None:
        """Send frames; ends the process when the server has gone."""
        parts = [part for frame in frames for part in (encode(frame), frame.body)]
        if sum(map(len, parts)) <= _JOINED_BYTES:
            parts = [b"".join(parts)]
        try:
            with self._lock:
                for part in parts:
                    self._connection.sendall(part)
        except OSError:
            os._exit(0)


def main() -> None:
    """Load, then answer until the server closes the socket."""
    faulthandler.enable()
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    order = channel.receive()[0].header
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
        channel.send([Frame(kind=Kind.READY, header={"build_log": "There is no model; functions are called here.\n"})])
    streams = Streams(channel.send)
    answer = _answerer(scorer, redaction, streams)
    requests: queue.SimpleQueue[Frame] = queue.SimpleQueue()
    for number in range(order["threads"]):
        arguments = (channel, answer, requests, output)
        threading.Thread(target=_answer, args=arguments, name=f"predict-{number}", daemon=True).start()
    while True:
        for left in _answered_together(channel, scorer, channel.receive()):
            if not streams.told(left):
                requests.put(left)


def _answered_together(channel: Channel, scorer: Any, frames: list[Frame]) -> list[Frame]:
    """Answer at once what is quick; the frames that are left are for the threads."""
    if scorer is None or not scorer.is_quick:
        return frames
    plain = [frame for frame in frames if frame.kind is Kind.PREDICT and _takes(scorer, frame)]
    if not plain:
        return frames
    answers = scorer.answer_together([(frame.header.get("content_type"), frame.body) for frame in plain])
    told = {frame.request_id: answer for frame, answer in zip(plain, answers, strict=True) if answer is not None}
    channel.send([_answer_frame(number, answer) for number, answer in told.items()])
    return [frame for frame in frames if frame.request_id not in told]


def _takes(scorer: Any, frame: Frame) -> Any:
    asked = frame.header
    return "accept" not in asked and scorer.takes(asked.get("content_type"), frame.body)


def _answer_frame(request_id: int, answer: Answer) -> Frame:
    return Frame(kind=Kind.ANSWER, request_id=request_id, header=answer.header, body=answer.body)


def _load(
    channel: Channel, order: Mapping[str, Any], model_dir: Path, redaction: Redaction, output: RedactedOutput | None
) -> Any:
    environment = check_environment(model_dir)
    build_log = environment.build_log
    try:
        from millpond.serving.worker.scoring import Scorer, seed  # here, because it imports mlflow: two seconds

        seed()
        scorer = Scorer(model_dir, redaction, max_answer_bytes=order["max_answer_bytes"])
        trial = scorer.prepare(model_dir)
    except BaseException as error:  # the model's code may raise anything
        traceback.print_exc()
        message = environment.explain(error) + redaction.clean("".join(traceback.format_exception(error)))
        failed = {"message": message, "build_log": f"{build_log}Loading failed.\n"}
        channel.send([Frame(kind=Kind.FAILED, header=failed)])
        _end(output, 1)
    at_once = _AT_ONCE if scorer.is_quick else 0
    notes = " ".join(filter(None, [environment.notes, "" if order["network"] else _not_alone()]))
    header: dict[str, Any] = {"build_log": build_log + trial, "notes": notes, "at_once": at_once}
    channel.send([Frame(kind=Kind.READY, header=header)])
    return scorer


def _not_alone() -> str:
    """What to say where this process was to have no network and has one all the same."""
    alone = "--own-network" in sys.argv
    return (
        "" if alone else "This system does not let a process have a network of its own, so the model has the server's."
    )


def _answerer(scorer: Any, redaction: Redaction, streams: Streams) -> Callable[[Frame], Answer]:
    """What answers each kind of request."""
    functions = Functions()

    def answer(request: Frame) -> Answer:
        if request.kind is Kind.CALL:
            return answered(lambda: functions.call(request.body), redaction)
        if request.kind is Kind.STREAM:
            read = partial(scorer.asked_in_parts, request.body, is_json="content_type" in request.header)
            return streams.answer(request.request_id, partial(scorer.stream, read))
        if "content_type" not in request.header:
            return cast("Answer", scorer.score(request.body))
        content_type, accept = request.header["content_type"], request.header.get("accept")
        if request.kind is Kind.READ:
            return cast("Answer", scorer.read(content_type, request.body))
        if accept is not None:
            return cast("Answer", scorer.answer_in_arrow(content_type, request.body))
        return cast("Answer", scorer.answer(content_type, request.body))

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
        channel.send([_answer_frame(request.request_id, answer)])
        if answer.out_of_memory:
            _end(output, _OUT_OF_MEMORY_EXIT)  # what the model has hoarded is given back only so


def _end(output: RedactedOutput | None, code: int) -> NoReturn:
    """End the process now, but for what it has printed."""
    if output is not None:
        output.close()
    os._exit(code)


if __name__ == "__main__":
    main()
