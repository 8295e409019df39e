"""`to_onnx.py MODEL_DIR REQUESTS TARGET`: a model as ONNX, compared with itself; run where the model's packages are.

Prints one JSON object: what was found, or `refused` with the reason. REQUESTS is a file of requests in MLflow's JSON.
"""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

RELATIVE, ABSOLUTE = 1e-4, 1e-5
"""How far numbers may be apart: ONNX's trees and most of its kernels compute in 32 bits."""


class Refused(Exception):
    """The model cannot be converted; the text says why."""


def main() -> None:
    """Convert, compare and say so."""
    model_dir, requests, target = sys.argv[1:]
    try:
        told = converted(model_dir, json.loads(Path(requests).read_text()), Path(target))
    except Refused as error:
        told = {"refused": str(error)}
    print("\n" + json.dumps(told))


def converted(model_dir: str, requests: Sequence[Any], target: Path) -> dict[str, Any]:
    """Write the ONNX model. Raises Refused for one that cannot be, or that answers differently."""
    import mlflow.pyfunc
    from mlflow.models import Model

    described = Model.load(model_dir)
    if described.signature is None or described.signature.inputs is None:
        raise Refused("the model was logged without a signature, which says what ONNX is given.")
    flavor = next((each for each in CONVERTERS if each in described.flavors), None)
    if flavor is None:
        known = ", ".join(CONVERTERS)
        mine = ", ".join(sorted(described.flavors))
        raise Refused(f"its flavors are {mine}; only {known} can be converted, as other models are Python of your own.")
    refused = Refused("it has no form in ONNX.")
    for convert in CONVERTERS[flavor]:
        try:
            data, session = _runnable(convert(model_dir, described))
            told = _compared(mlflow.pyfunc.load_model(model_dir), session, requests)
        except Refused as error:
            refused = error
            continue
        target.write_bytes(data)
        inputs = [{"name": each.name, "type": each.type, "shape": each.shape} for each in session.get_inputs()]
        return {"flavor": flavor, "inputs": inputs, "tolerance": {"rtol": RELATIVE, "atol": ABSOLUTE}, **told}
    raise refused


def _runnable(made: Any) -> tuple[bytes, Any]:
    """What was converted, and a session that runs it. Raises Refused."""
    import onnxruntime

    data = made.SerializeToString()
    try:
        return data, onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no class
        raise Refused(f"ONNX Runtime does not run it: {_first_line(error)}") from error


# -- converters -------------------------------------------------------------------------------------------------------


def _of_sklearn(model_dir: str, described: Any, *, is_double: bool) -> Any:
    import mlflow.sklearn
    from skl2onnx import to_onnx

    model = mlflow.sklearn.load_model(model_dir)
    try:
        return to_onnx(
            model, initial_types=_columns(described, is_double=is_double), options=_without_maps(model), target_opset=17
        )
    except (RuntimeError, NotImplementedError, TypeError, ValueError, NameError) as error:
        raise Refused(f"skl2onnx cannot convert it: {_first_line(error)}") from error


def _without_maps(model: Any) -> Any:
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    return {id(last): {"zipmap": False}} if hasattr(last, "predict_proba") else None


def _of_lightgbm(model_dir: str, described: Any) -> Any:
    import mlflow.lightgbm
    import onnxmltools

    model = mlflow.lightgbm.load_model(model_dir)
    return _of_trees(lambda kinds: onnxmltools.convert_lightgbm(model, initial_types=kinds, zipmap=False), described)


def _of_xgboost(model_dir: str, described: Any) -> Any:
    import mlflow.xgboost
    import onnxmltools

    model = mlflow.xgboost.load_model(model_dir)
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    booster.feature_names = None  # the converter takes f0, f1, ... alone
    return _of_trees(lambda kinds: onnxmltools.convert_xgboost(model, initial_types=kinds), described)


def _of_trees(convert: Callable[[Any], Any], described: Any) -> Any:
    from onnxmltools.convert.common.data_types import FloatTensorType

    kinds = [("input", FloatTensorType([None, _width(described)]))]
    try:
        return convert(kinds)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise Refused(f"onnxmltools cannot convert it: {_first_line(error)}") from error


def _of_pytorch(model_dir: str, described: Any) -> Any:
    import io

    import mlflow.pytorch
    import onnx
    import torch

    model = mlflow.pytorch.load_model(model_dir).eval()
    written = io.BytesIO()
    example = torch.zeros(2, _width(described), dtype=next(model.parameters()).dtype)
    axes = {"input": {0: "rows"}, "output": {0: "rows"}}
    try:
        torch.onnx.export(
            model, (example,), written, input_names=["input"], output_names=["output"], dynamic_axes=axes, dynamo=False
        )
    except Exception as error:  # whatever tracing the user's module raises
        raise Refused(f"torch.onnx cannot export it: {_first_line(error)}") from error
    return onnx.load_from_string(written.getvalue())


