"""Whether a torch model trained on the CPU comes out the same: `python bench/check_reproduce_torch.py PYTHON`.

PYTHON is an interpreter with `torch` and `mlflow` (torch is too large for our own environment). Starts a server, trains
there with dropout and shuffled batches, unseeded, makes the run again with the same packages, and prints the verdict.
Its exit code is that of `millpond reproduce`: 0 the same, 1 different, 2 not reproducible.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.servers import run_cli, running_server

from millpond.reproduction.restoring import lay_plugin

_TRAIN = """
import mlflow
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

mlflow.set_experiment("/Shared/torch")
X = torch.randn(512, 8)
y = (X[:, :1] * X[:, 1:2]).tanh()
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters())
with mlflow.start_run() as run:
    for epoch in range(5):
        for rows, wanted in DataLoader(TensorDataset(X, y), batch_size=32, shuffle=True):
            loss = nn.functional.mse_loss(model(rows), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        mlflow.log_metric("loss", loss.item(), step=epoch)
    mlflow.pytorch.log_model(model.eval(), name="model", input_example=X[:4].numpy())
    print(run.info.run_id)
"""


def main() -> int:
    """Train, make it again, print; the exit code of the second."""
    python = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="millpond-torch-") as place:
        directory = Path(place)
        plugin = lay_plugin(directory / "plugin")
        (directory / "code").mkdir()
        (directory / "code" / "train.py").write_text(_TRAIN)
        with running_server(directory / "data") as server:
            env = {**server.client_env(), "PYTHONPATH": str(plugin), "HOME": os.environ.get("HOME", place)}
            trained = subprocess.run(
                [python, "train.py"], cwd=directory / "code", env=env, stdout=subprocess.PIPE, text=True, check=True
            )
            run_id = next(line for line in trained.stdout.splitlines() if len(line) == 32)
            where = ("--json", "--python", python, "--data-dir", str(server.data_dir))
            done = run_cli("reproduce", run_id, *where, check=False, timeout_s=600)
    print(_told(json.loads(done.stdout)))
    return done.returncode


def _told(verdict: dict[str, object]) -> str:
    lines = [f"verdict: {verdict['outcome']}"]
    for kind in ("metrics", "params", "artifacts"):
        found: list[dict[str, str]] = verdict[kind]  # type: ignore[assignment]  # JSON
        lines.append(f"{kind}: {dict(Counter(each['outcome'] for each in found))}")
        lines += [f"  {each['name']}: {each['message']}" for each in found if each["message"]]
    return "\n".join([*lines, f"missing: {verdict['missing']}", f"notes: {verdict['notes']}", str(verdict["log"])])


if __name__ == "__main__":
    sys.exit(main())
