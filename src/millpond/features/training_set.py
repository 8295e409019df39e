"""Labels with their features, ready to train on."""

from collections.abc import Callable
from typing import Any

from millpond.features.certificate import Certificate
from millpond.features.planning import Plan
from millpond.features.spec import FeatureSpec

Load = Callable[[], tuple[Any, Certificate]]


class TrainingSet:
    """What `create_training_set` gives; `load_df` makes it. The tables are read at the versions of its creation."""

    def __init__(self, *, spec: FeatureSpec, plan: Plan, load: Load) -> None:
        self._spec, self._plan, self._load = spec, plan, load
        self._certificate: Certificate | None = None

    def load_df(self) -> Any:
        """A data frame of the kind that the labels are: the columns of `feature_spec`, then the labels."""
        frame, self._certificate = self._load()
        return frame

    @property
    def feature_spec(self) -> FeatureSpec:
        """What a model needs to find these features again."""
        return self._spec

    @property
    def plan(self) -> Plan:
        """How it is made."""
        return self._plan

    @property
    def certificate(self) -> Certificate:
        """The proof that it was made rightly; makes it if it was not made yet."""
        if self._certificate is None:
            self.load_df()
        assert self._certificate is not None
        return self._certificate
