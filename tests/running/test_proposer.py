"""Proposals over the rows of a study: what they learn from, and that rows taken in anew give the same ones."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.architecture import Architecture
from nas.measure.costs import Costs
from nas.results import Constraint, Objective, Rung
from nas.running.proposer import Proposal, Proposer, grouped_tpe
from nas.samplers import study_model
from nas.space.architecture_space import Space
from tests.running.tables import RUNGS, Launcher, cheap, loss, settings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_proposals")]
OBJECTIVES = (Objective("val_loss", "min"), Objective("decode_ms_per_token", "min"))
BEGIN = datetime(2026, 1, 1)


def proposer(sampler: str = "pareto", *overrides: str, **options: Any) -> Proposer:
    file = settings(*overrides)
    return Proposer(Space(file.spaces()), options.pop("objectives", OBJECTIVES), sampler, 0, steps=200, **options)


class Rows:
    """A study's rows, as the database would hold them, made by a proposer that is told of everything as it happens."""

    def __init__(self, proposer: Proposer) -> None:
        self.proposer = proposer
        self.rows: dict[int, FrozenTrial] = {}
        self.taken: set[str] = set()

    def start(self) -> tuple[int, Proposal]:
        number = len(self.rows)
        proposal = self.proposer.propose(number, frozenset(self.taken))
        assert proposal is not None
        assert proposal.key not in self.taken
        self.taken.add(proposal.key)
        self.proposer.adopt(number, proposal)
        self.rows[number] = create_trial(
            state=TrialState.RUNNING, params=dict(proposal.params), distributions=dict(proposal.distributions)
        )
        self.rows[number].number = number
        return number, proposal

    def measure(self, number: int, architecture: Architecture) -> dict[str, float]:
        metrics = cheap(architecture)
        self.proposer.measured(number, metrics)
        self.rows[number].user_attrs["metrics"] = metrics
        return metrics

    def train(self, number: int, architecture: Architecture, rungs: Sequence[int] = RUNGS) -> None:
        for step in rungs:
            told = {"step": step, "seconds": step / 10, "metrics": {"val_loss": loss(architecture, step)}}
            self.proposer.reached(number, Rung(**told))
            self.rows[number].user_attrs.setdefault("rungs", []).append(told)

    def end(self, number: int, architecture: Architecture, state: TrialState = TrialState.COMPLETE) -> None:
        values = [loss(architecture, RUNGS[-1]), cheap(architecture)["decode_ms_per_token"]]
        told = values if state is TrialState.COMPLETE else None
        self.proposer.finished(number, state, told, {"weights_mib": -1.0})
        row = self.rows[number]
        row.state, row.values = state, told
        row.set_constraint("weights_mib", -1.0)
        row.datetime_complete = BEGIN + timedelta(seconds=sum(row.state.is_finished() for row in self.rows.values()))

    def run(self, count: int) -> list[Proposal]:
        """Every fourth trial stops at its first rung, every seventh fails."""
        proposals = []
        for _ in range(count):
            number, proposal = self.start()
            proposals.append(proposal)
            self.measure(number, proposal.architecture)
            stopped, failed = number % 4 == 3, number % 7 == 5
            self.train(number, proposal.architecture, RUNGS[:1] if stopped or failed else RUNGS)
            state = TrialState.FAIL if failed else TrialState.PRUNED if stopped else TrialState.COMPLETE
            self.end(number, proposal.architecture, state)
        return proposals


def next_of(proposer: Proposer, number: int, taken: set[str]) -> dict[str, Any]:
    proposal = proposer.propose(number, frozenset(taken))
    assert proposal is not None
    return dict(proposal.params)


@pytest.mark.parametrize("sampler", ["pareto", "tpe", "nsga2", "gp", "random"])
def test_every_sampler_proposes_new_architectures(sampler):
    rows = Rows(proposer(sampler))
    assert len({proposal.key for proposal in rows.run(14)}) == 14


@pytest.mark.parametrize("describe", [None, Costs(65, 64).metrics], ids=["undescribed", "described"])
def test_rows_taken_in_anew_give_the_same_proposals(describe):
    options = {
        "describe": describe,
        "objectives": (*OBJECTIVES[:1], Objective("params", "min")) if describe else OBJECTIVES,
    }
    rows = Rows(proposer(**options))
    for count in (11, 3):
        rows.run(count)
        once, twice = proposer(**options), proposer(**options)
        for row in rows.rows.values():
            once.absorb(row)
            twice.absorb(begun(row))
        for row in rows.rows.values():
            twice.absorb(row)
        following, taken = len(rows.rows), set(rows.taken)
        expected = dict(rows.run(1)[0].params)
        assert next_of(once, following, taken) == expected
        assert next_of(twice, following, taken) == expected


