// What gradio's page does not tell a screen reader: sections are headings and say whether they are
// open, a plot is a picture named by the sentence above it, elements of class "live" are announced.
(() => {
  const name = (element, text) => {
    if (element.getAttribute('aria-label') !== text) element.setAttribute('aria-label', text);
  };
  const section = (button) => {
    const heading = button.previousElementSibling;
    const titled = heading && heading.matches('.unseen[role=heading]') ? heading : document.createElement('div');
    if (titled !== heading) {
      titled.className = 'unseen';
      titled.setAttribute('role', 'heading');
      let level = 2;
      for (let at = button.parentElement; (at = at.parentElement.closest('.gr-accordion')); ) level += 1;
      titled.setAttribute('aria-level', level);
      button.before(titled);
    }
    name(titled, button.firstElementChild.textContent);
    const open = String(button.classList.contains('open'));
    if (button.getAttribute('aria-expanded') !== open) button.setAttribute('aria-expanded', open);
  };
  const plot = (figure) => {
    const within = figure.closest('.gr-accordion, .tabitem') || document.body;
    const before = [...within.querySelectorAll('.say')].filter(
      (say) => say.compareDocumentPosition(figure) & Node.DOCUMENT_POSITION_FOLLOWING);
    const label = figure.closest('.block').querySelector('[data-testid="block-label"]');
    figure.setAttribute('role', 'img');
    name(figure, (before.at(-1) || label || figure).textContent.trim());
  };
  const tell = () => {
    document.querySelectorAll('.label-wrap').forEach(section);
    document.querySelectorAll('[data-testid=plotly]').forEach(plot);
    document.querySelectorAll('.empty[aria-label]:not([role])').forEach((box) => box.setAttribute('role', 'img'));
    document.querySelectorAll('.live:not([aria-live])').forEach((box) => box.setAttribute('aria-live', 'polite'));
  };
  // What is typed beside a slider stays: the server's line is about it. Gradio would put the nearest
  // possible number in its place when the focus leaves.
  document.addEventListener('blur', (event) => {
    if (event.target.matches?.('input[type=number]')) event.stopImmediatePropagation();
  }, true);
  let asked = false;
  new MutationObserver(() => {
    if (asked) return;
    asked = true;
    setTimeout(() => { asked = false; tell(); }, 100);
  }).observe(document, {childList: true, subtree: true, attributes: true, attributeFilter: ['class']});
})();