CONVERTERS: dict[str, Sequence[Callable[[str, Any], Any]]] = {
    "lightgbm": (_of_lightgbm,),
    "xgboost": (_of_xgboost,),
    "sklearn": (partial(_of_sklearn, is_double=True), partial(_of_sklearn, is_double=False)),
    "pytorch": (_of_pytorch,),
}
"""By flavor, the best first: some operators of skl2onnx compute in 32 bits alone."""


def _columns(described: Any, *, is_double: bool) -> list[tuple[str, Any]]:
    """One input of all columns where all are numbers, else one for each."""
    from skl2onnx.common import data_types as kinds

    number = kinds.DoubleTensorType if is_double else kinds.FloatTensorType
    schema = described.signature.inputs
    if schema.is_tensor_spec():
        return [("input", number([None, _width(described)]))]
    names = [column.type.name for column in schema.inputs]
    if set(names) <= {"double", "float", "long", "integer"}:
        return [("input", number([None, len(names)]))]
    known = {
        "double": number, "float": kinds.FloatTensorType, "long": kinds.Int64TensorType,
        "integer": kinds.Int32TensorType, "string": kinds.StringTensorType, "boolean": kinds.BooleanTensorType,
    }  # fmt: skip
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Refused(f"it takes columns of type {unknown[0]}, which ONNX has not.")
    return [(column.name, known[column.type.name]([None, 1])) for column in schema.inputs]


def _width(described: Any) -> int:
    schema = described.signature.inputs
    if schema.is_tensor_spec():
        shape = schema.inputs[0].shape
        if len(schema.inputs) > 1 or len(shape) != 2 or shape[1] < 1:
            raise Refused("it takes tensors of other shapes than rows of a fixed number of columns.")
        return int(shape[1])
    return len(schema.inputs)


# -- parity -----------------------------------------------------------------------------------------------------------


def _compared(model: Any, session: Any, requests: Sequence[Any]) -> dict[str, Any]:
    """Which output is the prediction, and how far it is from the model's own. Raises Refused."""
    import numpy as np
    from mlflow.pyfunc import scoring_server

    schema = model.metadata.get_input_schema()
    apart: dict[str, float] = {}
    rows = 0
    for request in requests:
        parsed = scoring_server._parse_json_data(json.dumps(request), model.metadata, schema)
        wanted = np.asarray(model.predict(parsed.data))
        found = session.run(None, _fed(session, parsed.data))
        rows += len(wanted)
        for each, value in zip(session.get_outputs(), found, strict=True):
            for name, candidate in _candidates(each.name, value):
                apart[name] = max(apart.get(name, 0.0), _apart(wanted, candidate))
    best = min(apart, key=lambda name: apart[name])
    if apart[best] > 1:
        raise Refused(f"it answers differently from the model: of its outputs {best} is nearest, and too far.")
    return {"output": best, "rows": rows, "distance_of_tolerance": apart[best]}


def _fed(session: Any, data: Any) -> dict[str, Any]:
    import numpy as np

    kinds = {
        "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64, "tensor(bool)": np.bool_,
        "tensor(int32)": np.int32, "tensor(string)": np.str_,
    }  # fmt: skip
    inputs = session.get_inputs()
    if len(inputs) == 1:
        return {inputs[0].name: np.asarray(data).astype(kinds[inputs[0].type])}
    return {each.name: np.asarray(data[[each.name]]).astype(kinds[each.type]) for each in inputs}


def _candidates(name: str, value: Any) -> list[tuple[str, Any]]:
    """An output, and of one with columns the last, as pyfunc gives the probability of the second class alone."""
    import numpy as np

    array = np.asarray(value)
    more = [(f"{name}[:, {array.shape[1] - 1}]", array[:, -1])] if array.ndim == 2 and array.shape[1] > 1 else []
    return [(name, array), *more]


def _apart(wanted: Any, found: Any) -> float:
    """The greatest distance, as a part of what is tolerated; infinite for what is something else."""
    import numpy as np

    if wanted.size != found.size:
        return float("inf")
    found = found.reshape(wanted.shape)
    if wanted.dtype.kind not in "fiub" or found.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(wanted.astype(str), found.astype(str)) else float("inf")
    wanted, found = wanted.astype(float), found.astype(float)
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(found)) or not np.array_equal(
        wanted[~finite], found[~finite], equal_nan=True
    ):
        return float("inf")
    wanted, found = wanted[finite], found[finite]
    return float(np.max(np.abs(wanted - found) / (ABSOLUTE + RELATIVE * np.abs(wanted)), initial=0.0))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


if __name__ == "__main__":
    main()
