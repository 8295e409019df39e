"""The unmodified Databricks SDK on the workspace: what `w.workspace` makes, gives, lists, shares and deletes."""

import base64
import io
import uuid
import zipfile
from dataclasses import dataclass

import nbformat
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    BadRequest,
    InvalidParameterValue,
    NotFound,
    NotImplemented,
    PermissionDenied,
    ResourceAlreadyExists,
)
from databricks.sdk.service.workspace import (
    ExportFormat,
    ImportFormat,
    Language,
    ObjectType,
    WorkspaceObjectAccessControlRequest,
    WorkspaceObjectPermissionLevel,
)

from tests.servers import Server

SOURCE = b"# Databricks notebook source\nprint(1)\n\n# COMMAND ----------\n\n# MAGIC %md\n# MAGIC hello\n"


@dataclass
class Home:
    """Somebody's client and home."""

    w: WorkspaceClient
    name: str
    path: str

    def wrote(self, name: str, data: bytes = SOURCE) -> str:
        """A notebook or file of theirs."""
        self.w.workspace.upload(f"{self.path}/{name}", io.BytesIO(data), format=ImportFormat.AUTO)
        return f"{self.path}/{name}".removesuffix(".py")


def home_of(server: Server, name: str) -> Home:
    name = f"{name}-{uuid.uuid4().hex[:6]}@x.org"
    w = WorkspaceClient(host=server.url, token=server.new_user(name), auth_type="pat")
    return Home(w=w, name=name, path=f"/Users/{name}")


@pytest.fixture(scope="module")
def ann(any_server: Server) -> Home:
    return home_of(any_server, "ann")


@pytest.fixture(scope="module")
def bob(any_server: Server) -> Home:
    return home_of(any_server, "bob")


@pytest.fixture(scope="module")
def admin(any_server: Server) -> Home:
    w = WorkspaceClient(host=any_server.url, token=any_server.token, auth_type="pat")
    return Home(w=w, name=any_server.user, path=f"/Users/{any_server.user}")


def test_uploads_come_down_as_the_sdk_own_tests_expect_them(ann: Home) -> None:
    w = ann.w.workspace
    w.upload(f"{ann.path}/nb.py", io.BytesIO(b"print(1)"))
    with w.download(f"{ann.path}/nb.py") as stream:
        assert stream.read() == b"# Databricks notebook source\nprint(1)"
    for name in ("file.py", "file.txt"):
        w.upload(f"{ann.path}/{name}", io.BytesIO(b"print(1)"), format=ImportFormat.AUTO)
        with w.download(f"{ann.path}/{name}") as stream:
            assert stream.read() == b"print(1)"
    assert w.get_status(f"/Workspace{ann.path}/nb.py").object_type is ObjectType.NOTEBOOK
    found = w.get_status(f"{ann.path}/file.txt")
    assert (found.object_type, found.size, found.language) == (ObjectType.FILE, 8, None)


def test_a_notebook_goes_in_and_out_in_each_format(ann: Home) -> None:
    w, path = ann.w.workspace, f"{ann.path}/formats"
    content = base64.b64encode(SOURCE).decode()
    w.import_(path, content=content, format=ImportFormat.SOURCE, language=Language.PYTHON)
    with pytest.raises(ResourceAlreadyExists, match="overwrite"):
        w.import_(path, content=content, format=ImportFormat.SOURCE, language=Language.PYTHON)
    jupyter = w.export(path, format=ExportFormat.JUPYTER)
    assert jupyter.file_type == "ipynb"
    cells = nbformat.reads(base64.b64decode(jupyter.content), as_version=4).cells
    assert [(cell.cell_type, cell.source) for cell in cells] == [("code", "print(1)"), ("markdown", "hello")]
    w.import_(path, content=jupyter.content, format=ImportFormat.JUPYTER, overwrite=True)
    source = w.export(path)
    assert (base64.b64decode(source.content), source.file_type) == (SOURCE, "py")
    assert w.export(path, format=ExportFormat.AUTO).file_type == "ipynb"
    assert b"<p>hello</p>" in base64.b64decode(w.export(path, format=ExportFormat.HTML).content)
    with pytest.raises(NotImplemented, match="DBC"):
        w.export(path, format=ExportFormat.DBC)
    with pytest.raises(InvalidParameterValue, match="language"):
        w.import_(f"{ann.path}/none", content="MQ==")
    with pytest.raises(InvalidParameterValue, match="base64"):
        w.import_(f"{ann.path}/none", content="$", format=ImportFormat.RAW)


def test_directories_are_made_listed_exported_and_deleted(ann: Home) -> None:
    w, root = ann.w.workspace, f"{ann.path}/project"
    with pytest.raises(NotFound, match="make the directory first"):
        w.upload(f"{root}/a.py", io.BytesIO(SOURCE), format=ImportFormat.AUTO)
    w.mkdirs(f"{root}/deep/er")
    w.mkdirs(f"{root}/deep/er")
    w.upload(f"{root}/deep/er/a.py", io.BytesIO(SOURCE), format=ImportFormat.AUTO)
    w.upload(f"{root}/deep/b.txt", io.BytesIO(b"b"), format=ImportFormat.AUTO)
    with pytest.raises(ResourceAlreadyExists, match="no directory"):
        w.mkdirs(f"{root}/deep/b.txt/c")
    assert {each.path for each in w.list(root, recursive=True)} == {f"{root}/deep/er/a", f"{root}/deep/b.txt"}
    assert [each.path for each in w.list(f"{root}/deep/b.txt")] == [f"{root}/deep/b.txt"]
    later = w.get_status(f"{root}/deep/er/a").modified_at
    assert list(w.list(f"{root}/deep/er", notebooks_modified_after=later)) == []
    packed = zipfile.ZipFile(io.BytesIO(base64.b64decode(w.export(root, format=ExportFormat.AUTO).content)))
    assert sorted(packed.namelist()) == ["deep/b.txt", "deep/er/a.py"]
    with pytest.raises(BadRequest, match="not empty"):
        w.delete(root)
    w.delete(root, recursive=True)
    with pytest.raises(NotFound):
        w.get_status(f"{root}/deep/er/a")


