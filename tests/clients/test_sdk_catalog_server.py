"""The catalog of a server that was started as a user starts it, on both databases."""

import io

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound
from databricks.sdk.service import catalog as uc

from tests.servers import Server


def test_a_catalog_with_a_volume_on_a_real_server(any_server: Server) -> None:
    """From nothing to a file in parts, and away again."""
    w = WorkspaceClient(host=any_server.url, token=any_server.token, auth_type="pat", config_file="/nowhere")
    w.catalogs.create(name="sdk_catalog_test", comment="Of a test")
    w.volumes.create("sdk_catalog_test", "default", "v", uc.VolumeType.MANAGED)
    data = b"0123456789abcdef" * (60 << 16)
    w.files.upload("/Volumes/sdk_catalog_test/default/v/big", io.BytesIO(data))
    assert w.files.download("/Volumes/sdk_catalog_test/default/v/big").contents.read() == data  # type: ignore[union-attr]
    w.catalogs.delete("sdk_catalog_test", force=True)
    with pytest.raises(NotFound):
        w.files.download("/Volumes/sdk_catalog_test/default/v/big")


def test_the_servers_own_files_are_out_of_reach(any_server: Server) -> None:
    """The database and the signing key, for an administrator too."""
    for path in ("millpond.db", "secret.key", ""):
        body = {"url": f"file://{any_server.data_dir}/{path}", "operation": "PATH_READ"}
        status, answer = any_server.call("POST", "/api/2.1/unity-catalog/temporary-path-credentials", body)
        assert (status, answer["error_code"]) == (403, "PERMISSION_DENIED")


def test_a_python_function_that_the_sdk_made_is_called_in_sql(any_server: Server) -> None:
    """`w.functions.create` with a body in Python, and a statement that calls it."""
    w = WorkspaceClient(host=any_server.url, token=any_server.token, auth_type="pat", config_file="/nowhere")
    w.catalogs.create(name="sdk_python_test")
    text = uc.ColumnTypeName.STRING
    parameter = uc.FunctionParameterInfo(name="who", type_text="string", type_name=text, position=0, type_json="")
    made = w.functions.create(
        uc.CreateFunction(
            name="greet", catalog_name="sdk_python_test", schema_name="default", data_type=text,
            full_data_type="string", input_params=uc.FunctionParameterInfos(parameters=[parameter]),
            routine_body=uc.CreateFunctionRoutineBody.EXTERNAL, external_language="Python",
            routine_definition="return f'hello {who}'", parameter_style=uc.CreateFunctionParameterStyle.S,
            is_deterministic=True, is_null_call=False, security_type=uc.CreateFunctionSecurityType.DEFINER,
            sql_data_access=uc.CreateFunctionSqlDataAccess.NO_SQL, specific_name="greet",
        )
    )  # fmt: skip
    assert (made.routine_body, made.external_language) == (uc.FunctionInfoRoutineBody.EXTERNAL, "Python")
    done = w.statement_execution.execute_statement(
        "SELECT sdk_python_test.default.greet('Ann')", "starter", wait_timeout="50s"
    )
    assert done.result is not None, done.status
    assert done.result.data_array == [["hello Ann"]]
    w.catalogs.delete("sdk_python_test", force=True)
