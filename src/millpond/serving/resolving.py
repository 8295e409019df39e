"""From what a client wants served to a model version, with all that it needs there and the client's to read."""

from collections.abc import Sequence

from millpond.feature_serving.specs import parse_spec
from millpond.identity.domain import Principal
from millpond.kernel.errors import NotImplementedHere
from millpond.lineage.domain import ColumnFlow
from millpond.serving.domain import ModelVersion, ServedEntity
from millpond.serving.features import ServedFeatures, called
from millpond.serving.ports import ModelSource
from millpond.serving.references import Asked
from millpond.serving.specs import Specs


class Resolver:
    """Finds model versions and what features they need."""

    def __init__(self, source: ModelSource, specs: Specs, features: ServedFeatures | None) -> None:
        self._source = source
        self._specs = specs
        self._features = features

    def resolve(self, principal: Principal, asked: Asked) -> ModelVersion:
        """The version or spec. Raises NotFound, and what says that a feature which it needs cannot be served."""
        if asked.reference is None:
            model = self._source.find_version(principal, asked.model, asked.version)
        else:
            model = self._source.find_referenced(principal, asked.model, asked.reference)
        text = self._source.find_spec(principal, model)
        if text is None:
            return model
        if self._features is None:
            raise NotImplementedHere(f"{called(model)} needs features, which are not served here.")
        spec = parse_spec(text)
        self._features.check(principal, model, spec)
        self._specs.keep(model, spec)
        return model

    def flows(self, entities: Sequence[ServedEntity]) -> list[ColumnFlow]:
        """What the entities read of feature tables."""
        specs = [spec for entity in entities if (spec := self._specs.of(entity.model)) is not None]
        return [flow for spec in specs for flow in self._features.flows(spec)] if self._features else []
