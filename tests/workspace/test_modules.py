"""Which Python files come with a notebook that runs."""

from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.database import Database
from millpond.workspace.formats import Format
from millpond.workspace.service import WorkspaceService

ANN, BEN, CARL = (
    Principal(id=name, name=name, kind=PrincipalKind.USER, is_admin=False) for name in ("ann", "ben", "carl")
)


def test_where_everybody_may_create_only_modules_of_whoever_has_the_script_come_with_it(database: Database) -> None:
    workspace = WorkspaceService(database, lambda name: name)

    def wrote(who: Principal, path: str) -> None:
        workspace.import_object(who, path, who.name.encode(), format=Format.AUTO)

    for who in (ANN, BEN):
        workspace.make_directories(who, f"/Shared/of_{who.name}/inner")
        for name in ("__init__", "inner/__init__"):
            wrote(who, f"/Shared/of_{who.name}/{name}.py")
        wrote(who, f"/Shared/{who.name}s.py")
    expected = {"anns.py", "of_ann/__init__.py", "of_ann/inner/__init__.py"}
    assert set(workspace.modules(CARL, "/Shared/anns.py")) == expected
    assert set(workspace.modules(CARL, "/Workspace/Shared/of_ann/inner/__init__.py")) == {"__init__.py"}
    for name in ("main", "lib"):
        wrote(ANN, f"/Users/ann/{name}.py")
    assert workspace.modules(ANN, "/Users/ann/main.py") == {"main.py": b"ann", "lib.py": b"ann"}