def begun(row: FrozenTrial) -> FrozenTrial:
    """As it was when it was claimed."""
    began = create_trial(state=TrialState.RUNNING, params=row.params, distributions=row.distributions)
    began.number = row.number
    return began


def test_rows_that_ended_in_another_order_than_they_began_give_the_same_proposals():
    rows = Rows(proposer())
    running: list[tuple[int, Proposal]] = []
    for step in range(16):
        number, proposal = rows.start()
        running.append((number, proposal))
        rows.measure(number, proposal.architecture)
        if len(running) == 3:
            number, proposal = running.pop(step % 3)
            rows.train(number, proposal.architecture)
            rows.end(number, proposal.architecture)
    anew = proposer()
    for number in sorted(rows.rows):
        anew.absorb(rows.rows[number])
    expected = rows.start()[1]
    assert expected.predicted
    assert next_of(anew, 16, rows.taken - {expected.key}) == dict(expected.params)


def test_what_is_expected_is_told_by_the_names_of_the_objectives_once_there_is_a_model():
    proposals = Rows(proposer()).run(16)
    assert proposals[0].predicted == {}
    for proposal in proposals[-2:]:
        assert set(proposal.predicted) == {"val_loss", "decode_ms_per_token"}
        assert proposal.predicted["val_loss"] == pytest.approx(loss(proposal.architecture, RUNGS[-1]), rel=0.3)


def test_what_a_rung_told_of_one_trial_changes_what_is_expected_of_a_like_one():
    def bound(told: float | None) -> float:
        rows = Rows(proposer())
        rows.run(13)
        number, proposal = rows.start()
        metrics = rows.measure(number, proposal.architecture)
        rows.proposer.adopt(number + 1, rows.proposer.fixed(proposal.params))
        if told is not None:
            rows.proposer.reached(number, Rung(RUNGS[0], RUNGS[0] / 10, {"val_loss": told}))
        values = rows.proposer.optimistic(number + 1, metrics)
        assert values is not None
        return values[0]

    nothing = bound(None)
    # Far better and far worse than all that was seen.
    assert bound(0.01) < nothing / 2
    assert bound(9.0) > 1.3 * nothing


def test_an_optimistic_bound_comes_with_the_model_and_keeps_what_is_measured():
    rows = Rows(proposer())
    number, proposal = rows.start()
    assert rows.proposer.optimistic(number, rows.measure(number, proposal.architecture)) is None
    rows.train(number, proposal.architecture)
    rows.end(number, proposal.architecture)
    rows.run(16)
    number, proposal = rows.start()
    metrics = rows.measure(number, proposal.architecture)
    bound = rows.proposer.optimistic(number, metrics)
    assert bound is not None
    assert bound[1] == pytest.approx(metrics["decode_ms_per_token"])
    assert 0 < bound[0] < loss(proposal.architecture, RUNGS[-1])


def test_bounds_while_many_run_are_no_less_optimistic_and_are_kept_for_some_results(monkeypatch):
    rows = Rows(proposer())
    rows.run(14)
    running = [rows.start() for _ in range(study_model.MANY + 2)]
    metrics = [rows.measure(number, proposal.architecture) for number, proposal in running]

    def bounds() -> list[float]:
        found = [rows.proposer.optimistic(n, told) for (n, _), told in zip(running[-8:], metrics[-8:], strict=True)]
        return [values[0] for values in found if values]

    kept = bounds()
    rows.train(running[0][0], running[0][1].architecture)
    rows.end(running[0][0], running[0][1].architecture)
    assert bounds() == kept
    with monkeypatch.context() as patched:
        patched.setattr(study_model, "MANY", 10**9)
        each = bounds()
    assert len(kept) == len(each) == 8
    assert all(mine < 1.05 * other for mine, other in zip(kept, each, strict=True))


def outside(number: int, state: TrialState = TrialState.RUNNING, values: Sequence[float] | None = None) -> FrozenTrial:
    """The row of an architecture that the space lacks: it has no parameters."""
    row = create_trial(state=state, values=values, user_attrs={"metrics": {"decode_ms_per_token": 0.5}})
    row.number = number
    return row


