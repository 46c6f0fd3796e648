"""Every tab for everyone: axe-core finds nothing, by mouse, by finger and by screen reader."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page
from watched import watched_page

axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytestmark = [pytest.mark.browser, pytest.mark.flaky(reruns=1)]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# Hundreds of alike, and pictures with a name. Taken out: axe reads what it is told to leave out.
THIN = """() => document.querySelectorAll(
  'tr:not([class]):nth-child(n+8), .chips > :nth-child(n+16), .main-svg > *'
).forEach((each) => each.remove())"""
STILL = """() => new Promise((done) => {
  let timer;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => { seen.disconnect(); done(); }, 500);
  };
  const seen = new MutationObserver(wait);
  seen.observe(document.body, {childList: true, subtree: true, characterData: true});
  wait();
})"""
OPEN = """() => {
  const closed = [...document.querySelectorAll('.label-wrap:not(.open)')];
  const seen = closed.filter((button) => button.checkVisibility());
  seen.forEach((button) => button.click());
  return seen.length;
}"""
# An input within a label is as large as the label; text links are as high as their line.
SMALL = """() => [...document.querySelectorAll('button, input, select, textarea, a.csv')]
  .filter((each) => each.checkVisibility() && !each.closest('[aria-hidden=true]'))
  .map((each) => [each, each.getBoundingClientRect()])
  .filter(([_, {width, height}]) => width > 2 && height > 2 && Math.min(width, height) < 23.5)
  .map(([each]) => each.outerHTML.slice(0, 120))"""
UNTOLD = """() => [
  ...[...document.querySelectorAll('.label-wrap')].filter((button) =>
    button.getAttribute('aria-expanded') !== String(button.classList.contains('open')) ||
    button.previousElementSibling?.getAttribute('role') !== 'heading'),
].map((each) => each.outerHTML.slice(0, 120))"""


def axe_faults(page: Page, rules: list[str]) -> list[str]:
    options = {"resultTypes": ["violations"], "runOnly": rules}
    return [
        f"{rule['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for rule in axe.Axe().run(page, options=options).response["violations"]
        for node in rule["nodes"]
    ]


def test_no_tab_shuts_anybody_out(browser, app_url: str) -> None:
    """34 to 108 contrast faults a tab, no heading below the first, plots without a name."""
    with watched_page(browser, f"{app_url}?__theme=light", reduced_motion="reduce") as page:
        page.add_style_tag(content="* { transition: none !important; }")  # no colour between two
        page.evaluate(STILL)
        found = {"first": axe_faults(page, RULES)}
        page.locator("#gen-max-new-tokens input[type=number]").fill("8")
        page.locator("#gen-run").click()
        page.wait_for_selector("#gen-stop:visible")
        page.wait_for_selector("#gen-run:visible")
        # Internals comes last: axe reads hidden tabs too, and it has most of the elements.
        for tab in sorted(page.get_by_role("tab").all(), key=lambda tab: "Int" in tab.inner_text()):
            tab.click()
            page.evaluate(STILL)
            while page.evaluate(OPEN):
                page.evaluate(STILL)
            name = tab.inner_text()
            found[name] = page.evaluate(SMALL) + page.evaluate(UNTOLD)
            page.evaluate(THIN)
            found[name] += axe_faults(page, RULES)
            page.evaluate("document.body.classList.add('dark')")
            found[f"{name}, dark"] = axe_faults(page, ["color-contrast"])
            page.evaluate("document.body.classList.remove('dark')")
        assert "\n".join(f"{state}: {line}" for state in found for line in found[state]) == ""
