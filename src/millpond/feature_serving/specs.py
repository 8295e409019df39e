"""Feature specs as users bring them: text that somebody may have written by hand."""

from itertools import chain

import yaml  # type: ignore[import-untyped]

from millpond.features.declared import Feature
from millpond.features.lookups import FeatureLookup
from millpond.features.planning import Wanted
from millpond.features.spec import FeatureSpec, read_spec
from millpond.kernel.errors import InvalidArgument

MAX_BYTES = 256 << 10


def parse_spec(text: str) -> FeatureSpec:
    """The spec. Raises InvalidArgument for what is none."""
    if len(text) > MAX_BYTES:
        raise InvalidArgument(f"The feature spec has more than {MAX_BYTES} characters.")
    try:
        if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("it refers to its own parts, of which it could have very many")
        spec = read_spec(text)
        names = chain(spec.features, spec.labels, spec.excluded, *map(_names, spec.wanted))
        if odd := [name for name in names if not isinstance(name, str)]:
            raise ValueError(f"a {type(odd[0]).__name__} stands where a name should")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise InvalidArgument(f"The feature spec cannot be read: {error}") from error
    return spec


def _names(wanted: Wanted) -> tuple[object, ...]:
    if isinstance(wanted, FeatureLookup):
        renamed = chain(*wanted.rename_outputs.items())
        times = () if wanted.timestamp_lookup_key is None else (wanted.timestamp_lookup_key,)
        given = (*wanted.lookup_key, *(wanted.feature_names or ()), *renamed, *times, *wanted.default_values)
        return (wanted.table_name, *given)
    if isinstance(wanted, Feature):
        return (wanted.source.full_name, wanted.output)
    return (wanted.udf_name, wanted.output, *chain(*wanted.input_bindings.items()))
