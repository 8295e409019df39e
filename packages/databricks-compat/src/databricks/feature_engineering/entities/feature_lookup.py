"""Where notebooks also import it from."""

from millpond.features import FeatureLookup

__all__ = ["FeatureLookup"]
