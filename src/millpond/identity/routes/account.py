"""The account in the paths of account-level calls: here an account has one workspace, and shares its number."""

from fastapi import Depends
from fastapi.params import Depends as Dependency

from millpond.kernel.errors import NotFound


def only_account(workspace_id: int) -> Dependency:
    """What a route with `{account_id}` in its path depends on: raises NotFound for another account than ours."""

    def check(account_id: str) -> None:
        if account_id != str(workspace_id):
            raise NotFound(f"Account '{account_id[:80]}' does not exist; the account of this server is {workspace_id}.")

    dependency: Dependency = Depends(check)
    return dependency
