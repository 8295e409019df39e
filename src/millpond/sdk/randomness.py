"""The state of random number generators, as far as it can be seen."""

import contextlib
import hashlib
import json
import os
import random
import sys
from typing import Any


def begin() -> dict[str, Any]:
    """The state of the global generators when MLflow is imported: what an unseeded program goes on from.

    A process that reproduces another takes on that one's state here.
    """
    path = os.environ.get("MILLPOND_RANDOM")
    if path:
        with open(path) as stream:
            _restore(json.load(stream))
    return {"python": _plain(random.getstate()), "numpy": _numpy_state(), "torch": _torch_state()}


def _restore(state: dict[str, Any]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    if state["numpy"]:
        import numpy

        name, keys, *rest = state["numpy"]
        numpy.random.set_state((name, numpy.array(keys, dtype=numpy.uint32), *rest))
    with contextlib.suppress(ImportError):
        _restore_torch(state.get("torch"), state.get("torch_seed"))


def _restore_torch(state: list[int] | None, seed: str | None) -> None:
    """A torch that was there goes on from its state; one that came later began with its seed, which it tells."""
    if not state and (seed is None or "torch" in sys.modules):
        return
    import torch  # type: ignore[import-not-found,unused-ignore]  # in the run's environment

    if state:
        torch.set_rng_state(torch.tensor(state, dtype=torch.uint8))
    else:
        torch.manual_seed(int(str(seed)))


def _torch_state() -> list[int] | None:
    torch = sys.modules.get("torch")
    return torch.get_rng_state().tolist() if torch is not None and hasattr(torch, "get_rng_state") else None


def _numpy_state() -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    name, keys, *rest = numpy.random.get_state()
    return [name, keys.tolist(), *rest]


def seeds() -> dict[str, Any]:
    """Digests of the generators' states now, and seeds where a library tells them."""
    found: dict[str, Any] = {
        "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED"),
        "python": _digest(_plain(random.getstate())),
        "numpy": _digest(_numpy_state()),
    }
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "initial_seed"):
        found["torch"] = str(torch.initial_seed())
    return found


def _plain(state: Any) -> list[Any]:
    version, numbers, gauss = state
    return [version, list(numbers), gauss]


def _digest(state: Any) -> str | None:
    return None if state is None else hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]