@pytest.mark.parametrize("sampler", ["pareto", "tpe"])
def test_no_bound_is_told_of_a_baseline_outside_the_space_or_without_a_model(sampler):
    rows = Rows(proposer(sampler))
    rows.run(12)
    rows.proposer.absorb(outside(12))
    assert rows.proposer.optimistic(12, {"decode_ms_per_token": 0.5}) is None
    rows.rows[12] = outside(12)
    number, proposal = rows.start()
    bound = rows.proposer.optimistic(number, rows.measure(number, proposal.architecture))
    assert (bound is None) == (sampler == "tpe")


def test_a_baseline_outside_the_space_is_no_reason_to_propose_anything_odd():
    rows = Rows(proposer())
    rows.proposer.absorb(outside(0, TrialState.COMPLETE, [1.0, 0.5]))
    rows.rows[0] = outside(0)
    proposals = rows.run(14)
    for proposal in proposals[-4:]:
        assert proposal.predicted["val_loss"] == pytest.approx(loss(proposal.architecture, RUNGS[-1]), rel=0.3)


def test_a_baseline_outside_the_space_is_no_other_architecture_where_the_rate_is_searched_too(tmp_path):
    launcher = Launcher(tmp_path, settings("train.learning_rate=[0.001,0.002]", "baselines=[]"))
    coordinator = launcher.coordinator(budget=3)
    block = {"attention": {"kind": "softmax", "heads": 5}}
    number = coordinator.enqueue(Architecture(family="decoder", hidden=40, blocks=[block]), 0.001, baseline=True)
    row = launcher.rows()[number]
    assert row.params == {}
    assert row.distributions == {}
    assert row.user_attrs["learning_rate"] == 0.001


def test_the_proposal_of_given_parameters_is_that_and_is_not_proposed_again():
    rows = Rows(proposer())
    wanted = dict(rows.start()[1].params)
    other = proposer()
    fixed = other.fixed(wanted)
    assert dict(fixed.params) == wanted
    other.adopt(0, fixed)
    assert next_of(other, 1, set()) != wanted


def test_a_limit_that_is_known_before_training_is_never_passed():
    limit = Constraint("params", max=40_000)
    costs = Costs(65, 64)
    rows = Rows(proposer(constraints=(limit,), describe=costs.metrics))
    assert all(costs.metrics(proposal.architecture)["params"] <= 40_000 for proposal in rows.run(11))


def test_an_exhausted_space_has_no_proposal():
    one = ["space.hidden=[32]", "space.depth=[1]", 'space.attention=[{kind="linear",heads=[2,4]}]']
    rows = Rows(proposer("pareto", *one))
    rows.run(2)
    assert rows.proposer.propose(2, frozenset(rows.taken)) is None


def test_what_needs_no_decode_state_is_proposed_too():
    kinds = 'space.attention=[{kind="none"},{kind="softmax",heads=[1,2,4]}]'
    objectives = (OBJECTIVES[0], Objective("decode_state_kib", "min"))
    costs = Costs(65, 64).metrics
    one = proposer("pareto", kinds, "space.hidden=[32]", "space.depth=[1,2]", objectives=objectives, describe=costs)
    proposals = [one.propose(number, frozenset()) for number in range(6)]
    assert {proposal.architecture.blocks[0].attention.kind for proposal in proposals if proposal} == {"none", "softmax"}
    assert not any(proposal.redraws for proposal in proposals if proposal)


def test_learning_rates_are_chosen_with_the_architecture():
    rows = Rows(proposer(learning_rates=(0.01, 0.02)))
    proposals = rows.run(12)
    assert {proposal.learning_rate for proposal in proposals} == {0.01, 0.02}
    assert all(isinstance(p.distributions["learning_rate"], CategoricalDistribution) for p in proposals)


def test_grouped_tpe_is_optunas_own():
    """Built without the warning that Optuna gives of `group`; all that it is made of is as Optuna makes it."""
    with pytest.warns(optuna.exceptions.ExperimentalWarning, match="group"):
        theirs = vars(optuna.samplers.TPESampler(multivariate=True, group=True, seed=1))
    ours = vars(grouped_tpe(1))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        plain = isinstance(value, bool | int | float | str | None)
        assert ours[name] == value if plain else type(ours[name]) is type(value), name
