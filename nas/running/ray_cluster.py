"""Joins a Ray cluster that others have started: `--ray-address`.

Each node first describes itself in a task of its own; only nodes that fit the study get trials. A thread then watches:
nodes that join are asked and used, nodes that are gone get nothing more. Each search keeps a small actor in the
cluster, which ends with it: its name is the search's claim (nas.running.cluster_nodes), and it tells workers on other
machines to stop.
"""

import logging
import platform
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from nas.errors import OutOfReach, UsageError
from nas.running.cluster_nodes import (
    Claim,
    Node,
    device_of,
    node_event,
    of_kind,
    places,
    refuse_second,
    refused,
)
from nas.running.departures import LeavingNodes
from nas.running.events import Observer, waiting
from nas.running.helper_processes import HelperProcesses
from nas.running.placement import Placement, rank_devices
from nas.running.ray_connection import (
    OTHER_CLUSTERS,
    SECRETS,
    SETTINGS,
    first_line,
    leave_ray,
    ray,
    refuse_running,
    surroundings,
)
from nas.running.ray_tasks import ask_for_description, claim_actor, description_of, draining_nodes, living_nodes
from nas.settings.study_file import StudyFile
from nas.surroundings import shielded, without_variables

log = logging.getLogger("nas")

NAMESPACE = "nas"
PENDING = 10_000
CONNECT_SECONDS, DESCRIBING_SECONDS = 5.0, 120.0
LOOK_SECONDS, CLAIM_SECONDS = 1.0, 5.0
SILENCE_SECONDS = 60.0
"""The longest time without an answer of the cluster, after which the search ends."""
ALIVE_SECONDS, DECLARED_SECONDS = 5.0, 45.0
"""A node is not the cause of a worker's death when its raylet still answers after the first, or when the cluster, which
takes 13 s as a rule, has not declared it dead after the second."""
STOP_SECONDS = 1.0
TOKENS = (
    "a cluster with token authentication refuses whoever has another token, without saying so:\n"
    "put its token into RAY_AUTH_TOKEN_PATH (a file) or ~/.ray/auth_token, and set RAY_AUTH_MODE=token"
)
JOIN = "this machine must be a node of the cluster: ray start --address=HOST:PORT"


@contextmanager
def joined(
    address: str, file: StudyFile, cpus: float | None, gpus: float | None, observer: Observer
) -> Iterator[Placement]:
    """Joins the cluster at this address ("auto": the one of this machine), and leaves it at the end.

    Raises OutOfReach when it cannot be joined or no node can run trials, Conflict when another search leaves no room,
    and UsageError when no node has the hardware that the study names.
    """
    refuse_running()
    with surroundings(PENDING):
        helpers = HelperProcesses(Path(ray.__file__).parent)
        try:
            observer(waiting("ray"))
            _connect(address)
            cluster = Cluster(file, cpus, gpus)
            cluster.choose(observer)
            yield cluster.placement()
        finally:
            leave_ray(helpers)


def _connect(address: str) -> None:
    if "://" in address:
        text = f"'{address}' is the address of a Ray client, through which Ray Tune cannot be driven"
        raise UsageError(text, code="ray-address", where="--ray-address", help=f"give HOST:PORT or auto\n{JOIN}")
    _refuse_silent(address)
    others = (*OTHER_CLUSTERS[1:], *SECRETS) if address == "auto" else (*OTHER_CLUSTERS, *SECRETS)
    try:
        with shielded(), without_variables(others):
            ray.init(
                address=address,
                namespace=NAMESPACE,
                log_to_driver=False,
                configure_logging=False,
                runtime_env={"env_vars": SETTINGS},
            )
    except Exception as error:  # Ray raises every class here, Exception itself included
        raise OutOfReach(
            f"no Ray cluster could be joined at '{address}': {first_line(error)}",
            code="ray",
            where="--ray-address",
            help=f"{JOIN}\n{TOKENS}",
        ) from error


