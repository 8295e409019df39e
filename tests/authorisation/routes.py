"""`python -m tests.authorisation.routes DIRECTORY` prints the server's routes, as a JSON list of "METHOD /path"."""

import json
import sys
from pathlib import Path
from typing import Any

from millpond.app import build_app
from millpond.home import Home
from millpond.kernel.settings import load_settings


def main() -> None:
    """A process of its own, as pages are put onto one application in a process."""
    settings = load_settings(data_dir=Path(sys.argv[1]))
    Home(settings.data_dir).prepare()
    app: Any = build_app(settings).asgi
    while not hasattr(app, "routes"):  # the door and what measures it
        app = app._app
    routes = ((method, route.path) for route in app.routes for method in getattr(route, "methods", None) or [""])
    print(json.dumps([f"{method} {path}" for method, path in routes]))


if __name__ == "__main__":
    main()
