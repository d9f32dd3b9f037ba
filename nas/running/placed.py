"""Places a launch: on this machine, or on a Ray cluster, which it joins and leaves again."""

from contextlib import AbstractContextManager, nullcontext

from nas.errors import UsageError
from nas.running.events import Observer
from nas.running.placement import Placement, place
from nas.settings.study_file import StudyFile


def placed(
    file: StudyFile,
    cpus: float | None,
    gpus: float | None,
    ray_address: str | None,
    observer: Observer,
) -> AbstractContextManager[Placement]:
    """Places trials on the cluster at this address, or without one on this machine, whatever RAY_ADDRESS says.

    Raises as nas.running.placement.place and nas.running.ray_cluster.joined, and UsageError where the study names a
    kind of hardware and no cluster.
    """
    if ray_address is None:
        if file.resources.hardware is not None:
            text = f"resources.hardware = '{file.resources.hardware}' names nodes of a Ray cluster, and none is joined"
            help = "--ray-address HOST:PORT   joins a cluster; for this machine alone, leave resources.hardware out"
            raise UsageError(text, code="no-hardware", where="resources.hardware", help=help)
        return nullcontext(place(file, cpus, gpus))
    from nas.running.ray_cluster import joined  # two seconds of imports

    return joined(ray_address, file, cpus, gpus, observer)
