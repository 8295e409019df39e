"""Streamed answers on the wire, and the paths at which OpenAI's clients ask for them.

Source: HTML standard, "Server-sent events"; databricks-sdk, `mixins/open_ai_client.py` (the base of OpenAI's paths is
`/serving-endpoints`, and `model` is the endpoint's name).
"""

import asyncio
from functools import partial

import msgspec
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from millpond.kernel.asides import aside_unless
from millpond.kernel.errors import InvalidArgument
from millpond.serving.streaming import StreamedAnswer

OPENAI_PATHS = ("/chat/completions", "/completions", "/embeddings", "/responses")
_GRACE_S = 5.0
_FEW_BYTES = 64 << 10
_MOST_COLONS = 100_000
"""Each name in a request has one, and only names make objects here: so many take milliseconds."""


class EventStream(StreamingResponse):
    """Sends the events of an answer, and closes it when all are sent or whoever asked has gone."""

    def __init__(self, answer: StreamedAnswer) -> None:
        headers = {
            "served-model-name": answer.entity.name,
            "served-model-version": answer.entity.model.version,
            "cache-control": "no-cache",
            "x-accel-buffering": "no",  # of nginx, where it stands before us
        }
        super().__init__(answer.events(), media_type="text/event-stream", headers=headers)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._answer.aclose()

    async def stream_response(self, send: Send) -> None:
        """As the client reads, which it must do in time: an answer that nobody reads holds a thread of the model."""
        try:
            async with asyncio.timeout_at(self._answer.ends_at + _GRACE_S):
                await super().stream_response(send)
        except TimeoutError:
            return  # cut off: the client sees that it has no end


def endpoint_in(body: bytes) -> str:
    """The endpoint that a request names as its `model`; what else it says is not looked at. Raises InvalidArgument."""
    try:
        name = _NAMED.decode(body).model
    except msgspec.ValidationError:
        name = ""
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgument(f"The request is not JSON: {error}.") from error
    if not name:
        raise InvalidArgument("The request needs the name of an endpoint as its model.")
    return name


async def without_endpoint(body: bytes) -> bytes:
    """The request without its `model`, and all else as it is. Raises InvalidArgument."""
    if body.count(b":") > _MOST_COLONS:
        raise InvalidArgument(f"The request has more than {_MOST_COLONS} names with values; send a smaller one.")
    return await aside_unless(len(body) <= _FEW_BYTES, partial(_without_model, body))


def _without_model(body: bytes) -> bytes:
    try:
        members = _MEMBERS.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgument(f"The request is not JSON: {error}.") from error
    members.pop("model", None)
    return msgspec.json.encode(members)


class _Named(msgspec.Struct):
    model: str = ""


_NAMED = msgspec.json.Decoder(_Named)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
