"""Which served entities have features, and which: read once for each version."""

from millpond.feature_serving.specs import MAX_BYTES, parse_spec
from millpond.features.spec import FILE, FeatureSpec
from millpond.kernel.errors import InvalidArgument
from millpond.serving.domain import ModelVersion
from millpond.serving.models import ModelCache

_MOST_KEPT = 1000


class Specs:
    """The feature spec of what is served."""

    def __init__(self, models: ModelCache) -> None:
        self._models = models
        self._known: dict[ModelVersion, FeatureSpec | None] = {}

    def knows(self, model: ModelVersion) -> bool:
        """Whether `of` needs no file."""
        return model in self._known

    def of(self, model: ModelVersion) -> FeatureSpec | None:
        """The spec; None for a model without features, or whose files are not here yet. Blocks unless it is known.

        Raises InvalidArgument for one that cannot be read.
        """
        if model in self._known:
            return self._known[model]
        if model.is_spec:
            return self.keep(model, parse_spec(model.source))
        path = self._models.find(model)
        if path is None:
            return None
        file = path / FILE
        if not file.exists():
            return self.keep(model, None)
        if file.stat().st_size > MAX_BYTES:
            raise InvalidArgument(f"The file {FILE} of model '{model.name}' has more than {MAX_BYTES} bytes.")
        return self.keep(model, parse_spec(file.read_text(encoding="utf-8", errors="replace")))

    def keep(self, model: ModelVersion, spec: FeatureSpec | None) -> FeatureSpec | None:
        """Know the spec of a version from now on; returns it."""
        if len(self._known) >= _MOST_KEPT:
            self._known.clear()
        self._known[model] = spec
        return spec
