"""What somebody chose for their pages is kept on each database."""

from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.database import Database
from millpond.ui.preferences import Preferences
from millpond.ui.theme import Theme


def _principal(principal_id: str) -> Principal:
    return Principal(id=principal_id, name=f"{principal_id}@example.com", kind=PrincipalKind.USER, is_admin=False)


def test_a_theme_is_kept_changed_and_each_persons_own(database: Database) -> None:
    preferences = Preferences(database)
    ann, ben = _principal("1"), _principal("2")
    assert preferences.theme(ann) is Theme.AUTO
    preferences.choose_theme(ann, Theme.DARK)
    preferences.choose_theme(ann, Theme.LIGHT)
    assert preferences.theme(ann) is Theme.LIGHT
    assert preferences.theme(ben) is Theme.AUTO
