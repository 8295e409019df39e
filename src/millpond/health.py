"""Whether a server is well, and what it counts: `/health` and `/metrics`."""

import socket
import time
from collections.abc import Callable

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import text
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millpond.kernel import metrics
from millpond.kernel.database import Database
from millpond.kernel.settings import Settings
from millpond.tracking.embed import MlflowApp


def health_router(
    database: Database, mlflow: MlflowApp, settings: Settings, more_metrics: Callable[[], bytes]
) -> APIRouter:
    """Routes that need no sign-in."""
    router = APIRouter()

    @router.get("/health/live")
    def live() -> dict[str, str]:
        return {"status": "live"}

    @router.get("/health")
    @router.get("/health/ready")
    def ready() -> Response:
        checks = {"database": _database_state(database), "mlflow": mlflow.state, "spark": _spark_state(settings)}
        ok = all(state == "ok" for state in checks.values())
        body = {"status": "ready" if ok else "not ready", "checks": checks}
        return JSONResponse(body, status_code=200 if ok else 503)

    @router.get("/metrics")
    def prometheus() -> Response:
        return Response(metrics.render() + more_metrics(), media_type=CONTENT_TYPE_LATEST)

    return router


def _spark_state(settings: Settings) -> str:
    """Whether the gateway listens."""
    try:
        socket.create_connection((settings.local_host, settings.spark_port), timeout=1).close()
    except OSError as error:
        return f"failed: {error.strerror or error}"
    return "ok"


def _database_state(database: Database) -> str:
    try:
        with database.read() as connection:
            connection.execute(text("SELECT 1"))
    except Exception as error:  # health is a boundary: whatever is wrong is the answer
        return f"failed: {type(error).__name__}"
    return "ok"


class Measured:
    """Counts and times each HTTP request by its route's template."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def record_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, record_status)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            metrics.counted(scope["method"], route, status, time.perf_counter() - began)
