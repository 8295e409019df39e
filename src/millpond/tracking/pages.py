"""MLflow's official pages from its wheel, under `/ml/`; they ask for everything relative to their own address."""

import importlib.util
from pathlib import Path

from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.types import Scope

UI_PREFIX = "/ml"

_FIRST_VISIT = """<script>
// A first visit shows model training, and no assistant, which is not served here. What a visitor chose later stays.
for (const [key, value] of [
  ["mlflow.workflowType_v1", '"machine_learning"'],
  ["mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true"],
]) {
  if (localStorage.getItem(key) === null) localStorage.setItem(key, value);
}
</script>"""


class MlflowPages:
    """Answers what is not data: the page, its scripts and styles."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("mlflow")
        assert spec is not None
        assert spec.origin is not None
        self._root = (Path(spec.origin).parent / "server" / "js" / "build").resolve()

    def find(self, scope: Scope) -> Response | None:
        """The page or file for a request, None when it asks for something else."""
        path = scope["path"]
        if scope["method"] not in {"GET", "HEAD"} or not path.startswith(UI_PREFIX):
            return None
        match path.removeprefix(UI_PREFIX):
            case "":
                return RedirectResponse(f"{UI_PREFIX}/")
            case "/":
                return self._index()
        if path.startswith(f"{UI_PREFIX}/experiments/"):  # as clients of a `databricks` address print links to runs
            return RedirectResponse(f"{UI_PREFIX}/#{path.removeprefix(UI_PREFIX)}")
        prefix = f"{UI_PREFIX}/static-files/"
        return self._static(path.removeprefix(prefix)) if path.startswith(prefix) else None

    def _index(self) -> Response:
        page = (self._root / "index.html").read_text()
        page = page.replace("<title>", f"{_FIRST_VISIT}<title>", 1)
        return HTMLResponse(page, headers={"Cache-Control": "no-cache"})

    def _static(self, name: str) -> Response:
        file = (self._root / name).resolve()
        if not file.is_relative_to(self._root) or not file.is_file():
            return Response("not found", status_code=404)
        return FileResponse(file, headers={"Cache-Control": "public, max-age=2419200"})
