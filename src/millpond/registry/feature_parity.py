"""The check `feature_parity`: a version is given in serving what it was given in training, for keys that are replayed.

```yaml
- feature_parity: {keys: main.ml.requests, sample: 500, tolerance: 1.0e-9, tolerances: {spent_30d: 0.01}}
```

The room `parity`, above this one, carries it out.
"""

from collections.abc import Mapping
from typing import Any

from millpond.registry.checks import NUMBER, Looked, PlainCheck, Replay, Subject

_GOOD_FOR_S = 600.0


def _look(subject: Subject, params: Mapping[str, Any]) -> Looked:
    return subject.tools.replay(subject.version, Replay(**params))


def _inspect(params: Mapping[str, Any]) -> None:
    Replay(**params)


FEATURE_PARITY = PlainCheck(
    name="feature_parity",
    types={"keys": (str,), "sample": (int,), "tolerance": NUMBER, "tolerances": (dict,), "max_mismatches": (int,)},
    look=_look,
    slow=True,
    good_for_s=_GOOD_FOR_S,
    inspect=_inspect,
)
