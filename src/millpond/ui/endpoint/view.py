"""What all tabs of an endpoint's page are given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from millpond.identity.access import Act, allows
from millpond.serving.domain import Config, Endpoint, ServedEntity
from millpond.ui.visit import Visit

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class View:
    """An endpoint, and what the visitor may do with it."""

    visit: Visit
    endpoint: Endpoint

    @property
    def may_manage(self) -> bool:
        """Whether what changes it is offered."""
        return allows(self.visit.principal, Act.MANAGE, self.endpoint.securable)

    @property
    def may_query(self) -> bool:
        """Whether asking it is offered."""
        return allows(self.visit.principal, Act.USE, self.endpoint.securable)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"{self.visit.addresses.base_url}/serving-endpoints/{self.endpoint.name}/invocations"

    @property
    def config(self) -> Config | None:
        """What it serves, or is going to."""
        return self.endpoint.active or self.endpoint.pending

    @property
    def keeps_requests(self) -> bool:
        """Whether it has an inference table."""
        return self.config is not None and self.config.capture is not None


@dataclass(frozen=True, kw_only=True)
class EndpointTab(Generic[T]):
    """One tab: `load` asks the services in a thread, `draw` builds elements."""

    key: str
    label: str
    load: Callable[[View], T]
    draw: Callable[[View, T], None]
    shown: Callable[[View], bool] = lambda _view: True


Tabs = tuple[EndpointTab[Any], ...]


def model_words(entity: ServedEntity) -> str:
    """What a served entity is, in words."""
    model = entity.model
    if model.is_spec:
        return f"{model.name} (features)"
    named = f" ({entity.reference.words})" if entity.reference else ""
    return f"{model.name} version {model.version}{named}"
