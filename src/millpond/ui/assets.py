"""Our own style sheet and script, served with an address that changes with their content."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

from millpond.ui.theme import FAVICON, stylesheet

_STATIC = Path(__file__).parent / "static"
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, kw_only=True)
class Assets:
    """The two files, and the lines that a page's head needs for them."""

    style: str
    script: str

    @property
    def head(self) -> str:
        """HTML for the head of every page."""
        return (
            f'<link rel="stylesheet" href="/static/millpond.css?v={_mark(self.style)}">\n'
            f'<script src="/static/millpond.js?v={_mark(self.script)}"></script>'
        )


def load_assets() -> Assets:
    """Read the files once."""
    style = stylesheet() + (_STATIC / "millpond.css").read_text()
    return Assets(style=style, script=(_STATIC / "millpond.js").read_text())


def router(assets: Assets) -> APIRouter:
    """Serve the files; they are public, as the sign-in page needs them."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/static/millpond.css")
    def style() -> Response:
        return Response(assets.style, media_type="text/css", headers=_FOREVER)

    @routes.get("/static/millpond.js")
    def script() -> Response:
        return Response(assets.script, media_type="text/javascript", headers=_FOREVER)

    @routes.get("/favicon.ico")
    def favicon() -> Response:
        return Response(FAVICON, media_type="image/svg+xml", headers={"Cache-Control": "public, max-age=86400"})

    return routes


def _mark(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:12]
