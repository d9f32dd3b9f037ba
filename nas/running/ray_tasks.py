"""Holds what a search runs on the nodes of a cluster besides its trials: their descriptions, and its own claim."""

from typing import Any

from nas.measure import environment
from nas.running.ray_connection import ray


@ray.remote(num_cpus=0, max_retries=0)  # type: ignore[untyped-decorator]  # Ray ships no types
def _described() -> dict[str, Any]:
    return environment()


def ask_for_description(node: str) -> Any:
    """Has the node of this id describe its hardware and versions. Returns what `description_of` reads."""
    pinned = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    return _described.options(scheduling_strategy=pinned).remote()


def description_of(answer: Any) -> dict[str, Any]:
    """Returns the description that a node gave, or as `fault` what kept it from doing so, such as a missing module."""
    try:
        return dict(ray.get(answer))
    except Exception as error:  # noqa: BLE001  Ray raises every class here
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return {"fault": lines[-1][:300]}


class Claimed:
    """Holds a search's claim by its name, and whether the search has been told to stop now."""

    def __init__(self) -> None:
        self.stopped = False

    def stop(self) -> None:
        """Lets every worker of the search save and stop."""
        self.stopped = True

    def is_stopped(self) -> bool:
        """Tells whether workers are to save and stop."""
        return self.stopped


def claim_actor(name: str) -> Any:
    """Starts the actor that holds a claim. It ends with this program, and is made again where its node dies."""
    return ray.remote(Claimed).options(name=name, num_cpus=0, max_restarts=-1).remote()
