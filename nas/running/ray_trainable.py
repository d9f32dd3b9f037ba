"""Has Ray Tune use workers that do without it.

Ray Tune wants a `Trainable` of its own in every worker. Each then imports ray.tune with pandas, and uses neither: 130
MiB and two seconds a worker. So Ray Tune is given a stand-in, and its controller starts `TrialActor` in place of that.
The objects of Ray Tune's own that it sends along arrive as plain values.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from operator import attrgetter
from typing import Any

from nas.running.ray_connection import SETTINGS, ray
from nas.running.ray_worker import TrialActor
from nas.surroundings import environment_variables

with environment_variables(SETTINGS):
    from ray import tune
    from ray.air.execution import FixedResourceManager
    from ray.train._internal.storage import StorageContext
    from ray.tune.experiment.trial import _TrialInfo

NODE_LABEL = "ray.io/node-id"
"""Ray gives every node this label, by which a trial is bound to its node."""


class StandIn(tune.Trainable):  # type: ignore[misc]  # Ray ships no types
    """Stands for TrialActor wherever Ray Tune wants a Trainable. It never runs."""

    def setup(self, config: dict[str, Any]) -> None:
        raise RuntimeError("this version of Ray Tune starts its workers in another way than nas knows")


def placed(share: dict[str, float]) -> Any:
    """Returns the stand-in of trials that take this share of a machine."""
    return tune.with_resources(StandIn, partial(_place, share=share))


def _place(config: dict[str, Any], share: dict[str, float]) -> tune.PlacementGroupFactory:
    """Binds a trial to its node. Workers are reused on their own node alone, so a node that joins starts its own.

    Left to itself, Ray Tune gives a new trial to a worker that is warm, and short trials never reach a new node.
    """
    node = config.get("node")
    if not node:
        return tune.PlacementGroupFactory([share])
    return tune.PlacementGroupFactory([share], bundle_label_selector=[{NODE_LABEL: node}])


def substitute(tune_controller: Any, actor: type[TrialActor], cluster: bool) -> None:
    """Has the controller start this actor for every trial.

    On a cluster, workers get the environment that Ray Tune gives to its own, and places in placement groups. On this
    machine they have the environment of this process and plain places, so that workers serve which have started before:
    a placement group spends one on asking whether it is ready, and no actor gets that afterwards.
    """
    classes = tune_controller._class_cache
    if isinstance(classes.get, partial):
        return
    prepared = partial(classes.get, actor) if cluster else cache(partial(ray.remote, actor))
    classes.get = partial(_instead, prepared)
    if not cluster:
        tune_controller._actor_manager._resource_manager = FixedResourceManager()


def _instead(prepared: Callable[[], Any], stand_in: type) -> Any:
    return prepared()


def _folder(storage: StorageContext) -> str:
    """Returns the folder of a trial; empty for the storage of the whole experiment, which Ray Tune saves and nobody
    reads.
    """
    return str(storage.trial_working_directory) if storage.trial_dir_name else ""


@contextmanager
def plain_values() -> Iterator[None]:
    """Sends the folder of a trial in place of Ray Tune's storage, and its id in place of its description."""
    ray.util.register_serializer(StorageContext, serializer=_folder, deserializer=str)
    ray.util.register_serializer(_TrialInfo, serializer=attrgetter("trial_id"), deserializer=str)
    try:
        yield
    finally:
        for sent in (StorageContext, _TrialInfo):
            ray.util.deregister_serializer(sent)
