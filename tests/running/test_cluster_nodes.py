"""Which nodes of a cluster serve a study, and how several searches share them. No Ray is started."""

import pytest

from nas.errors import Conflict, OutOfReach, UsageError
from nas.measure import environment, hardware_id
from nas.running.cluster_nodes import LABEL, Claim, Node, device_of, node_of, of_kind, places, refuse_second, refused
from nas.running.placed import placed
from tests.running.tables import settings


def node(name: str, cpus: float = 2, gpus: float = 0, kind: str = "", **described) -> Node:
    return Node(name, f"host-{name}", cpus, gpus, kind, environment={**environment(), **described})


def claim(
    since: float, cpus: float | None = None, gpus: float | None = None, kind: str = "", share: float = 0
) -> Claim:
    return Claim(since, f"host:{since:g}", 1.0, share, cpus, gpus, kind)


def test_an_entry_of_ray_becomes_a_node():
    entry = {
        "NodeID": "ab12",
        "NodeManagerHostname": "host",
        "NodeManagerAddress": "10.0.0.1",
        "NodeManagerPort": 4321,
        "Resources": {"CPU": 4.0, "GPU": 2.0, "memory": 1e9},
        "Labels": {LABEL: "a10", "ray.io/node-id": "ab12"},
    }
    assert node_of(entry) == Node("ab12", "host", 4.0, 2.0, "a10", ("10.0.0.1", 4321))
    assert node_of(entry | {"Resources": {}, "Labels": {}}).kind == ""


def test_hardware_that_no_node_has_is_refused_with_the_kinds_that_there_are():
    nodes = [node("a", kind="a10"), node("b", kind="h100"), node("c", kind="h100"), node("d")]
    assert [found.id for found in of_kind(nodes, "h100")] == ["b", "c"]
    assert of_kind(nodes, None) == nodes
    with pytest.raises(UsageError) as error:
        of_kind(nodes, "h200")
    assert "'h200'" in str(error.value)
    assert "without a label (1), a10 (1), h100 (2)" in error.value.detail
    assert "--labels=nas.hardware=h200" in error.value.help


def test_a_search_by_itself_has_every_place_and_no_trial_spans_two_nodes():
    nodes = [node("a", cpus=3), node("b", cpus=1, gpus=1), node("c", cpus=0)]
    assert places(nodes, (), claim(1)) == {"a": 3, "b": 1}
    assert places(nodes, (), claim(1, share=0.5)) == {"b": 1}
    two = Claim(1, "host:1", 2.0, 0.0)
    assert places(nodes, (), two) == {"a": 1}  # 4 CPUs in all, but only one node has 2 at once
    assert places(nodes, (), claim(1, cpus=2)) == {"a": 2}


def test_searches_get_places_in_the_order_of_their_claims_and_never_the_same():
    nodes = [node("a"), node("b"), node("c")]
    claims = [claim(1, cpus=3), claim(2, cpus=2), claim(3, cpus=2)]
    assert [places(nodes, claims, mine) for mine in claims] == [{"a": 2, "b": 1}, {"b": 1, "c": 1}, {"c": 1}]
    assert places(nodes, claims[1:], claims[1]) == {"a": 2}  # the first has ended
    kinds = [node("a", kind="slow"), node("b", kind="fast")]
    assert places(kinds, [claim(1, kind="slow")], claim(2, kind="fast")) == {"b": 2}


def test_a_second_search_is_refused_unless_both_say_what_they_take():
    nodes = [node("a"), node("b")]
    refuse_second(nodes, [claim(1)], claim(1))  # its own claim
    refuse_second(nodes, [claim(1, cpus=2)], claim(2, cpus=2))
    refuse_second(nodes, [claim(2)], claim(1))  # the later one is refused, not both
    refuse_second([*nodes, node("c", kind="fast")], [claim(1, kind="slow")], claim(2, kind="fast"))
    for first, second in (
        (claim(1), claim(2, cpus=1)),
        (claim(1, cpus=1), claim(2)),
        (claim(1, cpus=3), claim(2, cpus=2)),
        (claim(1, cpus=4), claim(2, cpus=1)),
    ):
        with pytest.raises(Conflict) as error:
            refuse_second(nodes, [first], second)
        assert error.value.exit_code == 4
        assert "host:1 takes" in error.value.detail
        assert "--cpus" in error.value.help


def test_a_node_without_room_for_any_trial_is_named():
    with pytest.raises(UsageError, match="no node of the cluster has room"):
        refuse_second([node("a", cpus=2), node("b", cpus=2)], [], Claim(1, "host:1", 4.0, 0.0))


def test_a_claim_is_read_back_from_its_name_and_other_names_are_no_claims():
    for mine in (claim(1.25), claim(2, cpus=2, gpus=0.5, kind="a10", share=0.25)):
        assert Claim.of_name(mine.name) == mine
    for name in ("", "somebody else's actor", "a|b|c|d|e|f|g", "1|host|0|0|||", "1|host|1"):
        assert Claim.of_name(name) is None


def test_trials_use_gpus_where_the_nodes_have_any():
    auto, cpu = settings(), settings('resources.device="cpu"')
    assert device_of(auto, [node("a")], None) == "cpu"
    assert device_of(auto, [node("a"), node("b", gpus=1)], None) == "cuda"
    assert device_of(cpu, [node("b", gpus=1)], None) == "cpu"
    with pytest.raises(UsageError, match="no node for this study has a GPU"):
        device_of(settings('resources.device="cuda"'), [node("a")], None)
    with pytest.raises(UsageError, match="--gpus 1"):
        device_of(auto, [node("a")], 1)


def test_a_node_on_which_times_would_be_others_gets_no_trials_where_a_time_is_judged():
    timed, here = settings(), environment()
    exact = settings('objectives=[{metric="val_loss"},{metric="params"}]', "constraints=[]")
    other = node("b", cpu="another processor")
    assert other.hardware != hardware_id(here)
    assert refused(timed, node("a"), here, "cpu") == ""
    assert "decode_ms_per_token is measured on other hardware" in refused(timed, other, here, "cpu")
    assert refused(exact, other, here, "cpu") == ""


def test_a_node_that_cannot_run_a_trial_as_the_others_do_gets_none():
    here = environment()
    assert refused(settings(), node("a", fault="No module named 'nas'"), here, "cpu") == "No module named 'nas'"
    assert "the others have" in refused(settings(), node("a", versions={"nas": "0.0.1"}), here, "cpu")
    assert refused(settings(), node("a", gpus=[]), here, "cuda") == "it has no GPU"
    assert "measure.threads = 999" in refused(settings("measure.threads=999"), node("a"), here, "cpu")


def test_hardware_named_without_a_cluster_is_refused():
    with pytest.raises(UsageError, match="names nodes of a Ray cluster"):
        placed(settings('resources.hardware="a10"'), None, None, None, print)


@pytest.mark.parametrize("address", ["somewhere", ":6379", "host:", "host:port"])
def test_what_is_no_address_is_refused_before_ray_waits_for_it(address):
    with pytest.raises(UsageError, match="expected HOST:PORT or auto"), placed(settings(), None, None, address, print):
        pass


def test_an_address_at_which_nothing_answers_is_out_of_reach_at_once():
    with pytest.raises(OutOfReach) as error, placed(settings(), None, None, "127.0.0.1:1", print):
        pass
    assert error.value.exit_code == 5
    assert "nothing answers at '127.0.0.1:1'" in str(error.value)


def test_a_ray_client_is_refused():
    with pytest.raises(UsageError, match="Ray client"), placed(settings(), None, None, "ray://host:10001", print):
        pass
