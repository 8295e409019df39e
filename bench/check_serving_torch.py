"""Whether models of PyTorch are answered past MLflow as by MLflow: `check_serving_torch.py [REQUESTS]`, by default 200.

torch is too large for our own environment, so no test has it. Here models are made by an interpreter that has it (one
of `bench_serving.py`'s), served by a server that builds their environment, and asked in each form that the path reads:
plain rows, odd values and wrong ones. Each answer is compared with that of MLflow's scoring code. Prints which path
each model got; its exit code is 1 where one is not the one expected, or an answer differs.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from mlflow.models import Model

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.serving.test_fast_path import REFERENCE, Client, Reference

from bench.peers import Peer
from bench.serving_targets import ONE_THREAD, environment, our_server, ours
from millpond.serving.worker.proof import Requests
from millpond.serving.worker.rows import FORMS, INPUTS, INSTANCES

_MODELS = """
import json, sys
from importlib.metadata import version
from pathlib import Path
import mlflow, numpy as np, pandas as pd, torch
from mlflow.models import infer_signature
from torch import nn

chance = np.random.default_rng(2)
torch.manual_seed(2)
numbers = pd.DataFrame(chance.normal(size=(50, 6)), columns=list("abcdef"))
mixed = numbers.assign(a=range(50), b=numbers.b > 0, c=numbers.c.astype("float32"), d=numbers.d.astype("float32"))
tensor = numbers.to_numpy(dtype=np.float32)


class Noisy(nn.Module):
    def forward(self, rows):
        return rows + torch.rand(1)


class Wide(nn.Module):
    def forward(self, rows):
        return rows[:, None, :]


def net(last):
    return nn.Sequential(nn.Linear(6, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(), nn.Linear(64, last)).eval()


needed = [f"{name}=={version(name).partition('+')[0]}" for name in ("mlflow", "torch", "numpy", "pandas")]
for name, rows, model in (
    ("frame", numbers, net(1)), ("mixed", mixed, net(3)), ("flat", numbers, nn.Sequential(net(1), nn.Flatten(0))),
    ("tensor", tensor, net(2)), ("noisy", numbers, Noisy()), ("wide", tensor, Wide()),
):
    place = Path(sys.argv[1]) / name
    place.mkdir(parents=True)
    given = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
    (place / "rows.json").write_text(json.dumps(given.head(5).to_dict("split", index=False)))
    made = model(torch.from_numpy(given.to_numpy(dtype=np.float32))).detach().numpy()
    signature = infer_signature(rows, made)
    mlflow.pytorch.save_model(
        model, place / "mlflow", signature=signature, input_example=rows[:3], pip_requirements=needed,
        serialization_format="pickle",
    )
"""
_PATHS = dict.fromkeys(("frame", "mixed", "flat", "tensor", "wide"), "answered by the PyTorch network on a tensor")
_PATHS["noisy"] = "All requests are answered by MLflow: calling the model directly gave other answers"


def main() -> int:
    """Each model."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    os.environ |= ONE_THREAD  # as our workers have: with more, sums are made in other parts
    python = environment("mlflow") / "python"
    wrong = 0
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory) / "models"
        subprocess.run([python, "-W", "ignore", "-c", _MODELS, models], check=True)
        reference = [python, "-W", "ignore", REFERENCE, models]
        with (
            subprocess.Popen(reference, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
            our_server(Path(directory) / "data", ["torch"]) as server,
        ):
            for name in _PATHS:
                with ours(server, models / name):
                    wrong += _check(server, Reference(process), models, name, count)
            process.stdin.close()
    return int(wrong > 0)


def _check(server: Peer, mlflow: Reference, models: Path, name: str, count: int) -> int:
    """Prints, and returns how much is not as it should be."""
    client = Client(server)
    told = _path(server, name)
    answered, different = 0, 0
    asked = set(islice(_requests(models / name / "mlflow"), count)) if name != "noisy" else set()
    for body in asked:
        theirs, (status, said) = mlflow.ask(f"{name}/mlflow", body), client.ask(name, body)
        answered += status == 200
        alike = said == base64.b64decode(theirs["body"]) if status == 200 else True
        if status != theirs["status"] or not alike:
            different += 1
            print(f"  differs: {body[:200]!r}: {status} {said[:200]!r}, MLflow {theirs['status']}")
    print(f"{name}: {told}\n  {len(asked)} requests, {answered} with predictions, {different} answered otherwise")
    return different + (_PATHS[name] not in told)


def _path(server: Peer, name: str) -> str:
    """What the build log tells of it."""
    url = f"{server.url}/api/2.0/serving-endpoints/{name}/served-models/{name}/build-logs"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {server.token}"})
    with urllib.request.urlopen(request) as answer:
        logs: str = json.loads(answer.read())["logs"]
    return next((line for line in logs.splitlines() if "answered by" in line), logs[-500:])


def _requests(model: Path) -> Iterator[bytes]:
    """More and more of them, each form in turn."""
    schema = Model.load(str(model)).get_input_schema()
    requests = Requests(schema, (model / "serving_input_example.json").read_bytes())
    while True:
        for form in (INSTANCES, INPUTS) if schema.is_tensor_spec() else FORMS:
            yield from requests.plain(form, rows=7)
            yield from requests.doubtful(form)


if __name__ == "__main__":
    sys.exit(main())
