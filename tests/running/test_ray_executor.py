"""Ray Tune for real, with trials that cost nothing: placing, slots, failures, dying workers."""

import itertools
import os
import time
from functools import partial
from pathlib import Path

import pytest

from nas.architecture import Architecture
from nas.errors import OutOfReach
from nas.results import Rung
from nas.running import ray_executor as ray_tune
from nas.running.budget import End
from nas.running.coordinator import Coordinator
from nas.running.events import Completed, Failed, Job, Measured, Reached
from nas.running.placement import place, slots_of
from nas.running.ray_connection import ray, surroundings
from nas.running.stop_control import StopControl
from nas.settings.study_file import StudyFile
from nas.study.leases import join
from nas.study.store import Store, sqlite_url
from tests.running.mortal import FullDatabase
from tests.running.tables import cheap, loss, settings

# Ray closes its own sockets and files when its processes end, not when Python looks.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.waits,
    pytest.mark.usefixtures("ray_in_this_process"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


def search(folder: Path, file: StudyFile, factory, budget: int, **resources: float) -> tuple[Coordinator, list]:
    store = Store.create(sqlite_url(folder), file.name, file.objective_list())
    coordinator = Coordinator(join(store.database, file.name, budget), file, prefetch=True)
    ray_tune.run(coordinator, factory, StopControl(folder), place(file, **resources))
    coordinator.close()
    rows = store.rows()
    store.close()
    return coordinator, rows


class Mishaps:
    """A trial among three at once on two GPUs. One dies with its worker at the first attempt; one fails."""

    def __init__(self, job: Job, slots: Path):
        self.job, self.slots, self.told = job, slots, False
        (slots / f"{job.slot}-{os.environ['CUDA_VISIBLE_DEVICES']}").touch()

    def step(self):
        architecture = Architecture.model_validate(dict(self.job.architecture))
        if not self.told:
            self.told = True
            return Measured(cheap(architecture))
        while len({path.name.split("-")[0] for path in self.slots.iterdir()}) < 3:
            time.sleep(0.1)  # for the others to start; the test's own time limit ends it if they never do
        if self.job.number == 1 and self.job.attempt == 1:
            os._exit(1)
        if self.job.number == 2:
            return Failed("nan", "planted")
        value = loss(architecture, 200)
        return Completed(Rung(200, 20.0, {"val_loss": value}), {"val_loss": value})


def test_trials_share_gpus_and_failures_dying_workers_and_limits_leave_exactly_the_budget_trained(tmp_path):
    (tmp_path / "slots").mkdir()
    file = settings('resources.device="cpu"', "resources.gpus_per_trial=0.5", "constraints.0.max=20")
    factory = partial(Mishaps, slots=tmp_path / "slots")
    coordinator, rows = search(tmp_path, file, factory, budget=6, cpus=3, gpus=2)
    assert coordinator.end is End.BUDGET
    states = [row.state.name for row in rows]
    assert states.count("COMPLETE") == 6
    assert (states[2], rows[2].user_attrs["reason"]) == ("FAIL", "nan")
    assert (rows[1].user_attrs["attempt"], rows[1].user_attrs["crashes"]) == (2, 1)
    assert set(states) <= {"COMPLETE", "FAIL", "PRUNED"}
    told = [path.name.split("-") for path in (tmp_path / "slots").iterdir()]
    assert {slot for slot, _ in told} == set("012")
    assert {gpu for _, gpu in told} == set("01")


class Endless:
    """Reaches one rung after another, and never looks whether it is to stop."""

    def __init__(self, job: Job):
        self.job, self.steps = job, itertools.count()

    def step(self):
        step = next(self.steps)
        metrics = cheap(Architecture.model_validate(dict(self.job.architecture)))
        return Reached(Rung(step, float(step), {"val_loss": 3.0})) if step else Measured(metrics)


def test_a_full_disk_ends_the_search_with_every_row_to_be_claimed_again(tmp_path):
    """As any error does that is raised where the coordinator takes a report."""
    file = settings("constraints.0.max=100")
    store = Store.create(sqlite_url(tmp_path), file.name, file.objective_list())
    leases = join(store.database, file.name, 4)
    leases.jobs.database = full = FullDatabase(sqlite_url(tmp_path))
    full.left = 6
    coordinator = Coordinator(leases, file, prefetch=True)
    # A folder that cannot hold the request to stop, as on a full disk.
    with pytest.raises(OutOfReach):
        ray_tune.run(coordinator, Endless, StopControl(tmp_path / "absent"), place(file, cpus=2))
    coordinator.close()
    assert not coordinator.running
    again = Coordinator(join(store.database, file.name, 4, grace=0.0), file)
    assert [again.next_job().number for _ in range(2)] == [0, 1]
    again.close()
    full.close()
    store.close()


def test_what_ray_tells_of_dead_nodes_stays_off_standard_output(capsys):
    """Lines of JSON may be read there. tests/running/test_ray_cluster.py kills a node for real."""
    told, printer = {"lines": ["a node was marked dead"], "pid": "raylet", "is_err": False}, ray._private.worker
    former = printer.print_to_stdstream
    with surroundings(1):
        printer.print_to_stdstream(told, ignore_prefix=False)
    assert not capsys.readouterr().out
    assert printer.print_to_stdstream is former


@pytest.mark.parametrize(
    ("cpus", "gpus", "cpus_per_trial", "gpus_per_trial", "slots"),
    [(2, 0, 1, 0, 2), (8, 4, 1, 0.5, 8), (8, 1, 1, 0.3, 3), (3, 4, 1, 0.5, 3), (8, 4, 1, 2, 2), (1, 0, 2, 0, 0)],
)
def test_slots(cpus, gpus, cpus_per_trial, gpus_per_trial, slots):
    assert slots_of(cpus, gpus, cpus_per_trial, gpus_per_trial) == slots
