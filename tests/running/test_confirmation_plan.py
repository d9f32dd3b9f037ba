"""What a confirmation does next, from stored results alone."""

from dataclasses import replace

from nas.confirmation import Block, Confirmation, Retraining
from nas.results import Constraint, Objective, State, TrialResult
from nas.running.confirmation_plan import Plan
from nas.study.stored_confirmations import Confirmed

LOSS, SIZE, TIME = Objective("val_loss", "min"), Objective("params", "min"), Objective("decode_ms_per_token", "min")


def member(number, params=100.0):
    metrics = {"val_loss": 0.0, "params": params, "decode_ms_per_token": 1.0}
    return TrialResult(number, State.COMPLETE, f"id{number}", {"hidden": 8}, metrics=metrics)


def plan(*members, objectives=(LOSS, SIZE), **options):
    settings = {"first": 2, "most": 4, "steps": 20, "own_steps": 20, "hardware": "here", "constraints": ()}
    return Plan(members=members, objectives=objectives, seeds=lambda k: 100 + k, **{**settings, **options})


class Done:
    """What has ended."""

    def __init__(self, of):
        self.plan, self.results, self.ended = of, {}, set()

    def __call__(self):
        return Confirmed(self.results, frozenset(self.ended))

    def trained(self, number, losses, reason=""):
        found = self.results.get(number, Confirmation(number))
        for loss in losses:
            seed = 100 + len(found.retrainings)
            new = Retraining(seed, self.plan.steps, {} if reason else {"val_loss": loss}, reason=reason)
            found = replace(found, retrainings=(*found.retrainings, new))
            self.ended.add((number, self.plan.again("seed", seed)))
        self.results[number] = found

    def measured(self, number, moments, milliseconds=1.0):
        found = self.results.get(number, Confirmation(number))
        for moment in moments:
            self.ended.add((number, self.plan.block(len(found.blocks))))
            block = Block(moment, {"decode_ms_per_token": milliseconds}, "here")
            found = replace(found, blocks=(*found.blocks, block))
        self.results[number] = found

    def tested(self, number, seeds):
        self.ended |= {(number, self.plan.again("test", seed)) for seed in seeds}


def asked(of, done, moment=0.0, **options):
    return [(task.does, task.trial.number, task.again) for task in of.step(done(), moment, **options).tasks]


def test_every_member_gets_the_first_seeds_seed_by_seed_and_then_those_that_remain_are_tested():
    of = plan(member(0, 10.0), member(1, 20.0), member(2, 5.0))
    done = Done(of)
    assert asked(of, done) == [("training", n, f"seed:{s}") for s in (100, 101) for n in (0, 1, 2)]
    for number, loss in ((0, 1.0), (1, 9.0), (2, 5.0)):  # trial 1 is the worst in everything
        done.trained(number, [loss, loss + 1e-6, loss, loss + 1e-6])
    assert asked(of, done) == [("test", n, f"test:{s}") for n in (0, 2) for s in (100, 101, 102, 103)]
    done.tested(0, [100, 101, 102, 103])
    done.tested(2, [100, 101, 102, 103])
    assert of.step(done(), 0.0).tasks == ()
    assert of.step(done(), 0.0).wait is None


def test_neighbours_that_cannot_be_told_apart_get_more_seeds_until_the_most_or_the_budget_ends():
    of = plan(member(0), member(1), objectives=(LOSS,))
    done = Done(of)
    for number, losses in ((0, [1.0, 2.0]), (1, [1.9, 1.1])):
        done.trained(number, losses)
    assert asked(of, done) == [("training", 0, "seed:102"), ("training", 1, "seed:102")]
    assert all(task.later for task in of.step(done(), 0.0).tasks)
    assert {does for does, *_ in asked(of, done, racing=False)} == {"test"}
    done.trained(0, [1.5])
    assert asked(of, done) == [("training", 1, "seed:102")]
    done.trained(1, [1.5])
    done.trained(0, [1.0])
    done.trained(1, [1.9])
    assert {does for does, *_ in asked(of, done)} == {"test"}


