"""From a request's bytes to an answer's bytes, by MLflow's scoring protocol.

Parsing and encoding are MLflow's own functions (`mlflow.pyfunc.scoring_server`), so that a model answers here exactly
as behind `mlflow models serve`; a contract test compares the two. What differs on purpose: errors are short and show
no path, a generator is refused by name, and the answer's size is bounded.
"""

import gc
import inspect
import io
import json
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from millpond.serving import columns
from millpond.serving.frames import ARROW, MAX_CHUNK_BYTES, SMALL_BYTES
from millpond.serving.worker.answers import Answer, Refusal, Unsuited, answered
from millpond.serving.worker.redaction import Redaction

# MLflow looks for these only to offer them on its client side; a model that needs one imports it itself, later.
_NOT_NEEDED = frozenset({"polars", "pyspark", "litellm", "aiohttp", "matplotlib", "torch"})
_JSON = "application/json"
_OWN_CODE = frozenset({"mlflow.pyfunc.model", "mlflow.pyfunc.loaders.code_model"})
"""What loads models that are somebody's Python."""


class _Absent:
    """A finder to which some packages are not installed."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse what is not needed."""
        if name in _NOT_NEEDED:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return None


@contextmanager
def _lean_import() -> Iterator[None]:
    finder = _Absent()
    sys.meta_path.insert(0, finder)
    gc.disable()
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        gc.enable()


with _lean_import():
    import mlflow.pyfunc
    import numpy
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server
    from mlflow.utils.proto_json_utils import NumpyEncoder, _get_jsonable_obj

    from millpond.serving.worker.frame import columns_of, frame_of

    _encode_numbers: Callable[[Any], bytes] | None = None
    with suppress(ImportError):  # an environment of a model's own may lack it
        import msgspec

        _encode_numbers = msgspec.json.encode

if TYPE_CHECKING:
    from millpond.serving.worker.fast_path import FastPath, ReadingPath

_ENCODER = NumpyEncoder()
_OTHERWISE = (b"n", b"e", b"0.0000")
"""What msgspec writes in another way than Python: NaN, exponents, and numbers that Python gives one."""
_END = object()
_SPEC = "feature_spec.yaml"  # `features.spec.FILE`, which an environment of a model's own cannot import


def seed() -> None:
    """Begin random numbers anew: workers that were forked from one process would all draw the same."""
    numpy.random.seed()


