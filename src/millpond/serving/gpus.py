"""Which GPUs a worker gets: those that the fewest workers of this server have."""

from collections import Counter
from collections.abc import Iterable

from millpond.kernel.errors import InvalidArgument
from millpond.kernel.gpus import all_gpus
from millpond.serving.domain import ServedEntity, WorkloadType

Gpus = tuple[str, ...]
"""Their UUIDs: the order of their numbers is another one in CUDA than in nvidia-smi."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The variable that tells CUDA which GPUs there are."""


class GpuShares:
    """How many workers have each GPU. On the server's event loop."""

    def __init__(self) -> None:
        self._workers = Counter[str]()

    def take(self, kind: WorkloadType, there: Gpus) -> Gpus:
        """GPUs of those that there are, for one worker, until `give_back`; none where it needs none."""
        taken = tuple(sorted(there, key=self._workers.__getitem__)[: kind.most_gpus])
        self._workers.update(taken)
        return taken

    def give_back(self, taken: Gpus) -> None:
        """Say that the worker has ended."""
        self._workers.subtract(taken)


def check_gpus(entities: Iterable[ServedEntity]) -> None:
    """Pass where this machine has a GPU, or none of the entities needs one. Blocks. Raises InvalidArgument."""
    needy = next((each for each in entities if each.workload_type.most_gpus), None)
    if needy is not None and not all_gpus():
        raise InvalidArgument(refusal(needy))


def refusal(entity: ServedEntity) -> str:
    """What to say where there is no GPU for an entity."""
    return (
        f"Served entity '{entity.name}' has workload_type {entity.workload_type.value}, and nvidia-smi lists no GPU "
        "here. Use CPU, or run the server on a machine where nvidia-smi lists one."
    )