def test_a_member_that_fails_with_a_seed_keeps_its_first_seeds_and_loses_its_place():
    of = plan(member(0, 10.0), member(1, 5.0))
    done = Done(of)
    done.trained(0, [0.0], reason="nan")
    done.trained(1, [1.0, 1.1])
    assert asked(of, done) == [("training", 0, "seed:101")]
    done.trained(0, [0.5])
    assert of.failed(done()) == {0}
    assert asked(of, done) == [("test", 1, "test:100"), ("test", 1, "test:101")]


def test_members_are_measured_in_blocks_a_minute_apart_before_anything_is_tested():
    of = plan(member(0), objectives=(LOSS, TIME), blocks=3)
    done = Done(of)
    assert asked(of, done)[0] == ("block", 0, of.block(0))
    done.measured(0, [1000.0])
    assert {does for does, *_ in asked(of, done, 1059.0)} == {"training"}
    assert asked(of, done, 1060.0)[0] == ("block", 0, of.block(1))
    done.trained(0, [1.0, 1.1])
    step = of.step(done(), 1020.0)
    assert (step.tasks, step.wait) == ((), 40.0)
    done.measured(0, [1060.0, 1120.0])
    assert {does for does, *_ in asked(of, done, 1121.0)} == {"test"}


def test_blocks_on_other_hardware_do_not_count_and_exact_objectives_need_none():
    of = plan(member(0), objectives=(LOSS, TIME), blocks=1)
    done = Done(of)
    done.measured(0, [1000.0])
    there = replace(of, hardware="there")
    assert asked(there, done)[0] == ("block", 0, there.block(0))
    assert there.block(0) != of.block(0)
    limited = replace(of, objectives=(LOSS,), constraints=(Constraint("prefill_ms", max=1.0),))
    assert limited.timed
    assert not replace(of, objectives=(LOSS, SIZE)).timed


def test_longer_trainings_are_jobs_of_their_own():
    of = plan(member(0), steps=40)
    done = Done(plan(member(0)))
    done.trained(0, [1.0, 1.0, 1.0, 1.0])
    assert asked(of, done) == [("training", 0, "seed:100:40"), ("training", 0, "seed:101:40")]


def test_what_remains_is_judged_by_means_over_seeds_and_blocks_within_the_limits():
    of = plan(member(0), member(1), objectives=(LOSS, TIME), blocks=1)
    done = Done(of)
    for number, losses, milliseconds in ((0, [1.0, 1.0], 2.0), (1, [1.2, 1.2], 3.0)):
        done.trained(number, losses)
        done.measured(number, [0.0], milliseconds)
    assert [trial.number for trial in of.remaining(done())] == [0]
    limited = replace(of, constraints=(Constraint("decode_ms_per_token", min=2.5),))
    assert [trial.number for trial in limited.remaining(done())] == [1]


def test_a_member_behind_that_still_has_a_chance_is_tested_too():
    of = plan(member(0), member(1), objectives=(LOSS,), chances=lambda now: {0: 0.9, 1: 0.1})
    done = Done(of)
    done.trained(0, [1.0, 1.0, 1.0, 1.0])
    done.trained(1, [1.1, 1.2, 1.1, 1.2])
    assert [trial.number for trial in of.remaining(done())] == [0]
    assert {number for _, number, _ in asked(of, done)} == {0, 1}
    assert {number for _, number, _ in asked(replace(of, chances=lambda now: {1: 0.04}), done)} == {0}


def test_what_remains_is_judged_as_if_every_member_had_every_seed():
    of = plan(member(0), member(1), objectives=(LOSS,))
    done = Done(of)
    done.trained(0, [1.0, 1.0, 1.0, 1.0])
    done.trained(1, [1.1, 1.1])
    done.results[0] = replace(
        done.results[0],
        retrainings=tuple(replace(r, metrics={"val_loss": 1.0 + (r.seed > 101)}) for r in done.results[0].retrainings),
    )
    assert [trial.number for trial in of.remaining(done())] == [0]  # its plain mean, 1.5, is the larger


def test_a_plan_without_any_trained_objective_trains_the_first_seeds_alone():
    of = plan(member(0), member(1, 5.0), objectives=(SIZE,))
    done = Done(of)
    for number in (0, 1):
        done.trained(number, [1.0, 2.0])
    assert asked(of, done) == [("test", 1, "test:100"), ("test", 1, "test:101")]
