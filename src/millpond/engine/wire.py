"""Spark Connect's wire: errors as PySpark parses them, and the responses that the gateway makes itself.

Source: pyspark/errors/exceptions/connect.py (`convert_exception`) and `SparkConnectClient._handle_rpc_error`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from millpond.engine import proto
from millpond.engine.errors import AnalysisError, ExecutionError, SparkError
from millpond.kernel import errors as kernel

STATUS_KEY = "grpc-status-details-bin"
_METADATA_LIMIT = 6000  # gRPC's clients refuse more than 8 KiB of metadata


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An error as gRPC carries it."""

    code: grpc.StatusCode
    message: str
    status: bytes
    """A serialised google.rpc.Status."""

    @property
    def trailers(self) -> tuple[tuple[str, bytes], ...]:
        """Trailing metadata that carries the status to the client."""
        return ((STATUS_KEY, self.status),)


_CODES = {
    kernel.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    kernel.NotImplementedHere: grpc.StatusCode.UNIMPLEMENTED,
}


def failure_of(error: kernel.MillpondError) -> Failure:
    """The error on the wire. Nothing is UNAVAILABLE: PySpark would retry that for ten minutes."""
    spark = as_spark_error(error)
    code = _CODES.get(type(error), grpc.StatusCode.INTERNAL)
    message = spark.message
    metadata = {
        "classes": json.dumps(list(spark.java_classes)),
        "errorClass": spark.error_class,
        "sqlState": spark.sql_state,
    }
    parameters = json.dumps(spark.parameters)
    if len(parameters) < _METADATA_LIMIT // 2:
        metadata["messageParameters"] = parameters
    info = error_details_pb2.ErrorInfo(reason=spark.java_class, domain="org.apache.spark", metadata=metadata)
    detail = any_pb2.Any()
    detail.Pack(info)
    room = _METADATA_LIMIT - detail.ByteSize()
    shown = message if len(message.encode()) <= room else message.encode()[:room].decode(errors="ignore") + " …"
    number = code.value[0]
    status = status_pb2.Status(code=number, message=shown, details=[detail])
    return Failure(code=code, message=shown, status=status.SerializeToString())


def as_spark_error(error: kernel.MillpondError) -> SparkError:
    """The error with a class and SQLSTATE; those of the kernel get the nearest one that Spark has."""
    if isinstance(error, SparkError):
        return error
    kind, error_class, sql_state = _SPARK_CLASSES.get(type(error), (ExecutionError, "INTERNAL_ERROR", "XX000"))
    return kind(error_class, error.message, sql_state=sql_state)


_SPARK_CLASSES: dict[type[kernel.MillpondError], tuple[type[SparkError], str, str]] = {
    kernel.InvalidArgument: (AnalysisError, "INVALID_PARAMETER_VALUE", "22023"),
    kernel.NotFound: (AnalysisError, "OBJECT_NOT_FOUND", "42704"),
    kernel.AlreadyExists: (AnalysisError, "OBJECT_ALREADY_EXISTS", "42710"),
    kernel.PermissionDenied: (AnalysisError, "INSUFFICIENT_PERMISSIONS", "42501"),
    kernel.Unauthenticated: (AnalysisError, "UNAUTHENTICATED", "28000"),
    kernel.Conflict: (ExecutionError, "CONCURRENT_MODIFICATION", "2D521"),
    kernel.FailedPrecondition: (AnalysisError, "INVALID_STATE", "55000"),
    kernel.ResourceExhausted: (ExecutionError, "RESOURCE_EXHAUSTED", "53000"),
    kernel.NotImplementedHere: (AnalysisError, "UNSUPPORTED_FEATURE", "0A000"),
    kernel.Unavailable: (ExecutionError, "ENGINE_UNAVAILABLE", "08S01"),
}


def execute_response(session_id: str, operation_id: str, **content: Any) -> Any:
    """One ExecutePlanResponse with an id of its own."""
    return proto.base.ExecutePlanResponse(
        session_id=session_id,
        operation_id=operation_id,
        response_id=str(uuid4()),
        **content,
    )


def arrow_stream(table: Any) -> bytes:
    """A pyarrow table as one Arrow IPC stream."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
        if table.num_rows == 0:  # without a batch, PySpark would miss the columns
            writer.write_batch(pa.RecordBatch.from_pylist([], schema=table.schema))
    return bytes(sink.getvalue())


def local_relation(table: Any) -> Any:
    """A pyarrow table as the relation that holds it."""
    return proto.relations.Relation(local_relation=proto.relations.LocalRelation(data=arrow_stream(table)))


def query_responses(session_id: str, operation_id: str, table: Any) -> list[Any]:
    """What answers a query with this pyarrow table: one Arrow batch, and the end."""
    batch = proto.base.ExecutePlanResponse.ArrowBatch(row_count=table.num_rows, data=arrow_stream(table))
    return [execute_response(session_id, operation_id, arrow_batch=batch), completed(session_id, operation_id)]


def command_responses(session_id: str, operation_id: str, relation: Any | None = None) -> list[Any]:
    """What answers a command: for SQL, the relation that holds its result; and the end."""
    responses: list[Any] = []
    if relation is not None:
        result = proto.base.ExecutePlanResponse.SqlCommandResult(relation=relation)
        responses.append(execute_response(session_id, operation_id, sql_command_result=result))
    return [*responses, completed(session_id, operation_id)]


def completed(session_id: str, operation_id: str) -> Any:
    """The response that tells the client that there is no more."""
    return execute_response(session_id, operation_id, result_complete=proto.base.ExecutePlanResponse.ResultComplete())


def string_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """A pyarrow table of nullable text columns."""
    import pyarrow as pa

    schema = pa.schema([pa.field(name, pa.string()) for name in columns])
    return pa.table(
        {name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate(columns)}, schema=schema
    )
