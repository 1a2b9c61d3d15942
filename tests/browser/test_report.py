"""The report as a reader meets it: load, search, look, move the slider, switch colours, print, by keyboard too."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest

import companysim as cs
from tests.report.world import HOSTILE

pytestmark = pytest.mark.browser
MINUS = "\N{MINUS SIGN}"
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture
def report(run: cs.Run, open_page: Any) -> Any:
    page = open_page(f"file://{run.root / 'report.html'}", viewport=SIZES["desk"])
    page.wait_for_selector("html[data-ready]")
    return page


@pytest.fixture(scope="module")
def first(run: cs.Run) -> str:
    return "AAPL" if "AAPL" in set(run.companies["ticker"]) else "BA1"


def find(page: Any, ticker: str) -> None:
    page.get_by_role("combobox", name="Search").fill(ticker.lower())
    page.get_by_role("option").first.wait_for()
    page.keyboard.press("Enter")
    page.locator("#company h3").filter(has_text=re.compile(rf"^{ticker}\b")).wait_for()


def test_it_opens_small_and_alone(run: cs.Run, report: Any, open_page: Any) -> None:
    assert (run.root / "report.html").stat().st_size <= 8_000_000
    assert report.locator("#plane [data-i]").count() == len(run.companies)
    for name in ("frontier", "theta", "equity", "drawdown"):
        assert report.locator(f"[data-chart={name}] path.line").count() >= 3
    assert all(request.startswith("file://") and request.endswith("report.html") for request in open_page.requests)


@pytest.mark.parametrize("size", ["desk", "phone"])
def test_labels_of_an_axis_are_the_values_of_its_ticks(report: Any, size: str) -> None:
    report.set_viewport_size(SIZES[size])
    report.wait_for_timeout(200)
    for name in ("frontier", "theta", "equity", "drawdown"):
        rows = report.locator(f"[data-chart={name}] text.tick[text-anchor=end]").all_text_contents()
        values = [float(text.replace(MINUS, "-")) for text in rows if not re.search("[a-z]", text) and text]
        assert len(values) >= 3
        steps = {round(after - before, 9) for before, after in pairwise(values)}
        assert len(steps) == 1, (name, rows)
        assert steps.pop() > 0
    spaced = "((low, high) => { const t = ticks(low, high, 7); return t.map(plain(digits(t))); })"
    assert report.evaluate(f"{spaced}(0.31, 0.62)") == ["0.35", "0.40", "0.45", "0.50", "0.55", "0.60"]
    assert report.evaluate(f"{spaced}(0, 0.7)") == ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7"]
    percents = [text.replace(MINUS, "-") for text in report.evaluate(f"{spaced}(-20, 15)")]
    assert percents == ["-20", "-15", "-10", "-5", "0", "5", "10", "15"]


def test_search_shows_the_peers_of_the_run(run: cs.Run, report: Any, first: str) -> None:
    find(report, first)
    shown = report.locator("#company .peers li > a").all_text_contents()
    assert shown == run.peers(first)["ticker"].tolist()
    assert report.url.endswith(f"#company/{first}")
    facts = report.locator("#company .peers li").first.inner_text()
    assert f"similarity {run.peers(first)['similarity'].iloc[0]:.3f}" in facts


def test_search_by_name_and_click(run: cs.Run, report: Any) -> None:
    row = run.companies.iloc[4]
    report.locator("#search").fill(row["company"][:9])
    report.get_by_role("option").filter(has_text=row["company"]).first.click()
    assert row["company"] in report.locator("#company h3").inner_text()
    report.locator("#search").fill("no such company at all")
    assert "no company" in report.locator("#found").inner_text()


def test_a_mark_tells_and_opens_its_company(run: cs.Run, report: Any) -> None:
    last = len(run.companies) - 1  # drawn last, hence above its neighbours
    mark = report.locator(f'#plane [data-i="{last}"]')
    mark.hover(force=True)
    ticker = run.companies["ticker"].iloc[last]
    assert report.locator("#hint").inner_text().startswith(ticker)
    mark.click(force=True)
    assert report.locator("#company h3").inner_text().startswith(ticker)
    assert report.locator("#plane .links line").count() == min(10, len(run.companies) - 1)


def test_the_map_by_keyboard(run: cs.Run, report: Any, first: str) -> None:
    find(report, first)
    report.locator("#plane").focus()
    said = set()
    for key in ("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"):
        report.keyboard.press(key)
        said.add(report.locator("#map-says").inner_text())
    assert len(said) >= 2
    report.keyboard.press("Enter")
    chosen = report.locator("#company h3").inner_text()
    assert any(text.split(",")[0] == chosen.split()[0] for text in said)


def test_colours_switch(report: Any) -> None:
    def looks() -> list[str]:
        return report.evaluate("map.marks.map((mark) => mark.getAttribute('class') + mark.getAttribute('d'))")

    seen = []
    for kind in ("division", "sector", "cluster"):
        report.get_by_label("Colour by").select_option(kind)
        seen.append(looks())
        assert report.locator("#legend button").count() >= 3
    assert seen[0] != seen[2]
    button = report.locator("#legend button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert report.locator("#plane .muted").count() > 0
    button.click()
    assert report.locator("#plane .muted").count() == 0


def test_the_slider_moves_figures_and_clusters(run: cs.Run, report: Any) -> None:
    def figures() -> dict[str, str]:
        rows = report.locator("#theta-figures div").all()
        return {row.locator("dt").inner_text(): row.locator("dd").inner_text() for row in rows}

    def groups() -> int:
        return report.evaluate("map.groups.length")

    sae = run.summary["benchmark"][0]
    start = figures()
    assert start["MC"] == f"{sae['mean_correlation']:.3f}"
    assert start["coverage"] == f"{100 * sae['coverage']:.0f} %"
    assert int(start["clusters"]) == round(sae["clusters"]) == groups()
    slider = report.locator("#theta")
    slider.focus()
    report.keyboard.press("End")
    assert (figures()["coverage"], figures()["clusters"], groups()) == ("100 %", "1", 1)
    report.keyboard.press("Home")
    assert int(figures()["clusters"]) == groups()
    chosen = report.evaluate("data.theta.chosen")
    report.evaluate("joinTo(data.theta.chosen)")
    joined = report.evaluate("joined.cluster")
    assert chosen == report.evaluate("joined.step")
    own = report.evaluate("data.companies.map((company) => company.cluster)")
    assert len(set(zip(joined, own, strict=True))) == len(set(own)) == len(set(joined))
    report.get_by_role("button", name="The run's own").click()
    assert figures() == start


def test_pages_of_clusters_and_latents(run: cs.Run, report: Any) -> None:
    report.locator("#cluster-table a").first.click()
    report.get_by_role("heading", name="Cluster 0").wait_for()
    tickers = report.locator("#page table").last.locator("tbody tr td:first-child").all_text_contents()
    assert tickers == run.clusters()["tickers"].iloc[0].split()
    assert report.locator("#report").is_hidden()
    named = report.evaluate("data.clusters.findIndex((cluster) => cluster.latents.length)")
    report.evaluate(f"location.hash = 'cluster/{named}'")
    report.get_by_role("heading", name=f"Cluster {named}").wait_for()
    report.locator("#page a.chip").first.click()
    report.get_by_role("heading", name="Strongest passages").wait_for()
    assert report.locator("#page mark").count() >= 1
    assert report.locator("#page svg rect").count() == 24
    assert "label made from" in report.locator("#page dl").inner_text()
    report.go_back()
    report.get_by_role("heading", name=f"Cluster {named}").wait_for()
    report.get_by_role("link", name="← report").click()
    assert report.locator("#report").is_visible()


def test_things_are_counted_in_words(report: Any) -> None:
    assert report.evaluate("[0, 1, 2].map((n) => counted(n, 'time'))") == ["0 times", "1 time", "2 times"]
    assert report.evaluate("counted(1, 'company', 'companies')") == "1 company"
    titles = report.evaluate("[...histogram([1, 2], 1).querySelectorAll('title')].map((title) => title.textContent)")
    assert [title.split(",")[0] for title in titles] == ["1 company", "2 companies"]
    report.evaluate("map.groups = [{ name: 'all but one', size: spot.length - 1, kind: 0 }]; drawLegend()")
    assert report.locator("#legend p").inner_text().startswith("1 company in no group (small dot).")
    once = report.evaluate("Object.entries(data.latents).find(([, latent]) => latent.named === 1)?.[0] ?? null")
    if once is not None:
        report.evaluate(f"location.hash = 'latent/{once}'")
        assert "1 time\n" in report.locator("#page dl").inner_text() + "\n"


@pytest.mark.parametrize(
    "hash_", ["#%E0%A4%A", "#cluster/length", "#cluster/99999", "#latent/constructor", "#company/none", "#x/y"]
)
def test_a_wrong_address_shows_the_report(report: Any, hash_: str) -> None:
    report.evaluate(f"location.hash = {hash_!r}")
    report.wait_for_timeout(50)
    assert report.locator("#report").is_visible()
    assert report.locator("#page").is_hidden()


def test_tables_filter(run: cs.Run, report: Any) -> None:
    rows = report.locator("#cluster-table tbody tr")
    ticker = run.clusters()["tickers"].iloc[1].split()[0]
    report.locator("#filter-clusters").fill(ticker.lower())
    shown = [row.inner_text() for row in rows.all() if row.is_visible()]
    assert 1 <= len(shown) < rows.count()
    assert any(text.startswith("cluster 1") for text in shown)


def test_a_company_called_script_does_nothing(run: cs.Run, report: Any) -> None:
    if HOSTILE not in set(run.companies["company"]):
        pytest.skip("this run has no such company")
    find(report, "BA0")
    assert HOSTILE in report.locator("#company h3").inner_text()
    assert "</script>" in report.locator("#company .description").inner_text()
    report.locator('#plane [data-i="0"]').hover(force=True)
    for place in ("cluster", "latent"):
        for number in report.evaluate(f"Object.keys(data.{place}s)"):
            report.goto(f"{report.url.partition('#')[0]}#{place}/{number}")
            report.locator("#page h1").wait_for()
    assert report.evaluate("window.hacked") is None
    assert report.locator("img").count() == 0
    assert report.locator("script").count() == 2


def test_the_policy_stops_foreign_script_and_network(report: Any, open_page: Any) -> None:
    report.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.hacked = 9';"
        " document.body.append(s);"
        " const i = document.createElement('img'); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i);"
        " return fetch('http://127.0.0.1:9/').catch(() => 0); }"
    )
    assert report.evaluate("window.hacked") is None
    refused = [text for text in open_page.complaints if "Content Security Policy" in text]
    assert len(refused) >= 3
    open_page.complaints.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desk", "phone"])
def test_it_fits_and_contrasts(run: cs.Run, open_page: Any, first: str, scheme: str, size: str) -> None:
    page = open_page(f"file://{run.root / 'report.html'}", viewport=SIZES[size], color_scheme=scheme)
    page.wait_for_selector("html[data-ready]")
    find(page, first)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    colours = page.evaluate(
        "() => { const s = getComputedStyle(document.documentElement);"
        " return Object.fromEntries('paper ink quiet accent soft c0 c1 c2 c3 c4 c5 c6'.split(' ')"
        ".map((name) => [name, s.getPropertyValue('--' + name).trim()])); }"
    )
    for name, least in {"ink": 7.0, "quiet": 4.5, "accent": 4.5}.items():
        assert min(contrast(colours[name], colours[ground]) for ground in ("paper", "soft")) >= least, name
    for name in ("c0", "c1", "c2", "c3", "c4", "c5", "c6"):
        assert contrast(colours[name], colours["soft"]) >= 3.0, name  # with shape and dash beside colour


def test_everything_is_reached_by_tab(report: Any) -> None:
    reached = []
    for _ in range(60):
        report.keyboard.press("Tab")
        reached.append(report.evaluate("document.activeElement.id || document.activeElement.getAttribute('class')"))
    assert reached[0] == "skip"
    wanted = ("search", "colour", "closer", "plane", "filter-clusters")
    assert [name for name in dict.fromkeys(reached) if name in wanted] == list(wanted)
    unnamed = report.evaluate(
        "() => [...document.querySelectorAll('input, select, button')]"
        ".filter((node) => !(node.labels && node.labels.length) && !node.getAttribute('aria-label')"
        " && !node.textContent.trim()).map((node) => node.outerHTML)"
    )
    assert unnamed == []


def test_it_prints_in_light_without_controls(run: cs.Run, open_page: Any) -> None:
    page = open_page(f"file://{run.root / 'report.html'}", viewport={"width": 794, "height": 1123}, color_scheme="dark")
    page.wait_for_selector("html[data-ready]")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("header").is_hidden()
    assert page.locator("#headline table").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.pdf(format="A4")[:5] == b"%PDF-"


def test_headline_figures_on_the_screen_are_the_summarys(run: cs.Run, report: Any) -> None:
    summary = json.loads((run.root / "summary.json").read_text())
    for place, row in enumerate(summary["benchmark"]):
        cell = report.locator(f'[data-from="benchmark.{place}.pair_weighted"]')
        assert cell.inner_text() == f"{row['pair_weighted']:.3f}"


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)
