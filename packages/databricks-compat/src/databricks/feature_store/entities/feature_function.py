"""Where notebooks also import it from."""

from millpond.features import FeatureFunction

__all__ = ["FeatureFunction"]
