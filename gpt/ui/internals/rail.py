"""The rail: the sections' names in the order of the pass; a click opens one and goes there."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from gpt.ui.internals.section import Section

RAIL_JS = """
const sectionOf = (stop) => document.querySelector('#int-section-' + stop.dataset.section);
const stops = () => [...element.querySelectorAll('[data-section]')];
const mark = () => {
  const seen = stops().filter((stop) => sectionOf(stop)?.getBoundingClientRect().top < 200);
  stops().forEach((stop) => {
    if (stop === (seen.at(-1) ?? stops()[0])) stop.setAttribute('aria-current', 'step');
    else stop.removeAttribute('aria-current');
  });
};
let waiting = false;
// What comes into view is told, for what is not in view is not computed at a click.
const inView = new Set();
let telling, told = 0;
const seeing = new IntersectionObserver((changes) => changes.forEach((change) => {
  const key = change.target.id.replace('int-section-', '');
  if (!change.isIntersecting) return inView.delete(key);
  inView.add(key);
  clearTimeout(telling);
  telling = setTimeout(() => trigger('select', {sections: [...inView], told: ++told}), 60);
}), {rootMargin: '150px'});
const look = () => {
  const sections = document.querySelectorAll('#int-sections > [id^=int-section-]');
  if (!sections.length) return setTimeout(look, 50);
  sections.forEach((section) => seeing.observe(section));
};
look();
addEventListener('scroll', () => {
  if (!waiting) requestAnimationFrame(() => { waiting = false; mark(); });
  waiting = true;
}, {passive: true});
"""


def rail_html(sections: Sequence[Section]) -> str:
    """A button for each name, which goes to the first section that stands under it; HTML."""
    first: dict[str, Section] = {}
    for section in sections:
        first.setdefault(section.rail, section)
    stops = "".join(
        f'<button type="button" data-section="{section.key}">{escape(name)}</button>'
        for name, section in first.items()
    )
    return f'<nav class="rail" aria-label="Sections in the order of the pass">{stops}</nav>'
