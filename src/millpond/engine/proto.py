"""Spark Connect's protobuf modules, without importing the `pyspark` package.

`import pyspark` pulls pandas and costs 0.7 s and 100 MB, which the gateway does not need. The generated modules live in
`pyspark/sql/connect/proto/` and import each other by that absolute name, so empty stand-ins for the packages above them
are put into `sys.modules` while they load and taken out afterwards: a later real `import pyspark` is not disturbed.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_PACKAGES = ("pyspark", "pyspark.sql", "pyspark.sql.connect", "pyspark.sql.connect.proto")


def _root() -> Path:
    spec = importlib.util.find_spec("pyspark")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("The Spark Connect gateway needs the package pyspark-client.")
    return Path(next(iter(spec.submodule_search_locations)))


def _load(*names: str) -> list[Any]:
    stand_ins: dict[str, ModuleType] = {}
    root = None if "pyspark" in sys.modules else _root()
    for package in _PACKAGES:
        if root is not None and package not in sys.modules:
            module = ModuleType(package)
            module.__path__ = [str(root.joinpath(*package.split(".")[1:]))]
            sys.modules[package] = stand_ins[package] = module
    try:
        return [importlib.import_module(f"{_PACKAGES[-1]}.{name}") for name in names]
    finally:
        for package in stand_ins:
            del sys.modules[package]


base, relations, expressions, commands, catalog, types = _load(
    "base_pb2", "relations_pb2", "expressions_pb2", "commands_pb2", "catalog_pb2", "types_pb2"
)

SERVICE = "spark.connect.SparkConnectService"


SAFE_BYTES = 48_000
"""A message of this size is not nested so deep that reading it could exhaust a stack of 8 MB (measured: 74,000)."""


def allow_deep_plans() -> None:
    """Read messages nested deeper than 100, which a chain of 50 DataFrame operations is already.

    Whoever reads larger messages than SAFE_BYTES does so on a thread with a stack of STACK_BYTES.
    """
    from google._upb import _message  # type: ignore[import-untyped]  # it has no public form

    _message.SetAllowOversizeProtos(True)


STACK_BYTES = 64 << 20
"""Enough for 65,000 levels, the most that protobuf reads then."""
