"""Every family, searched for real: proposed, measured, trained, evaluated and reported."""

import pytest

from nas import report
from nas.results import State
from nas.running import driver
from nas.settings import study_file

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_search")]
TEXT = "the quick brown fox jumps over the lazy dog. " * 30
SOFTMAX = '{ kind = "softmax", heads = 2 }'
SPACES = {
    "encoder": f"""
task = {{ kind = "masked_language_modelling", corpus = "CORPUS", context = 8 }}
space = {{ depth = [1, 2], hidden = 16, attention = [{SOFTMAX}, {{ kind = "linformer", rank = 4 }}] }}
objectives = [{{ metric = "val_loss" }}, {{ metric = "prefill_ms" }}]
""",
    "encoder_decoder": f"""
task = {{ kind = "reverse_spans", corpus = "CORPUS", context = 8 }}
objectives = [{{ metric = "exact_match" }}, {{ metric = "decode_ms_per_token" }}]
[space]
depth = [1, 2]
encoder_depth = 1
hidden = 16
attention = [{SOFTMAX}]
cross = [{SOFTMAX}, {{ kind = "additive" }}, {{ kind = "cosine" }}]
""",
    "recurrent": f"""
task = {{ kind = "copy_spans", corpus = "CORPUS", context = 8 }}
objectives = [{{ metric = "val_loss" }}, {{ metric = "params" }}]
space = {{ depth = [1, 2], encoder_depth = [1, 2], hidden = 16, cross = [{SOFTMAX}, {{ kind = "additive" }}] }}
""",
    "decoder, recurrent": f"""
task = {{ corpus = "CORPUS", context = 8 }}
objectives = [{{ metric = "val_loss" }}, {{ metric = "decode_ms_per_token" }}]
[space.decoder]
depth = [1, 2]
hidden = 16
attention = [{SOFTMAX}, {{ kind = "none" }}]
[space.recurrent]
depth = [1, 2]
hidden = [16, 32]
[[baselines]]
family = "recurrent"
hidden = 24
depth = 1
""",
}
COMMON = """
name = "families"
family = FAMILY
train = { steps = 40, batch = 8, rungs = [0.5, 1.0], evaluation_tokens = 64 }
measure = { repeats = 1 }
search = { trials = 3, sampler = "random" }
resources = { device = "cpu" }
"""


@pytest.mark.parametrize("families", SPACES)
def test_a_search_ends_in_a_front_of_that_family(tmp_path, families):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    names = families.split(", ")
    text = COMMON.replace("FAMILY", str(names)) + SPACES[families].replace("CORPUS", str(tmp_path / "text.txt"))
    outcome = driver.run(study_file.parse(text), tmp_path / "runs" / "families", driver.Launch("serial"))
    trials = outcome.study.trials()
    assert [(trial.state, trial.detail) for trial in trials] == [(State.COMPLETE, "")] * 3
    assert {trial.model.family for trial in trials} <= set(names)
    assert outcome.study.front()
    record = outcome.study.record_for_report()
    page = report.write(record, tmp_path / "report").read_text(encoding="utf-8")
    assert names[0].replace("_", "-") in page
    assert record.attention_maps.keys() == {trial.number for trial in outcome.study.front()}
    if any(stored["maps"] for stored in record.attention_maps.values()):
        assert '<section id="attention">' in page


def test_a_seed_repeats_a_search_over_families(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    text = COMMON.replace("FAMILY", '["decoder", "recurrent"]')
    text += SPACES["decoder, recurrent"].replace("CORPUS", str(tmp_path / "text.txt"))
    file = study_file.parse(text, ['objectives=[{metric="val_loss"},{metric="params"}]'])
    studies = [driver.run(file, tmp_path / name, driver.Launch("serial")).study for name in ("one", "other")]
    one, other = ([(t.architecture_id, t.metrics["val_loss"]) for t in study.trials()] for study in studies)
    assert one == other
