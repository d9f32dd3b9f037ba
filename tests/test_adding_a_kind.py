"""A new kind is a spec, a file and a line: the example of docs/extending.md, put into a copy of the package, works."""

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
PAGE = (PACKAGE.parent / "docs" / "extending.md").read_text(encoding="utf-8")
SPEC, MODULE, LINE, *_ = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

USE = """
import torch
from torch.utils.flop_counter import FlopCounterMode
from nas.settings import study_file
from nas.attention import build
from nas.bench.attention import parse_kinds
from nas.kinds import Mean
from nas.models import build as model_of
from nas.measure import measure
from nas.space.architecture_space import Space

torch.manual_seed(0)
layer, x = build(Mean(), hidden=12, context=9), torch.randn(2, 9, 12)
means = torch.stack([x[:, : t + 1].mean(1) for t in range(9)], dim=1)
torch.testing.assert_close(layer(x), means @ layer.out.weight.T)
state = layer.new_state(2, 9)
torch.testing.assert_close(torch.cat([layer.step(part, state) for part in x.split([4, 1, 4], 1)], 1), layer(x))
assert layer.state_bytes(2, 9) == state.sum_BD.nbytes
with FlopCounterMode(display=False) as counter:
    layer(x[:1])
assert counter.get_total_flops() == layer.flops(9)

file = study_file.parse('''
name = "mean"
space = { depth = [1, 2], hidden = [16, 32], mixed = true, attention = [{ kind = "mean" }, { kind = "softmax" }] }
objectives = [{ metric = "val_loss" }]
''')
space = Space(file.spaces())
assert space.size() == 2 * (2 + 4)
architecture = next(a for _, a in space.walk() if [b.attention.kind for b in a.blocks] == ["mean", "softmax"])
model = model_of(architecture, vocabulary=20, context=16)
assert measure(model, 20, 16, file.measure.model_copy(update={"repeats": 1}), "cpu").metrics["decode_ms_per_token"] > 0
assert "mean" in parse_kinds(None, hidden=16, heads=4)
print("works")
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package with the example in it; what is compiled is copied too, as it stays valid."""
    copy = tmp_path / "nas"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.pyc.*"))
    kinds = copy / "kinds.py"
    text = kinds.read_text(encoding="utf-8")
    kinds.write_text(
        text.replace("Attention = Annotated[", f"{SPEC}\n\nAttention = Annotated[").replace("| Lstm,", "| Lstm | Mean,")
    )
    (copy / "attention" / "mean.py").write_text(MODULE)
    table = copy / "attention" / "__init__.py"
    text = table.read_text(encoding="utf-8")
    imports = "from nas.attention.mean import MeanAttention\nfrom nas.kinds import Mean\n"
    text = text.replace("\n__all__", f"{imports}\n__all__", 1)
    table.write_text(re.sub(r"(MODULES.*?)^}", rf"\1{LINE}}}", text, count=1, flags=re.DOTALL | re.MULTILINE))
    return copy


def test_one_new_file_and_two_that_name_it(package):
    changed = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if not (original := PACKAGE / path.relative_to(package)).exists() or original.read_text() != path.read_text()
    }
    assert changed == {"kinds.py", "attention/__init__.py", "attention/mean.py"}


def test_it_is_searched_built_and_measured(package):
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    done = subprocess.run(
        [sys.executable, "-c", USE], env=environment, cwd=package.parent, capture_output=True, text=True, check=False
    )
    assert done.stdout == "works\n", done.stderr
