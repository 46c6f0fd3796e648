"""What shuts somebody out of a tab, by mouse, finger, key or screen reader: axe-core and more."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from playwright.sync_api import Page, TimeoutError
from watched import settle

axe = pytest.importorskip("axe_playwright_python.sync_playwright")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
CONTRAST = "color-contrast"
# Contrast is most of axe's work, a tenth of a second for a hundred texts. Texts that are alike in
# all their classes, of which a page has hundreds, are emptied but for the first ones. What holds no
# text then goes from tables and drawings, since axe looks for what lies under what: a third of it.
THIN = """() => {
  const seen = {};
  document.querySelectorAll('.main-svg > *').forEach((each) => each.remove());
  for (const each of document.querySelectorAll('#shown *')) {
    if (each.childElementCount) continue;
    const key = [];
    for (let at = each; at.id !== 'shown'; at = at.parentElement)
      for (const name of ['class', 'aria-pressed', 'disabled'])
        key.push(at.tagName, at.getAttribute(name));
    const count = seen[key.join()] = (seen[key.join()] || 0) + 1;
    if (count > (each.closest('[style]') ? 8 : 2)) each.textContent = '';
  }
  for (const each of document.querySelectorAll('#shown :is(svg *, tr, td *, bdi)'))
    if (!each.textContent.trim() && !each.querySelector('button, input')) each.remove();
}"""
# The tab's panel gets a name for axe, which reads hidden panels too if it has to read the page.
# Thousands of shapes say nothing to its rules: no text, no role, not reached by key.
SHOWN = """() => {
  for (const panel of document.querySelectorAll('[role=tabpanel]'))
    panel.id = panel.checkVisibility() ? 'shown' : '';
  const told = '[role], [tabindex], [aria-label], title';
  for (const each of document.querySelectorAll('#shown svg *'))
    if (!each.textContent.trim() && !each.matches(told) && !each.querySelector(told)) each.remove();
}"""
OPEN = """() => {
  const closed = [...document.querySelectorAll('.label-wrap:not(.open)')];
  const seen = closed.filter((button) => button.checkVisibility());
  seen.forEach((button) => button.click());
  return seen.length;
}"""
# An input within a label is as large as the label; text links are as high as their line.
SMALL = """() => [...document.querySelectorAll(
  'button, input, select, summary, textarea, a.csv, [role=button]')]
  .filter((each) => each.checkVisibility() && !each.closest('[aria-hidden=true]'))
  .map((each) => [each, each.getBoundingClientRect()])
  .filter(([_, {width, height}]) => width > 2 && height > 2 && Math.min(width, height) < 23.5)
  .map(([each]) => each.outerHTML.slice(0, 120))"""
# What can be pressed or filled. Of radios of one name, and of chips in a row, one is a Tab stop, or
# the row.
CONTROLS = """[...document.querySelectorAll(
  'a[href], button, input, select, summary, textarea, [role=button]')].filter((each) =>
  each.checkVisibility({visibilityProperty: true}) && !each.disabled &&
  !each.closest('[aria-hidden=true]'))"""
WATCH = f"""() => {{
  window.met ?? addEventListener('focusin', ({{target}}) => met.add(target));
  window.met = new Set();
  {CONTROLS}[0].focus();
}}"""
UNMET = f"""() => {{
  document.activeElement.blur();  // which closes the list of a dropdown
  const beside = ({{parentElement: row}}) => [row, ...row.children];
  const row = (each) => each.matches('.chip[tabindex="-1"]') ? beside(each)
    : each.type === 'radio' ? document.getElementsByName(each.name) : [each];
  return {CONTROLS}.filter((each) => ![...row(each)].some((one) => met.has(one)))
    .map((each) => `not reached by Tab: ${{each.outerHTML.slice(0, 120)}}`);
}}"""
UNTOLD = """() => [
  ...[...document.querySelectorAll('.label-wrap')].filter((button) =>
    button.getAttribute('aria-expanded') !== String(button.classList.contains('open')) ||
    button.previousElementSibling?.getAttribute('role') !== 'heading'),
  ...document.querySelectorAll('.js-plotly-plot:not([role=img][aria-label])'),
].map((each) => each.outerHTML.slice(0, 120))"""


def axe_faults(page: Page, rules: list[str], within: Any, without: str = "") -> list[str]:
    left_out = {without: {"enabled": False}} if without else {}
    options = {"resultTypes": ["violations"], "runOnly": rules, "rules": left_out}
    return [
        f"{rule['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for rule in axe.Axe().run(page, within, options).response["violations"]
        for node in rule["nodes"]
    ]


def unreached(page: Page) -> list[str]:
    """The controls in sight to which the Tab key does not lead from the first one on."""
    page.evaluate(WATCH)
    met = 0
    while (now := page.evaluate("met.size")) > met:  # else it is at the end, or caught in a circle
        met = now
        for _ in range(20):
            page.keyboard.press("Tab")
    return page.evaluate(UNMET)


def faults_around_the_tabs(page: Page) -> list[str]:
    return axe_faults(page, RULES, {"include": [["html"]], "exclude": [["[role=tabpanel]"]]})


def faults_of_the_tab(page: Page) -> list[str]:
    """Of the tab that is shown, all its sections opened, in light and in dark."""
    settle(page)
    while page.evaluate(OPEN):
        settle(page)
    with suppress(TimeoutError):  # page.js names things a moment later
        page.wait_for_function(f"() => ({UNTOLD})().length == 0", timeout=10_000)
    found = page.evaluate(SMALL) + page.evaluate(UNTOLD) + unreached(page)
    page.evaluate(SHOWN)
    found += axe_faults(page, RULES, "#shown", CONTRAST)
    page.evaluate(THIN)
    found += axe_faults(page, [CONTRAST], "#shown")
    page.evaluate("document.body.classList.add('dark')")
    found += [f"dark: {line}" for line in axe_faults(page, [CONTRAST], "#shown")]
    page.evaluate("document.body.classList.remove('dark')")
    return found