class Scorer:
    """A loaded model and its signature."""

    def __init__(self, model_dir: Path, redaction: Redaction, *, max_answer_bytes: int) -> None:
        self._redaction = redaction
        self._max_answer_bytes = max_answer_bytes
        self._model = mlflow.pyfunc.load_model(str(model_dir), suppress_warnings=True)
        self._schema = self._model.metadata.get_input_schema()
        self._takes_params = "params" in inspect.signature(self._model.predict).parameters
        self._streams = self._model._predict_stream_fn is not None
        self._fast: FastPath | None = None
        self._reading: ReadingPath | None = None

    def prepare(self, model_dir: Path) -> str:
        """Make ready for requests: try the model's own example, and look for a path past MLflow's parsing.

        Returns lines for the build log; an example that fails does not make the model unfit.
        """
        example = model_dir / "serving_input_example.json"
        body = example.read_bytes() if example.exists() else None
        told = self._try_example(body) + self._look_for_fast_path(body, has_features=(model_dir / _SPEC).exists())
        gc.collect()
        gc.freeze()  # the model and its libraries stay: no collection needs to look at them
        return told

    def _try_example(self, body: bytes | None) -> str:
        if body is None:
            return "The model has no input example to try.\n"
        answer = self.answer(_JSON, body)
        if answer.header["status"] == 200:
            return "The model answered its own input example.\n"
        return f"The model did not answer its own input example: {answer.header['message']}\n"

    def _look_for_fast_path(self, example: bytes | None, *, has_features: bool) -> str:
        try:
            # here, as it needs msgspec, which a model's own environment may lack
            from millpond.serving.worker.fast_path import Reference, choose, choose_reading

            reference = Reference(
                decode=lambda body: self._decode(_JSON, body)[0], frame=lambda body: self._frame(body)[0], encode=_text
            )
            if self._model.loader_module in _OWN_CODE and not has_features:
                self._reading = choose_reading(self._model, reference, example)
                return f"{self._reading.told}\n"
            self._fast = choose(self._model, reference, example, has_features=has_features)
        except (ImportError, Unsuited) as reason:
            return f"All requests are answered by MLflow: {reason}.\n"
        except Exception as error:  # the model's code may raise anything, and is served without this path all the same
            traceback.print_exc()
            return f"All requests are answered by MLflow: looking for a quicker path raised {type(error).__name__}.\n"
        return f"{self._fast.told}\n"

    def answer(self, content_type: str, body: bytes) -> Answer:
        """Answer one request."""
        return self._answered(lambda: self._read_and_scored(content_type, body))

    def _read_and_scored(self, content_type: str, body: bytes) -> bytes:
        if self._fast is not None and content_type == _JSON:
            with suppress(Unsuited):
                return self._encode(self._fast.predict((body, False)), wrapped=True)
        if self._reading is not None and content_type == _JSON:
            try:
                given = self._reading.read(body)
            except Unsuited:
                pass
            else:
                return self._scored(given, None, True, self._reading.model)
        return self._scored(*self._decode(content_type, body))

    @property
    def is_quick(self) -> bool:
        """Whether `answer_together` is for it."""
        return self._fast is not None and self._fast.is_quick

    def takes(self, content_type: str | None, body: bytes) -> bool:
        """Whether a request, in JSON or without a content type as columns, may be answered together with others."""
        assert self._fast is not None
        is_read = content_type in {_JSON, None} and self._fast.takes(is_columns=content_type is None)
        return is_read and len(body) <= SMALL_BYTES

    def answer_together(self, asked: Sequence[tuple[str | None, bytes]]) -> Sequence[Answer | None]:
        """The answers to several requests, each as `takes` has it; None for those that are to be answered alone."""
        assert self._fast is not None
        try:
            found = self._fast.predict_together([(body, kind is None) for kind, body in asked])
        except MemoryError:
            return [None] * len(asked)
        return [None if isinstance(each, Unsuited) else self._written(each) for each in found]

    def _written(self, result: Any) -> Answer:
        return self._answered(lambda: self._encode(result, wrapped=True))

    def score(self, body: bytes) -> Answer:
        """Answer one request of which the server has made columns."""
        return self._answered(lambda: self._columns_scored(body))

    def _columns_scored(self, body: bytes) -> bytes:
        if self._fast is not None:
            with suppress(Unsuited):
                return self._encode(self._fast.predict((body, True)), wrapped=True)
        return self._scored(*self._frame(body), True)

    def read(self, content_type: str, body: bytes) -> Answer:
        """A request as columns."""
        return self._answered(lambda: columns.encode(columns_of(self._decode(content_type, body)[0])))

    def answer_in_arrow(self, content_type: str, body: bytes) -> Answer:
        """The same as `answer`, written as Arrow's stream format."""

        def work() -> bytes:
            data, params, _ = self._decode(content_type, body)
            return self._bounded(_in_arrow(self._predict(data, params)))

        return self._answered(work, ARROW)

    def stream(self, read: Callable[[], tuple[Any, Any]], send: Callable[[bytes], bool]) -> Answer:
        """Answer one request in parts, each sent when it is made; ends where `send` says that nobody listens.

        `read` gives the model's input and its params.
        """

        def work() -> bytes:
            with closing(self._chunks(read)) as chunks:
                for chunk in chunks:
                    if not send(chunk):
                        break
            return b""

        return self._answered(work)

    def asked_in_parts(self, body: bytes, *, is_json: bool) -> tuple[Any, Any]:
        """The input and the params of a request that asks for parts: in JSON, or as columns with features."""
        return self._decode(_JSON, self._without_stream(body))[:2] if is_json else self._frame(body)

    def _chunks(self, read: Callable[[], tuple[Any, Any]]) -> Generator[bytes, None, None]:
        """What the model's `predict_stream` gives, as JSON. A generator of its own is closed with this one."""
        if not self._streams:
            raise Refusal(
                "The model has no predict_stream, so it does not answer in parts; ask it without stream.",
                code="BAD_REQUEST",
                status=400,
            )
        data, params = read()
        with _refused_by_model():
            made = iter(self._model.predict_stream(data, params=params))
        try:
            while True:
                with _refused_by_model():
                    chunk = next(made, _END)
                if chunk is _END:
                    return
                yield self._bounded(self._encode(chunk, wrapped=False), MAX_CHUNK_BYTES)
        finally:
            with _refused_by_model():
                made.close()

    def _without_stream(self, body: bytes) -> bytes:
        """The request as if it had not asked for a stream, unless that is a column of the model's own."""
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):  # for MLflow to refuse
            return body
        if self._schema is None or "stream" not in self._schema.input_names():
            del asked["stream"]
        return json.dumps(asked).encode()

    def _answered(self, work: Callable[[], bytes], content_type: str = _JSON) -> Answer:
        def in_our_words() -> bytes:
            try:
                return work()
            except MlflowException as error:
                raise Refusal(
                    _short(error.message), code=error.error_code, status=error.get_http_status_code()
                ) from error

        return answered(in_our_words, self._redaction, content_type)

    def _scored(self, data: Any, params: Any, wrapped: bool, model: mlflow.pyfunc.PyFuncModel | None = None) -> bytes:
        return self._encode(self._predict(data, params, model), wrapped=wrapped)

    def _frame(self, body: bytes) -> tuple[Any, Any]:
        with _refused_as_input():
            given, beside = columns.decode(body)
            return frame_of(given, beside["types"], self._schema), beside["params"]

    def _decode(self, content_type: str, body: bytes) -> tuple[Any, Any, bool]:
        """The model's input, its params, and whether the prediction is wrapped in `predictions`."""
        kind, _, parameters = content_type.partition(";")
        kind = kind.strip().lower() or _JSON
        charset = parameters.partition("=")[2].strip().strip('"').lower() or "utf-8"
        with _refused_as_input():
            if charset not in {"utf-8", "utf8"}:
                raise Refusal(f"Only UTF-8 is understood, not '{charset}'.", code="INVALID_PARAMETER_VALUE", status=400)
            if kind == _JSON:
                parsed = scoring_server._parse_json_data(body, self._model.metadata, self._schema)
                return parsed.data, parsed.params, not parsed.is_unified_llm_input
            if kind == scoring_server.CONTENT_TYPE_CSV:
                return scoring_server.parse_csv_input(io.StringIO(body.decode()), schema=self._schema), None, True
            if kind == scoring_server.CONTENT_TYPE_PARQUET:
                return scoring_server.parse_parquet_input(io.BytesIO(body)), None, True
            if kind == ARROW:
                return *_arrow().read(body), True
        known = ", ".join((*scoring_server.CONTENT_TYPES, ARROW))
        raise Refusal(
            f"Content-Type '{kind[:80]}' is not understood; send one of {known}.",
            code="INVALID_PARAMETER_VALUE",
            status=400,
        )

    def _predict(self, data: Any, params: Any, model: mlflow.pyfunc.PyFuncModel | None = None) -> Any:
        model = model or self._model
        with _refused_by_model():
            result = model.predict(data, params=params) if self._takes_params else model.predict(data)
        if isinstance(result, Iterator):
            raise Refusal(
                f"The model's predict returned a {type(result).__name__}; what is answered in parts is predict_stream, "
                'for requests with "stream": true. Return a DataFrame, Series, array, list or dict.',
                code="NOT_IMPLEMENTED",
                status=501,
            )
        return result

    def _encode(self, result: Any, *, wrapped: bool) -> bytes:
        try:
            text = _text(result, wrapped=wrapped)
        except (TypeError, ValueError, RecursionError) as error:
            raise Refusal(
                f"The model returned a {type(result).__name__} that cannot be written as JSON: {error}. "
                "Return a DataFrame, Series, array, list or dict of plain values.",
                code="INTERNAL_ERROR",
                status=500,
            ) from error
        return self._bounded(text)

    def _bounded(self, written: bytes, most: int | None = None) -> bytes:
        most = most or self._max_answer_bytes
        if len(written) > most:
            raise Refusal(
                f"The answer has {len(written)} bytes; at most {most} are sent at once. Ask for less.",
                code="INTERNAL_ERROR",
                status=500,
            )
        return written


