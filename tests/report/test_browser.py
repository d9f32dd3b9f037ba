"""The page in a browser: it runs without errors, and limits, marks, tables and keys do what they say."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from nas import pareto, report
from tests.report.confirmed_studies import confirmed

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs the system's Chromium at /usr/bin/chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser, page) -> Iterator[Page]:
    """The open page, with nothing said on its console and nothing asked of any network."""
    yield from opened(browser, page)


@pytest.fixture(scope="module")
def outlier(record, tmp_path_factory) -> tuple[int, Path]:
    """A dominated trial that took a thousand times as long as the others, and the page of that study."""
    front = {trial.number for trial in pareto.front_of(record)}
    far = next(t for t in record.trials if t.eligible and t.number not in front)
    changed = replace(far, metrics={**far.metrics, "decode_ms_per_token": 703.2})
    trials = tuple(changed if t is far else t for t in record.trials)
    return far.number, report.write(replace(record, trials=trials), tmp_path_factory.mktemp("reports") / "outlier")


@pytest.fixture
def outlier_tab(browser, outlier) -> Iterator[Page]:
    yield from opened(browser, outlier[1])


def opened(browser: Browser, page: Path) -> Iterator[Page]:
    problems: list[str] = []

    def note_requests(route: Route) -> None:
        problems.append(route.request.url)
        route.abort()

    tab = browser.new_page(viewport={"width": 1200, "height": 900})
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.route(lambda url: url != page.as_uri(), note_requests)
    tab.goto(page.as_uri())
    yield tab
    tab.close()
    assert problems == []


def members(tab):
    return [int(row.get_attribute("data-trial")) for row in tab.locator("#front-table tbody tr:visible").all()]


def test_dragging_a_limit_filters_the_table_and_gives_the_command(tab, record):
    front = pareto.front_of(record)
    assert members(tab) == [trial.number for trial in front]
    slider = tab.get_by_label("Limit on decode_ms_per_token")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    tab.mouse.move(box["x"] + box["width"] - 8, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
    tab.mouse.up()
    limit = float(tab.locator("#limits output").nth(1).inner_text())
    left = [t for t in front if t.metrics["decode_ms_per_token"] <= limit]
    assert 0 < len(left) < len(front)
    assert members(tab) == [trial.number for trial in left]
    # With latency limited, the best loss is what remains to be chosen; the front comes best loss first.
    expect(tab.locator("#chosen-train")).to_have_text(f"nas train tiny_lm {left[0].number} --steps 2000")
    expect(tab.locator("#chosen-where")).to_have_text(f'nas front tiny_lm --where "decode_ms_per_token<={limit:g}"')
    expect(tab.locator("#within")).to_have_text(f"{len(left)} of {len(front)} are within your limits.")
    faded = tab.locator(".mark.front.out")
    assert faded.count() == len(front) - len(left)


def test_a_limit_is_lifted_at_the_loose_end(tab, record):
    slider = tab.get_by_label("Limit on peak_inference_mib")
    slider.press("Home")
    assert 0 < len(members(tab)) < len(pareto.front_of(record))
    slider.press("End")
    assert len(members(tab)) == len(pareto.front_of(record))


def test_limits_that_nothing_meets_are_told(tab):
    for name in ("val_loss", "decode_ms_per_token"):
        tab.get_by_label(f"Limit on {name}").press("Home")
    assert members(tab) == []
    expect(tab.locator("#chosen")).to_contain_text("No member of the front lies within these limits", ignore_case=True)
    expect(tab.locator("#chosen-train")).to_be_hidden()


def test_the_knee_is_proposed_until_a_mark_is_clicked(tab):
    knee = json.loads(tab.locator("#data").text_content())["knee"]
    expect(tab.locator("#chosen-train")).to_have_text(f"nas train tiny_lm {knee} --steps 2000")
    mark = tab.locator('.mark[data-trial="22"]')
    mark.hover()
    expect(tab.locator("#tip")).to_contain_text("cosine heads=2")
    mark.click()
    expect(tab.locator("#chosen-train")).to_have_text("nas train tiny_lm 22 --steps 2000")


def test_marks_are_reached_and_chosen_by_keys(tab):
    tab.locator('#chart [tabindex="0"]').focus()
    tab.keyboard.press("ArrowRight")
    number = tab.evaluate("document.activeElement.dataset.trial")
    expect(tab.locator("#tip")).to_contain_text(f"Trial {number}")
    tab.keyboard.press("Enter")
    expect(tab.locator("#chosen-train")).to_have_text(f"nas train tiny_lm {number} --steps 2000")
    assert tab.evaluate("document.activeElement.dataset.trial") == number


def test_axes_change_places_when_the_same_is_asked_for_twice(tab):
    tab.get_by_label("Horizontal").select_option("val_loss (nats/token)")
    assert tab.get_by_label("Vertical").input_value() == "1"
    expect(tab.locator("#chart")).to_contain_text("decode_ms_per_token (ms) ↓ better")


def test_the_trials_are_sorted_by_a_click_and_gaps_come_last(tab, record):
    heading = tab.locator(".sortable th", has_text="val_").first
    losses = sorted(t.metrics["val_loss"] for t in record.trials if "val_loss" in t.metrics)
    for expected, direction in ((losses, "ascending"), (losses[::-1], "descending")):
        heading.get_by_role("button").click()
        expect(heading).to_have_attribute("aria-sort", direction)
        cells = [c.get_attribute("data-value") for c in tab.locator(".sortable tbody td:nth-child(4)").all()]
        assert [float(c) for c in cells[: len(losses)]] == expected
        assert set(cells[len(losses) :]) == {""}


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_never_scrolls_sideways(tab, width):
    tab.set_viewport_size({"width": width, "height": 900})
    assert tab.evaluate("document.documentElement.scrollWidth") == width


def test_without_a_script_the_figures_and_tables_stand_there(browser, page, record):
    tab = browser.new_page(java_script_enabled=False)
    tab.goto(page.as_uri())
    assert tab.locator("#still svg").count() == 3
    expect(tab.locator("#still svg").first).to_be_visible()
    expect(tab.locator("#explorer")).to_be_hidden()
    assert len(members(tab)) == len(pareto.front_of(record))
    tab.close()


def test_one_trial_far_out_stands_at_the_edge_and_the_rest_keeps_its_room(outlier_tab, outlier):
    number, _ = outlier
    marks = outlier_tab.locator(f'#chart .mark.front, #chart .mark.dominated:not([data-trial="{number}"])')

    def room() -> float:
        lefts = [box["x"] for box in (mark.bounding_box() for mark in marks.all())]
        return max(lefts) - min(lefts)

    chart = outlier_tab.locator("#chart").bounding_box()
    far = outlier_tab.locator(f'#chart .mark[data-trial="{number}"]').bounding_box()
    assert room() > 0.5 * chart["width"]
    assert far["x"] > chart["x"] + 0.9 * chart["width"]
    expect(outlier_tab.locator("#beyond")).to_contain_text("decode_ms_per_token: 1 trial up to 703.2")
    outlier_tab.get_by_label("Show the whole axes").check()
    assert room() < 0.4 * chart["width"]


def test_the_whole_axes_are_not_offered_where_they_are_shown(tab):
    expect(tab.locator("#beyond")).to_be_hidden()


def test_what_new_seeds_tell_stands_beside_the_chosen_trial(browser, record, tmp_path):
    page = report.write(confirmed(record), tmp_path / "sure")
    for tab in opened(browser, page):
        chosen = tab.locator("#chosen-facts")
        expect(chosen).to_contain_text("±")
        expect(chosen).to_contain_text("the search had")
        expect(chosen).to_contain_text("new seeds")
        expect(tab.locator("#front")).to_contain_text("How sure this is")
