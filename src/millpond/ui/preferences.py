"""What somebody chose for their pages: today, light or dark."""

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.database import Database
from millpond.ui import store
from millpond.ui.theme import Theme


class Preferences:
    """Each principal's own choices."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def theme(self, principal: Principal) -> Theme:
        """The theme that the principal chose; AUTO at first."""
        with self._database.read() as connection:
            return store.find_theme(connection, principal.id)

    def choose_theme(self, principal: Principal, theme: Theme) -> None:
        """Keep the theme for all of the principal's browsers."""
        with self._database.write() as connection:
            store.save_theme(connection, principal.id, theme)


class _Change(BaseModel):
    model_config = ConfigDict(extra="forbid")
    theme: Theme


def router(preferences: Preferences) -> APIRouter:
    """The route that the theme buttons call."""
    routes = APIRouter()

    @routes.patch("/api/millpond/ui/preferences")
    def change(change: _Change, principal: Principal = Depends(current_principal)) -> dict[str, str]:
        preferences.choose_theme(principal, change.theme)
        return {"theme": change.theme.value}

    return routes
