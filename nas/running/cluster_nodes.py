"""Decides where on a cluster trials run: which nodes serve a study, and how many trials each of them takes.

A trial never spans two nodes, so every place for a trial belongs to a node. Several searches may share a cluster: each
claims a part, and the claims get their places in the order in which they were made. Two searches would wait for each
other's workers otherwise.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nas.errors import Conflict, UsageError
from nas.measure import hardware_id
from nas.running.placement import slots_of
from nas.settings.study_file import StudyFile

LABEL = "nas.hardware"
"""The label of a node that names its kind of hardware: `ray start --labels=nas.hardware=KIND`."""
SEPARATOR = "|"


@dataclass(frozen=True)
class Node:
    """Describes a living node of a cluster."""

    id: str
    host: str
    cpus: float
    gpus: float
    kind: str = ""
    """The value of its label `nas.hardware`; empty where it has none."""
    address: tuple[str, int] = ("", 0)
    """The address and port at which its raylet answers."""
    environment: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """The description of its hardware and versions, once it has given it."""

    @property
    def hardware(self) -> str:
        """Identifies the hardware, as nas.measure.hardware_id does."""
        return hardware_id(self.environment)


def node_of(entry: Mapping[str, Any]) -> Node:
    """Reads an entry of `ray.nodes()`."""
    resources, labels = entry.get("Resources", {}), entry.get("Labels") or {}
    return Node(
        id=str(entry["NodeID"]),
        host=str(entry.get("NodeManagerHostname", "")),
        cpus=float(resources.get("CPU", 0)),
        gpus=float(resources.get("GPU", 0)),
        kind=str(labels.get(LABEL, "")),
        address=(str(entry.get("NodeManagerAddress", "")), int(entry.get("NodeManagerPort", 0))),
    )


def of_kind(nodes: Sequence[Node], kind: str | None) -> list[Node]:
    """Returns the nodes on which a study with `resources.hardware = kind` may run.

    Raises UsageError, which names the kinds that there are, when no node has that kind.
    """
    if kind is None:
        return list(nodes)
    found = [node for node in nodes if node.kind == kind]
    if not found:
        kinds = Counter(node.kind for node in nodes)
        told = ", ".join(f"{name or 'without a label'} ({count})" for name, count in sorted(kinds.items()))
        raise UsageError(
            f"no node of the cluster has the hardware '{kind}'",
            code="no-hardware",
            where="resources.hardware",
            detail=f"the cluster's nodes by {LABEL}: {told or 'none'}",
            help=f"ray start --address=... --labels={LABEL}={kind}   gives a node its kind when it joins",
        )
    return found


@dataclass(frozen=True)
class Claim:
    """Tells what a search takes of a cluster. Its text is the name under which the cluster knows it."""

    since: float
    driver: str
    """HOST:PID of the driver."""
    cpus_per_trial: float
    gpus_per_trial: float
    cpus: float | None = None
    """The CPUs that it may use in all; None takes whatever there is."""
    gpus: float | None = None
    kind: str = ""
    """The only kind of hardware that it uses; empty for any."""

    @property
    def name(self) -> str:
        parts = (self.since, self.driver, self.cpus_per_trial, self.gpus_per_trial, self.cpus, self.gpus, self.kind)
        return SEPARATOR.join(["" if part is None else str(part) for part in parts])

    @property
    def takes_all(self) -> bool:
        return self.cpus is None and (self.gpus is None or not self.gpus_per_trial)

    @property
    def order(self) -> tuple[float, str]:
        return self.since, self.driver

    @classmethod
    def of_name(cls, name: str) -> "Claim | None":
        """Reads a claim from its name; None for a name that is no claim."""
        parts = name.split(SEPARATOR)
        if len(parts) != 7:
            return None
        try:
            since, cpu, gpu = float(parts[0]), float(parts[2]), float(parts[3])
            cpus, gpus = (float(part) if part else None for part in parts[4:6])
        except ValueError:
            return None
        return cls(since, parts[1], cpu, gpu, cpus, gpus, parts[6]) if cpu > 0 and gpu >= 0 else None

    def uses(self, node: Node) -> bool:
        return self.kind in ("", node.kind)

    def meets(self, other: "Claim") -> bool:
        """Tells whether both may want the same node."""
        return not self.kind or not other.kind or self.kind == other.kind

    def most(self, cpus: float, gpus: float) -> int:
        """Counts the trials for which so many CPUs and GPUs suffice."""
        return slots_of(cpus, gpus, self.cpus_per_trial, self.gpus_per_trial)


def places(nodes: Iterable[Node], claims: Iterable[Claim], mine: Claim) -> dict[str, int]:
    """Returns how many trials of `mine` each node takes, after all earlier claims have got theirs.

    Every driver computes the same from the same claims and nodes, so no two use one place.
    """
    nodes = sorted(nodes, key=lambda node: node.id)
    left = {node.id: (node.cpus, node.gpus) for node in nodes}
    earlier = [claim for claim in claims if claim.order < mine.order]
    found: dict[str, int] = {}
    for claim in [*sorted(earlier, key=lambda claim: claim.order), mine]:
        found = _taken([node.id for node in nodes if claim.uses(node)], left, claim)
    return {node: count for node, count in found.items() if count}


def _taken(nodes: Sequence[str], left: dict[str, tuple[float, float]], claim: Claim) -> dict[str, int]:
    """Gives a claim its places, node by node, and takes them from what is left."""
    cpus, gpus = (math.inf if limit is None else limit for limit in (claim.cpus, claim.gpus))
    found: dict[str, int] = {}
    for node in nodes:
        free_cpus, free_gpus = left[node]
        count = claim.most(min(free_cpus, cpus), min(free_gpus, gpus))
        used = (count * claim.cpus_per_trial, count * claim.gpus_per_trial)
        cpus, gpus = cpus - used[0], gpus - used[1]
        left[node] = (free_cpus - used[0], free_gpus - used[1])
        found[node] = count
    return found


def refuse_second(nodes: Sequence[Node], claims: Iterable[Claim], mine: Claim) -> None:
    """Raises Conflict where an earlier search leaves no room for this one, and UsageError where no node has any.

    A search that names no `--cpus` (or `--gpus`) takes all, and shares with none.
    """
    earlier = [claim for claim in claims if claim.order < mine.order and claim.meets(mine)]
    cpus, gpus = (sum(getattr(node, name) for node in nodes) for name in ("cpus", "gpus"))
    having = f"the nodes for this study have {cpus:g} CPUs and {gpus:g} GPUs"
    if not earlier:
        if not places(nodes, (), mine):
            text = f"a trial takes {mine.cpus_per_trial:g} CPUs and {mine.gpus_per_trial:g} GPUs of one node"
            help = "lower resources.cpus_per_trial or resources.gpus_per_trial"
            raise UsageError(
                "no node of the cluster has room for a trial",
                code="no-slot",
                where="resources",
                detail=f"{text}\n{having}",
                help=help,
            )
        return
    shares = not mine.takes_all and not any(claim.takes_all for claim in earlier)
    if shares and sum(places(nodes, earlier, mine).values()) >= _wanted(nodes, mine):
        return
    taken = "\n".join(f"{claim.driver} takes {_told(claim)}" for claim in sorted(earlier, key=lambda c: c.order))
    raise Conflict(
        "another search runs on this cluster and leaves no room for this one",
        code="cluster-in-use",
        detail=f"{having}\n{taken}",
        help="give each search its share: --cpus N, with GPUs --gpus N, from the first one on",
    )


def _wanted(nodes: Sequence[Node], claim: Claim) -> int:
    """Counts the trials that a claim gets where it is alone; at least one, since a search needs a place."""
    return max(1, sum(places(nodes, (), claim).values()))


def _told(claim: Claim) -> str:
    if claim.takes_all:
        return "all of it"
    parts = [f"{claim.cpus:g} CPUs"] if claim.cpus is not None else []
    parts += [f"{claim.gpus:g} GPUs"] if claim.gpus is not None and claim.gpus_per_trial else []
    return " and ".join(parts)


def device_of(file: StudyFile, nodes: Sequence[Node], gpus: float | None) -> str:
    """Returns "cpu" or "cuda", the device of all trials. Raises UsageError when GPUs are requested and no node has any.

    With `device = "cpu"`, the GPUs that nodes count are logical slots, as on one machine.
    """
    wanted, present = file.resources.device, sum(node.gpus for node in nodes)
    if wanted == "cpu":
        return "cpu"
    if not present and (gpus or wanted == "cuda"):
        asked = f"--gpus {gpus:g}" if gpus else 'resources.device = "cuda"'
        help = 'leave it out, or set resources.device = "cpu" to count GPUs as logical slots'
        raise UsageError(f"{asked}, but no node for this study has a GPU", code="no-gpu", help=help)
    return "cuda" if present else "cpu"


def refused(file: StudyFile, node: Node, known: Mapping[str, Any], device: str) -> str:
    """Says why a node that has described itself gets no trials; empty when it does.

    `known` describes the hardware on which the study's trials are measured. It counts where the study judges by a time.
    """
    if fault := node.environment.get("fault"):
        return str(fault)
    here, there = (side.get("versions", {}).get("nas") for side in (known, node.environment))
    if here != there:
        return f"it has nas {there}, and the others have {here}"
    if device == "cuda" and not node.environment.get("gpus"):
        return "it has no GPU"
    cores = node.environment.get("logical_cores", 1)
    if file.measure.threads > cores:
        return f"it has {cores} cores, and measure.threads = {file.measure.threads}"
    timed = [wanted.metric for wanted in file.judged() if not wanted.means.exact]
    if timed and node.hardware != hardware_id(known):
        cpu = node.environment.get("cpu")
        return f"{timed[0]} is measured on other hardware than it has: {cpu}, {cores} cores"
    return ""


def node_event(node: Node, state: str, why: str = "") -> dict[str, Any]:
    """Returns the event that tells observers what has happened to a node: it joined, left, or is refused."""
    return {"type": "node", "host": node.host, "kind": node.kind, "state": state, "why": why}
