"""Labels with their features, ready to train on."""

from collections.abc import Callable
from typing import Any

from millpond.features.certificate import Certificate
from millpond.features.planning import Plan
from millpond.features.spec import FeatureSpec

Prove = Callable[[], Certificate]
Load = Callable[[], tuple[Any, Prove]]
"""Makes the frame; the proof of a local one was made with it, that of a Spark plan carries the plan out."""


class TrainingSet:
    """What `create_training_set` gives; `load_df` makes it. The tables are read at the versions of its creation."""

    def __init__(self, *, spec: FeatureSpec, plan: Plan, load: Load) -> None:
        self._spec, self._plan, self._load = spec, plan, load
        self._prove: Prove | None = None
        self._certificate: Certificate | None = None

    def load_df(self) -> Any:
        """A data frame of the kind that the labels are: the columns of `feature_spec`, then the labels."""
        frame, self._prove = self._load()
        self._certificate = None
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
        """The proof that it was made rightly; makes it if it was not made yet. Raises RuntimeError when it is wrong."""
        if self._prove is None:
            self.load_df()
        assert self._prove is not None
        self._certificate = self._certificate or self._prove()
        return self._certificate
