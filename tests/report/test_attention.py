"""Attention maps on the page: one picture a head, for members of the front that have some."""

from dataclasses import replace

from nas import pareto, report

WEIGHTS = [[[1.0, 0.0], [0.25, 0.75]], [[1.0, 0.0], [-0.5, 0.5]]]


def test_the_front_is_shown_head_by_head(record, tmp_path):
    first, second, *_ = pareto.front_of(record)
    layer = {"name": "block 0", "kind": "softmax heads=2", "to_source": False, "weights": WEIGHTS}
    maps = {
        first.number: {"tokens": ["<", "b>"], "source_tokens": [], "maps": [layer]},
        second.number: {"tokens": ["a", "b"], "source_tokens": [], "maps": []},
    }
    page = report.write(replace(record, attention_maps=maps), tmp_path / "report").read_text(encoding="utf-8")
    section = page[page.index('<section id="attention">') :]
    section = section[: section.index("</section>")]
    assert section.count('src="data:image/png;base64,') == 2
    assert f'alt="trial {first.number}, block 0, head 1"' in section
    assert f"Trial {second.number}:" not in section
    assert "&lt;b&gt;" in section


def test_without_maps_there_is_no_such_section(page):
    assert 'id="attention"' not in page.read_text(encoding="utf-8")
