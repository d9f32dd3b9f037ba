"""Holds what a search asks and runs on a cluster besides its trials: nodes, their descriptions, and its own claim."""

from collections.abc import Collection
from typing import Any

from nas.measure import environment
from nas.running.cluster_nodes import Node, node_of
from nas.running.ray_connection import ray


def living_nodes() -> list[Node]:
    """Returns the nodes of the cluster that live."""
    return [node_of(entry) for entry in ray.nodes() if entry["Alive"]]


def draining_nodes() -> list[str]:
    """Returns the ids of the nodes that are being drained: they are about to end."""
    return [*ray._private.state.state.get_draining_nodes()]  # Ray has no public name for it


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
    """Holds a search's claim by its name, and whether the search has been told to stop now, or to leave some nodes."""

    def __init__(self) -> None:
        self.stopped, self.left = False, frozenset[str]()

    def stop(self) -> None:
        """Lets every worker of the search save and stop."""
        self.stopped = True

    def leave(self, nodes: Collection[str]) -> None:
        """Lets the workers of these nodes save and stop, and those of no others."""
        self.left = frozenset(nodes)

    def is_stopped(self, node: str = "") -> bool:
        """Tells whether the workers of that node are to save and stop."""
        return self.stopped or node in self.left


def claim_actor(name: str) -> Any:
    """Starts the actor that holds a claim. It ends with this program, and is made again where its node dies."""
    return ray.remote(Claimed).options(name=name, num_cpus=0, max_restarts=-1).remote()