@contextmanager
def _refused_as_input() -> Iterator[None]:
    """What parsers raise; MLflow's and ours raise much for what is only bad input."""
    try:
        yield
    except (MlflowException, MemoryError, Refusal):
        raise
    except Exception as error:  # of values that somebody sent
        raise Refusal(f"The input cannot be read: {error}", code="BAD_REQUEST", status=400) from error


@contextmanager
def _refused_by_model() -> Iterator[None]:
    """What the model's code raises, as its refusal of the request."""
    try:
        yield
    except (MlflowException, MemoryError):
        raise
    except BaseException as error:  # it may raise anything, SystemExit included
        traceback.print_exc()
        raise Refusal(
            "Encountered an unexpected error while evaluating the model. Verify that the input is compatible with "
            f"the model for inference. Error: '{type(error).__name__}: {error}'",
            code="BAD_REQUEST",
            status=400,
        ) from error


def _text(result: Any, *, wrapped: bool = True) -> bytes:
    """The same text as MLflow writes, by quicker means than its `dump`. Raises what the encoder raises."""
    if _encode_numbers is not None and (numbers := _numbers(result)) is not None:
        written = _encode_numbers(numbers)
        if not any(odd in written for odd in _OTHERWISE):
            written = written.replace(b",", b", ")
            return b'{"predictions": ' + written + b"}" if wrapped else written
    plain = _get_jsonable_obj(result, pandas_orient="records")
    text: str = _ENCODER.encode({"predictions": plain} if wrapped else plain)
    return text.encode()


def _numbers(result: Any) -> list[Any] | None:
    if isinstance(result, numpy.ndarray):
        is_plain = result.dtype.kind in "fiu" and result.itemsize <= 8 and result.ndim > 0
        return result.tolist() if is_plain else None
    return result if type(result) is list and all(type(each) is float for each in result) else None


def _arrow() -> ModuleType:
    """Loaded for who asks for it: pyarrow is not in each model's environment."""
    from millpond.serving.worker import arrow

    return arrow


def _in_arrow(result: Any) -> bytes:
    try:
        written: bytes = _arrow().stream_of(result)
    except (TypeError, ValueError, OverflowError, NotImplementedError) as error:
        raise Refusal(
            f"The model returned a {type(result).__name__} that cannot be written as Arrow: {error}. Ask for JSON.",
            code="BAD_REQUEST",
            status=400,
        ) from error
    return written


def _short(message: str) -> str:
    """MLflow puts the whole payload before what is wrong with it."""
    if message.startswith("Failed to enforce schema of data") and " Error: " in message:
        return f"The input does not match the model's signature. {message.rsplit(' Error: ', 1)[1]}"
    return message