def test_what_is_in_a_home_is_nobody_elses_until_it_is_shared(ann: Home, bob: Home) -> None:
    path = ann.wrote("secret.py")
    w = bob.w.workspace
    for refused in (
        lambda: w.get_status(path),
        lambda: w.export(path),
        lambda: list(w.list(ann.path)),
        lambda: w.delete(path),
        lambda: w.mkdirs(f"{ann.path}/mine"),
        lambda: w.upload(f"{path}.py", io.BytesIO(SOURCE), format=ImportFormat.AUTO, overwrite=True),
        lambda: w.upload(f"{ann.path}/new.py", io.BytesIO(SOURCE), format=ImportFormat.AUTO),
    ):
        with pytest.raises(NotFound, match="does not exist"):
            refused()
    assert [each.path for each in w.list("/Users")] == [bob.path]
    assert {each.path for each in w.list("/")} == {"/Shared", "/Users"}
    found = ann.w.workspace.get_status(ann.path)
    asked = WorkspaceObjectAccessControlRequest(
        user_name=bob.name, permission_level=WorkspaceObjectPermissionLevel.CAN_READ
    )
    ann.w.workspace.update_permissions("directories", str(found.object_id), access_control_list=[asked])
    assert base64.b64decode(w.export(path).content) == SOURCE
    with pytest.raises(PermissionDenied, match="CAN_EDIT"):
        w.upload(f"{path}.py", io.BytesIO(SOURCE), format=ImportFormat.AUTO, overwrite=True)
    with pytest.raises(PermissionDenied, match="CAN_MANAGE"):
        w.delete(path)
    ann.w.workspace.set_permissions("directories", str(found.object_id), access_control_list=[])
    with pytest.raises(NotFound):
        w.export(path)


def test_a_notebooks_own_permissions_end_with_it(ann: Home, bob: Home) -> None:
    path = ann.wrote("own.py")
    number = str(ann.w.workspace.get_status(path).object_id)
    levels = ann.w.workspace.get_permission_levels("notebooks", number).permission_levels
    assert [each.permission_level.value for each in levels] == ["CAN_READ", "CAN_RUN", "CAN_EDIT", "CAN_MANAGE"]
    with pytest.raises(NotFound):
        bob.w.workspace.get_permissions("notebooks", number)
    with pytest.raises(NotFound):
        ann.w.workspace.get_permissions("files", number)
    asked = WorkspaceObjectAccessControlRequest(
        user_name=bob.name, permission_level=WorkspaceObjectPermissionLevel.CAN_EDIT
    )
    ann.w.workspace.update_permissions("notebooks", number, access_control_list=[asked])
    bob.w.workspace.upload(f"{path}.py", io.BytesIO(SOURCE + b"2"), format=ImportFormat.AUTO, overwrite=True)
    ann.w.workspace.delete(path)
    ann.wrote("own.py")
    with pytest.raises(NotFound):
        bob.w.workspace.get_status(path)


def test_what_is_shared_is_read_by_all_and_changed_by_its_maker(ann: Home, bob: Home) -> None:
    path = f"/Shared/{uuid.uuid4().hex[:8]}"
    ann.w.workspace.upload(f"{path}.py", io.BytesIO(SOURCE), format=ImportFormat.AUTO)
    assert base64.b64decode(bob.w.workspace.export(path).content) == SOURCE
    with pytest.raises(PermissionDenied):
        bob.w.workspace.upload(f"{path}.py", io.BytesIO(SOURCE), format=ImportFormat.AUTO, overwrite=True)
    with pytest.raises(PermissionDenied):
        bob.w.workspace.delete(path)


def test_the_roots_are_the_servers(ann: Home, admin: Home) -> None:
    for path in ("/mine", "/Users/nobody-at-all@x.org"):
        with pytest.raises(PermissionDenied):
            ann.w.workspace.mkdirs(path)
    with pytest.raises(PermissionDenied, match="no user's home"):
        admin.w.workspace.mkdirs("/Users/nobody-at-all@x.org/x")
    with pytest.raises(InvalidParameterValue, match="always there"):
        admin.w.workspace.delete("/Shared", recursive=True)
    admin.w.workspace.mkdirs(f"{ann.path}/from-admin")
    assert ann.w.workspace.get_status(f"{ann.path}/from-admin").object_type is ObjectType.DIRECTORY
    with pytest.raises(InvalidParameterValue, match=r"'\.'"):
        ann.w.workspace.get_status(f"{ann.path}/../{admin.name}")


def test_what_is_too_large_is_refused_with_its_own_code(ann: Home) -> None:
    with pytest.raises(BadRequest, match="Use a volume") as refused:
        ann.w.workspace.upload(f"{ann.path}/big.bin", io.BytesIO(bytes((10 << 20) + 1)), format=ImportFormat.RAW)
    assert refused.value.error_code == "MAX_NOTEBOOK_SIZE_EXCEEDED"
