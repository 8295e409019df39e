"""Streamed answers on the wire, and the paths at which OpenAI's clients ask for them.

Source: HTML standard, "Server-sent events"; databricks-sdk, `mixins/open_ai_client.py` (the base of OpenAI's paths is
`/serving-endpoints`, and `model` is the endpoint's name).
"""

import asyncio

import orjson
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from millpond.kernel.errors import InvalidArgument
from millpond.serving.streaming import StreamedAnswer

OPENAI_PATHS = ("/chat/completions", "/completions", "/embeddings", "/responses")
_GRACE_S = 5.0


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


def endpoint_in(body: bytes) -> tuple[str, bytes]:
    """The endpoint that a request names as its `model`, and the request without that. Raises InvalidArgument."""
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidArgument(f"The request is not JSON: {error}.") from error
    name = asked.pop("model", None) if isinstance(asked, dict) else None
    if not isinstance(name, str) or not name:
        raise InvalidArgument("The request needs the name of an endpoint as its model.")
    return name, orjson.dumps(asked)
