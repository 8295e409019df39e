"""Where notebooks also import it from."""

from millpond.features import TrainingSet

__all__ = ["TrainingSet"]
