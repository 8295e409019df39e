"""Environments of clients that have little more than the `mlflow` client and our plugin of it."""

import subprocess
import sys
from pathlib import Path

import uv


def client_environment(directory: Path, *packages: str) -> str:
    """An environment with packages and our plugin of MLflow's client; its interpreter."""
    python = str(directory / "bin" / "python")
    root = Path(__file__).parents[1]
    for words in (
        ("venv", "-q", "--python", sys.executable, str(directory)),
        ("pip", "install", "-q", "--python", python, "mlflow-skinny==3.17.2", *packages),
        ("pip", "install", "-q", "--python", python, "--no-deps", "-e", str(root)),
    ):
        subprocess.run([uv.find_uv_bin(), *words], check=True, capture_output=True)
    return python
