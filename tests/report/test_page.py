"""The page as a file: what is in it, what is not, and that nothing breaks it."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations

import pytest

from nas import formatting, pareto, report
from nas.confirmation import Confirmation, Retraining
from nas.results import Objective, State
from tests.report.confirmed_studies import confirmed

LOADING = {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "background", "formaction"}


class Reader(HTMLParser):
    """Text by element, and every attribute that could load something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self._open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in LOADING]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data
        elif self._open and self._open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def read(record, folder) -> Reader:
    return Reader(report.write(record, folder / "report").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def html(page) -> str:
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reader(html) -> Reader:
    return Reader(html)


def test_all_files_are_there(record, page):
    names = {f"pareto_{a.metric}_{b.metric}" for a, b in combinations(record.objectives, 2)}
    names |= {"hypervolume_trials", "hypervolume_seconds", "learning_curves"}
    names |= {f"importance_{o.metric}" for o in record.objectives}
    pictures = {f"{name}.{suffix}" for name in names for suffix in ("svg", "png")}
    assert {p.name for p in page.parent.iterdir()} == pictures | {
        "index.html",
        "trials.csv",
        "trials.parquet",
        "front.json",
        "search.json",
    }
    assert all(p.stat().st_size > 0 for p in page.parent.iterdir())


def test_nothing_is_loaded_from_anywhere(html, reader):
    assert all(address.startswith(("#", "data:")) for address in reader.addresses)
    html = html.replace("http://www.w3.org/2000/svg", "")  # a namespace's name, which nobody loads
    assert not re.search(r"https?:|@import|url\((?!#)|\bfetch\(|XMLHttpRequest|import\(", html)
    assert "default-src 'none'" in html


def test_every_inner_link_has_its_target(html, reader):
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    used = {address[1:] for address in reader.addresses} | set(re.findall(r"url\(#([^)]*)\)", html))
    assert used <= set(ids)


def test_the_page_tells_what_was_searched_and_found(record, reader):
    assert "hidden size 32 to 128, 1 to 4 layers, cosine, linear, softmax and window attention" in reader.words
    assert "trained for 200 steps on python-docs" in reader.words
    for trial in pareto.front_of(record):
        assert f"nas train tiny_lm {trial.number} --steps 2000" in reader.words
    assert "nas resume tiny_lm --retry failed" in reader.words
    assert "over the limit on weights_mib" in reader.words
    assert "AMD EPYC 7B13" in reader.words
    assert record.data["sha256"] in reader.words


def test_the_floors_stand_beside_the_best_loss(record, reader):
    best = min((t for t in record.trials if t.eligible), key=lambda t: t.metrics["val_loss"])
    assert f"The best trial, {best.number}, reaches 1.973 nats (val_loss)" in reader.words
    assert (
        "better than the 1-gram (3.210), the 2-gram (2.530) and the 3-gram (2.160), not better than the 4-gram"
        in reader.words
    )


def test_confirmations_are_told_with_their_test_figures(record, tmp_path):
    found = ((1, 1.96, 1.99), (2, 1.98, 1.91))
    seeds = [Retraining(seed, 200, {"val_loss": val}, {"test_loss": test}) for seed, val, test in found]
    words = read(replace(record, confirmed={3: Confirmation(3, tuple(seeds))}), tmp_path).words
    assert "2 new seeds" in words
    assert "1.970 (1.843–2.097)" in words  # 1.97 ± 12.706 · 0.01
    assert "The best trial, 3, reaches 1.950 nats (test_loss, mean of its confirmations)" in words
    assert "not better than the 4-gram (1.950)" in words


def test_a_front_of_one_seed_says_so_where_the_number_stands(record, reader):
    front = pareto.front_of(record)
    assert reader.words.count("one seed") >= len(front)
    assert "another seed would give another one" in reader.words
    assert "nas confirm tiny_lm" in reader.words
    assert "How sure this is" not in reader.words


def test_a_confirmed_front_tells_how_sure_it_is(record, tmp_path):
    lost = pareto.front_of(record)[1].number
    reader = read(confirmed(record, failing=lost), tmp_path)
    words = " ".join(reader.words.split())
    assert f"lost its place on the front: trial {lost} in 1 of 5 trainings" in words
    for told in (
        "trained again for 200 steps with 3 to 5 new seeds each, and measured in 5 blocks",
        "Cannot be told apart in val_loss (family-wise error 5 %): ",
        "Selection bias: the search's values of val_loss on its front are 0.02",
        "Spearman's rank correlation of the search's val_loss",
        "On the test split, loss is 0.03000 nats/token higher",
        "These trials reach a hypervolume of",
        "On the front",
        "≈",
        "±",
    ):
        assert told in words
    trials = {trial["number"]: trial for trial in json.loads(reader.scripts[0])["trials"]}
    assert trials[lost]["role"] != "front"
    kept = pareto.front_of(record)[0].number
    (loss,) = [fact for fact in trials[kept]["facts"] if fact[0] == "val_loss"]
    assert loss[2].startswith("±")
    assert "the search had" in loss[2]
    assert loss[3] == "95 % interval of the mean"
    assert "nas confirm" not in words


def test_what_is_stored_is_text_and_never_markup(record, tmp_path):
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    failed = replace(record.trials[7], reason=attack)
    environment = {**record.environment, "cpu": attack}
    evil = replace(record, name=attack, trials=(*record.trials[:7], failed), environment=environment)
    reader = read(evil, tmp_path)
    assert len(reader.scripts) == 2
    assert not reader.handlers
    assert all(address.startswith("#") for address in reader.addresses)
    assert reader.words.count("<script>alert(1)</script>") >= 4
    data = json.loads(reader.scripts[0])
    assert data["trials"][7]["reason"] == attack


def test_the_learning_rate_stands_beside_a_trial_where_the_search_chose_one(record, tmp_path):
    searched = replace(record.trials[0], learning_rate=0.0125)
    first, second, *_ = json.loads(read(replace(record, trials=(searched, *record.trials[1:])), tmp_path).scripts[0])[
        "trials"
    ]
    assert ["learning rate", "0.0125", "", ""] in first["beside"]
    assert "learning rate" not in [name for name, *_ in second["beside"]]


def test_data_for_the_script_agrees_with_the_record(record, reader):
    data = json.loads(reader.scripts[0])
    assert [t["number"] for t in data["trials"]] == [t.number for t in record.trials]
    front = {t.number for t in pareto.front_of(record)}
    assert {t["number"] for t in data["trials"] if t["role"] == "front"} == front
    assert data["trials"][0]["values"] == record.trials[0].values(record.objectives)
    assert data["knee"] in front


def without(trial, metric):
    return replace(trial, metrics={k: v for k, v in trial.metrics.items() if k != metric})


CASES = {
    "nothing proposed": (lambda r: {"trials": ()}, "No trial has been trained yet."),
    "nothing recorded": (
        lambda r: {"trials": (), "settings": {}, "environment": {}, "data": {}, "created": 0.0},
        "Architectures compared by low val_loss",
    ),
    "nothing finished": (
        lambda r: {"trials": (replace(r.trials[0], state=State.RUNNING, finished=None, rungs=()),)},
        "1 trial had not ended when this page was written.",
    ),
    "none trained to the end": (
        lambda r: {"trials": tuple(t for t in r.trials if t.state is not State.COMPLETE)},
        "The front is empty. No trial has been trained to the end.",
    ),
    "none feasible": (
        lambda r: {"trials": tuple(replace(t, violations={"weights_mib": 1.0}) for t in r.trials)},
        "meets the constraints (weights_mib <= 2).",
    ),
    "a front of one": (lambda r: {"trials": r.trials[:1]}, "No other feasible trial is better in any objective"),
    "one objective": (lambda r: {"objectives": r.objectives[:1]}, "The line follows the best value so far."),
    "four objectives": (
        lambda r: {"objectives": (*r.objectives, Objective("val_accuracy", "max"))},
        "on the front of all 4 objectives",
    ),
    "missing metrics": (
        lambda r: {"trials": (without(r.trials[0], "val_loss"), *r.trials[1:])},
        "1 trial ended without a finite value of every objective.",
    ),
    "no values at all": (
        lambda r: {"trials": tuple(replace(t, metrics={}) for t in r.trials)},
        "There is nothing to draw yet",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_unusual_studies_are_told_in_words(record, tmp_path, case):
    change, expected = CASES[case]
    assert expected in read(replace(record, **change(record)), tmp_path).words


def test_an_axis_is_logarithmic_where_values_span_decades(record, tmp_path):
    grown = [1.6**trial.number * trial.metrics["decode_ms_per_token"] for trial in record.trials]
    trials = tuple(
        replace(t, metrics={**t.metrics, "decode_ms_per_token": ms}) for t, ms in zip(record.trials, grown, strict=True)
    )
    axes = json.loads(read(replace(record, trials=trials), tmp_path).scripts[0])["axes"]
    assert [axis["log"] for axis in axes] == [False, True, False]


def test_a_floor_of_a_share_is_beaten_by_a_larger_one(record, tmp_path):
    shares = {t.number: 0.5 + t.number / 1000 for t in record.trials if t.eligible}
    trials = tuple(replace(t, metrics={**t.metrics, "macro_f1": shares.get(t.number, 0.0)}) for t in record.trials)
    floors = {"majority": {"macro_f1": 0.4}, "oracle": {"macro_f1": 0.9}}
    told = read(replace(record, trials=trials, data={**record.data, "floors": {"val": floors}}), tmp_path).words
    best = max(shares, key=shares.get)
    assert f"The best trial, {best}, reaches {formatting.number(shares[best])} (macro_f1)" in told
    assert "better than the majority (0.4000), not better than the oracle (0.9000)" in told


def test_floors_of_groups_stand_in_the_table_beside_the_best_trial_and_need_no_sentence(record, tmp_path):
    known = [t.number for t in record.trials if t.eligible][:3]
    shares = {number: 0.25 + number / 1000 for number in known}
    trials = tuple(
        replace(t, metrics={**t.metrics, "exact_match:7": shares[t.number]}) if t.number in shares else t
        for t in record.trials
    )
    data = record.data | {
        "floors": {"val": {"last": {"exact_match:7": 0.125}}},
        "too_long": {"train": 3, "val": 0, "test": 2},
        "answers_cut_off": {"train": 1, "val": 0, "test": 0},
        "unseen": {"val": 7, "test": 0},
        "splits": {"train": 1000, "val": 50, "test": 60},
    }
    told = read(replace(record, trials=trials, data=data), tmp_path).words
    assert f"last exact_match:7 0.1250 {formatting.number(max(shares.values()))}" in told
    assert "(exact_match:7)" not in told
    assert "Longer than the context of 64 tokens: 3 of 1,000 in train, 2 of 60 in test." in told
    assert "Answers cut off with the rest: 1 of 1,000 in train." in told
    assert "Tokens that the training split lacks: 7 in val." in told
