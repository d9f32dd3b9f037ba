"""A new task is a file and a line: the example of docs/extending.md, put into a copy of the package, is searched."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nas

pytestmark = pytest.mark.slow
PACKAGE = Path(nas.__path__[0])
PAGE = (PACKAGE.parent / "docs" / "extending.md").read_text(encoding="utf-8").partition("## Adding a task")[2]
MODULE, LINE, *_ = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

STUDY = """
name = "mistakes"
family = "encoder_decoder"
task = { kind = "correction", corpus = "sentences.csv", context = 32, subwords = 300 }
train = { steps = 4, batch = 4, rungs = [0.5, 1.0] }
measure = { repeats = 2 }
objectives = [{ metric = "exact_match" }, { metric = "decode_ms_per_token" }]
search = { trials = 2 }
[space]
depth = 1
encoder_depth = 1
hidden = [16, 32]
attention = [{ kind = "softmax", heads = 2 }]
cross = [{ kind = "softmax", heads = 2 }]
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package with the example in it; what is compiled is copied too, as it stays valid."""
    copy = tmp_path / "nas"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.pyc.*"))
    (copy / "tasks" / "correction.py").write_text(MODULE)
    table = copy / "settings" / "task_settings.py"
    text = table.read_text(encoding="utf-8")
    table.write_text(re.sub(r"^(TASK_KINDS: .*?)^}", rf"\1{LINE}}}", text, count=1, flags=re.DOTALL | re.MULTILINE))
    return copy


PROGRAM = """
import sys
from nas.cli.__main__ import main
from nas.running import measuring

measuring.TRIES = 1  # nobody waits for a quiet machine
for command in (["search", "study.toml", "--executor", "serial", "--no-progress"], ["train", "mistakes", "0"]):
    sys.argv = ["nas", *command]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, command
"""


def run(package):
    """Searches and trains with that package; the lines on standard output."""
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    environment |= {"NAS_RUNS": str(package.parent / "runs"), "NAS_REPORTS": str(package.parent / "reports")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        cwd=package.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_it_is_searched_trained_and_told_beside_its_floor(package):
    folder = package.parent
    lines = [f"this {n} is teh word,this {n} is the word" for n in range(40)] + [
        f"all {n} right," * 2 for n in range(9)
    ]
    (folder / "sentences.csv").write_text("written,right\n" + "\n".join(line.rstrip(",") for line in lines))
    (folder / "study.toml").write_text(STUDY)
    *_, model = run(package)
    front = json.loads((folder / "reports" / "mistakes" / "front.json").read_text())
    assert front
    assert all("exact_match" in json.dumps(trial) for trial in front)
    trained = json.loads((Path(model) / "metrics.json").read_text())
    assert "test_exact_match" in trained["metrics"]
    assert trained["differences"]["copy"]["exact_match"]["high"] >= -1
    assert "copy" in trained["floors"]["test"]
