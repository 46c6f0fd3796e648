"""The rail: the sections' names in the order of the pass; a click opens one and goes there."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from gpt.ui.internals.section import Section

RAIL_JS = """
const sectionOf = (stop) => document.querySelector('#int-section-' + stop.dataset.section);
const followers = () => [...document.querySelectorAll('#int-sections > .follows')];
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
const tell = (keys) => trigger('select', {sections: [...keys], told: ++told});
const keyOf = (section) => section.id.replace('int-section-', '');
const seeing = new IntersectionObserver((changes) => changes.forEach((change) => {
  const key = keyOf(change.target);
  if (!change.isIntersecting) return inView.delete(key);
  inView.add(key);
  change.target.classList.remove('late');
  clearTimeout(telling);
  telling = setTimeout(tell, 60, inView);
}), {rootMargin: '150px'});
const look = () => {
  const sections = document.querySelectorAll('#int-sections > [id^=int-section-]');
  if (!sections.length) return setTimeout(look, 50);
  sections.forEach((section) => seeing.observe(section));
  const chips = document.querySelector('#int-chips');
  let words = chips.textContent;
  new MutationObserver(() => {
    if (words !== chips.textContent) followers().forEach((each) => each.classList.remove('late'));
    words = chips.textContent;
  }).observe(chips, {childList: true, subtree: true});
  const moved = () => followers().forEach(
    (each) => each.classList.toggle('late', !inView.has(keyOf(each))));
  chips.addEventListener('click', moved);
  document.querySelector('#int-position').addEventListener('input', moved);
};
look();
// So a printed page would show another token's numbers there: it asks to be printed once more.
addEventListener('beforeprint', () => {
  const late = followers().filter((each) => each.matches('.late'));
  if (late.length) tell([...inView, ...late.map(keyOf)]);
});
addEventListener('afterprint', () => {
  followers().forEach((each) => each.classList.remove('late'));
  tell(inView);
});
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