def _refuse_silent(address: str) -> None:
    """Raises UsageError for what is no address, and OutOfReach at once where nothing listens: Ray waits for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        text = f"expected HOST:PORT or auto, got '{address}'"
        raise UsageError(text, code="ray-address", where="--ray-address", help="ray start prints the address")
    if not _answers((host.strip("[]"), int(port)), CONNECT_SECONDS):
        text = f"nothing answers at '{address}' within {CONNECT_SECONDS:g} s"
        raise OutOfReach(text, code="ray", where="--ray-address", help="ray status   tells whether a cluster runs")


def _answers(address: tuple[str, int], seconds: float) -> bool:
    try:
        with socket.create_connection(address, timeout=seconds):
            return True
    except (OSError, OverflowError):
        return False


class Cluster:
    """Keeps the nodes that serve one search. `choose` fills it; `watch` keeps it up to date in a thread."""

    def __init__(self, file: StudyFile, cpus: float | None, gpus: float | None) -> None:
        living = of_kind(living_nodes(), file.resources.hardware)
        self.file, self.device = file, device_of(file, living, gpus)
        if not file.trial:
            rank_devices(file, self.device)
        share = file.resources.gpus_per_trial if sum(node.gpus for node in living) else 0.0
        driver = f"{platform.node()}:{psutil.Process().pid}"
        kind = file.resources.hardware or ""
        self._claims = _claims()
        # Clocks of machines differ, and the order of claims has to be that in which they were made.
        since = max([time.time(), *(claim.since + 1 for claim in self._claims)])
        self.mine = Claim(since, driver, file.resources.cpus_per_trial, share, cpus, gpus, kind)
        self.claim = claim_actor(self.mine.name)
        ray.get(self.claim.is_stopped.remote(), timeout=DESCRIBING_SECONDS)
        self._claims = _claims()
        refuse_second(living, self._claims, self.mine)
        self.environment: Mapping[str, Any] = {}
        self.nodes: dict[str, Node] = {}
        """The nodes that get trials, by their ids, in the order in which they came."""
        self.changes: list[dict[str, Any]] = []
        """These events about nodes have not been taken yet."""
        self._asked: dict[str, tuple[Node, Any]] = {}
        self._refused: set[str] = set()
        self._living = {node.id: node for node in living}
        self._places: dict[str, int] = {}
        self._leaving = LeavingNodes()
        self._home = ray.get_runtime_context().get_node_id()
        self._heard = self._home_seen = time.monotonic()
        self._told_to_stop = 0.0
        self._ended = threading.Event()

    def choose(self, observer: Observer) -> None:
        """Waits until the nodes have described themselves, and keeps those that fit the study.

        The nodes' own hardware counts, that of this machine where it is one of them; see nas.running.cluster_nodes.
        """
        self._ask()
        observer(waiting("nodes"))
        ray.wait(
            [answer for _, answer in self._asked.values()], num_returns=len(self._asked), timeout=DESCRIBING_SECONDS
        )
        self._hear(first=True)
        if not self.nodes:
            told = "\n".join(f"{event['host']}: {event['why']}" for event in self.changes) or "no node has answered"
            help = "each node needs the same nas: pip install, or a folder that all see on PYTHONPATH"
            raise OutOfReach("no node of the cluster can run trials", code="ray", detail=told, help=help)
        self._count()

    def placement(self) -> Placement:
        cpus, gpus = (sum(getattr(node, name) for node in self.nodes.values()) for name in ("cpus", "gpus"))
        return Placement(self.device, cpus, gpus, sum(self._places.values()), self)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watches the nodes in a thread meanwhile."""
        self._heard = self._home_seen = time.monotonic()
        watch = threading.Thread(target=self._watch, name="nas-watches-nodes", daemon=True)
        watch.start()
        try:
            yield
        finally:
            self._ended.set()
            watch.join(LOOK_SECONDS)

    def free(self, used: Mapping[str, int]) -> str | None:
        """Returns a node that takes one more trial, where `used` counts those that run; None when there is none."""
        if sum(used.values()) >= sum(self._places.values()):
            return None
        staying = (node for node in [*self.nodes] if node not in self._leaving)
        return next((node for node in staying if used.get(node, 0) < self._places.get(node, 0)), None)

    def departs(self, node: str) -> None:
        """Takes in that a worker of the node was told to end, so that the node may soon be gone."""
        if self._leaving.told(node) and node in self.nodes:
            self._tell(self.nodes[node], "leaving", "a worker was told to end")

    def hardware(self, node: str) -> str:
        """Identifies the hardware of a node that gets trials; empty for one that is gone."""
        found = self.nodes.get(node)
        return found.hardware if found else ""

    def is_gone(self, node: str, since: float) -> bool | None:
        """Tells whether a node has died, of which a worker was lost at that monotonic time. None: not known yet."""
        found, waited = self._living.get(node), time.monotonic() - since
        if found is None or node in self._leaving:
            return True
        if waited < ALIVE_SECONDS:
            return None
        return False if waited >= DECLARED_SECONDS or _answers(found.address, 0.5) else None

    def has_left(self, node: str) -> bool:
        """Tells whether the node is dead, or being drained: no worker starts there any more."""
        return node not in self._living or node in self._leaving.draining

    def fault(self) -> str:
        """Says what is wrong with the cluster as a whole; empty when nothing is."""
        now = time.monotonic()
        if now - self._heard > SILENCE_SECONDS:
            return f"the Ray cluster has not answered for {SILENCE_SECONDS:g} s"
        if now - self._home_seen > 2 * ALIVE_SECONDS:
            return "the Ray node of this machine has ended"
        return ""

    def stop_workers(self) -> None:
        """Tells workers on all machines to save and stop, once a second while it is called."""
        if time.monotonic() - self._told_to_stop < STOP_SECONDS:
            return
        self._told_to_stop = time.monotonic()
        with suppress(ray.exceptions.RayError):
            self.claim.stop.remote()

    def _watch(self) -> None:
        claims_read = time.monotonic()
        while not self._ended.wait(LOOK_SECONDS):
            try:
                kind = self.file.resources.hardware
                living = {node.id: node for node in living_nodes()}
                self._heard = time.monotonic()
                if self._home in living:
                    self._home_seen = self._heard
                self._living = {id: node for id, node in living.items() if kind is None or node.kind == kind}
                self._drop()
                self._drain(draining_nodes())
                self._ask()
                self._hear()
                if time.monotonic() - claims_read > CLAIM_SECONDS:
                    claims_read = time.monotonic()
                    self._claims = _claims()
                self._count()
            except Exception:  # Ray raises every class here; `fault` tells when it has been silent for too long
                log.debug("the cluster does not answer", exc_info=True)

    def _drop(self) -> None:
        for node in [node for node in self.nodes.values() if node.id not in self._living]:
            self.nodes = {id: other for id, other in self.nodes.items() if id != node.id}
            self._tell(node, "left", "")
        self._asked = {id: asked for id, asked in self._asked.items() if id in self._living}

    def _drain(self, draining: list[str]) -> None:
        """Has trials leave nodes that are about to end."""
        for id in self._leaving.drained(draining):
            if id in self.nodes:
                self._tell(self.nodes[id], "leaving", "the cluster drains it")
        if draining:
            self.claim.leave.remote(draining)

    def _ask(self) -> None:
        for node in self._living.values():
            if node.id not in self._asked and node.id not in self.nodes and node.id not in self._refused:
                self._asked[node.id] = (node, ask_for_description(node.id))

    def _hear(self, first: bool = False) -> None:
        """Takes in the answers that are there. The first ones decide on which hardware the study is measured."""
        answered: list[Node] = []
        for id, (node, answer) in list(self._asked.items()):
            if ray.wait([answer], timeout=0)[0]:
                del self._asked[id]
                answered.append(replace(node, environment=description_of(answer)))
        if first:
            sound = [node for node in answered if "fault" not in node.environment]
            sound.sort(key=lambda node: node.id != self._home)
            self.environment = sound[0].environment if sound else {}
        for node in answered:
            if why := refused(self.file, node, self.environment, self.device):
                self._refused.add(node.id)
                self._tell(node, "refused", why)
            else:
                self.nodes = {**self.nodes, node.id: node}
                self._tell(node, "joined", "")

    def _tell(self, node: Node, state: str, why: str) -> None:
        self.changes.append(node_event(node, state, why))

    def _count(self) -> None:
        self._places = places(self.nodes.values(), self._claims, self.mine)


def _claims() -> list[Claim]:
    named = ray.util.list_named_actors(all_namespaces=True)
    found = [Claim.of_name(actor["name"]) for actor in named if actor["namespace"] == NAMESPACE]
    return [claim for claim in found if claim]
