// What gradio's page does not tell a screen reader: sections are headings and say whether they are
// open, a plot is a picture named by the sentence above it, elements of class "live" are announced.
// And the way to a section of Internals, for whatever has its key as data-section, in any tab.
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
  // A result is announced once it is there, not while it grows, by a line that is never seen.
  const results = [['#gen-stats', '#gen-stop'], ['#train-progress', '#train-stop:not(:disabled)'], ['#int-message .html-container']];
  const announced = {};
  const announce = () => results.forEach(([place, going = 'nothing']) => {
    const shown = document.querySelector(place), text = shown?.textContent.trim();
    if (!shown?.checkVisibility() || document.querySelector(going)?.checkVisibility() || text === announced[place]) return;
    announced[place] = text;
    document.getElementById('page-said').textContent = text;
  });
  const tell = () => {
    if (!document.getElementById('page-said')) {
      const line = document.createElement('div');
      Object.assign(line, {id: 'page-said', className: 'unseen', role: 'status'});
      document.querySelector('.gradio-container')?.append(line);
    } else announce();
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
  document.addEventListener('click', (event) => {
    const drawn = event.target.closest?.('[data-drawn]');
    if (drawn) gptPage.showPart(`#arch-map [data-shown=${drawn.dataset.drawn}]`);
    const wanted = event.target.closest?.('[data-section]');
    if (!wanted) return;
    if (!document.getElementById('int-rail')?.checkVisibility()) {
      gptPage.openTab('internals');
    }
    gptPage.section(wanted.dataset.section);
  });
  // Paper is light.
  let dark = false;
  addEventListener('beforeprint', () => {
    dark = document.body.classList.contains('dark');
    document.body.classList.remove('dark');
  });
  addEventListener('afterprint', () => document.body.classList.toggle('dark', dark));
  let asked = false;
  new MutationObserver(() => {
    if (asked) return;
    asked = true;
    setTimeout(() => { asked = false; tell(); }, 100);
  }).observe(document, {childList: true, subtree: true, attributes: true, attributeFilter: ['class']});
})();

// The scripts of components, which gradio gives their element, `trigger(event, data)` and
// `watch('value', then)`.
const gptPage = {
  openTab(name) {
    [...document.querySelectorAll('[role=tab]')].find(
      (each) => each.textContent.trim().toLowerCase() === name)?.click();
  },
  // A click on what has the attribute `key` is told with all of its data-* values. A view that is drawn
  // again would drop the keyboard's focus: it goes back to the same one.
  choose(element, trigger, watch, key) {
    let focused = null;
    element.addEventListener('click', (event) => {
      const chosen = event.target.closest(`[${key}]`);
      if (chosen) trigger('select', {...chosen.dataset});
    });
    element.addEventListener('focusin', (event) => {
      const button = event.target.closest(`[${key}]`);
      focused = button && button.getAttribute(key);
    });
    element.addEventListener('focusout', (event) => { if (event.relatedTarget) focused = null; });
    watch('value', () => {
      if (focused === null || document.activeElement !== document.body) return;
      element.querySelector(`[${key}="${focused}"]`)?.focus({preventScroll: true});
    });
  },
  // A row of chips is one Tab stop; arrow keys, Home and End move in it, the space bar asks for the
  // next token. The chip that has the focus, or was clicked or tapped, is marked, and its position
  // goes with `select`, once for an arrow key that is held: answers to many come in any order.
  // The panel tells which one it shows, unless another was asked for meanwhile.
  // `watch` runs after gradio has put the server's attributes back, at each update of the row; until a
  // chip is chosen, a row with a scroll bar of its own shows the newest.
  roving(element, trigger, watch) {
    let at = null, before = 0, asking, asked = null;
    const chips = () => [...element.querySelectorAll('.chip')];
    const mark = () => chips().forEach((chip, i) => {
      chip.tabIndex = i === (at ?? 0) ? 0 : -1;
      chip.classList.toggle('selected', i === at);
    });
    const from = (event) => chips().indexOf(event.target.closest('.chip'));
    ['click', 'focusin'].forEach((name) => element.addEventListener(name, (event) => {
      const i = from(event);
      if (i < 0 || (i === at && name === 'focusin')) return;
      const known = i === at && chips()[i].title === element.dataset.told;
      at = i;
      mark();
      element.dataset.told = chips()[i].title;
      if (known) return;
      clearTimeout(asking);
      asked = i;
      asking = setTimeout(() => trigger('select', {position: i}), 80);
    }));
    element.addEventListener('shown', ({detail}) => {
      if (asked !== null && asked !== detail) return;
      [at, asked] = [detail, null];
      mark();
      const box = element.closest('.block'), chip = chips()[at];
      if (chip && box) box.scrollTop = chip.offsetTop - box.clientHeight / 2;
    });
    element.addEventListener('keydown', (event) => {
      const here = from(event), last = chips().length - 1;
      const to = {ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: last}[event.key];
      if (here < 0 || (to === undefined && event.key !== ' ')) return;
      event.preventDefault();
      if (event.key === ' ') document.getElementById('gen-next')?.click();
      else chips()[Math.min(Math.max(to, 0), last)].focus();
    });
    mark();
    watch('value', () => {
      if (at !== null && !chips()[at]) at = null;
      mark();
      const box = element.closest('.block');
      if (at === null && box && before) box.scrollTop = box.scrollHeight;
      before = chips().length;
    });
  },
  // The chip that has the focus, or was clicked, is told in the line below its row.
  tell(element, panel) {
    ['click', 'focusin'].forEach((name) => element.addEventListener(name, (event) => {
      const chip = event.target.closest('.chip');
      if (chip) document.querySelector(`#${panel} p`).textContent = chip.title;
    }));
  },
  // Generate and Stop take each other's place: the one that appears takes the focus of the one that
  // goes, else the keyboard would start again at the top of the page.
  keepFocus(element) {
    const find = (id) => document.getElementById(id);
    new MutationObserver(() => {
      const [run, stop] = [find('gen-run'), find('gen-stop')], at = document.activeElement;
      if (!run || !stop || (at !== run && at !== stop)) return;
      const shown = [run, stop].find((button) => button.checkVisibility());
      if (shown && shown !== at) shown.focus();
    }).observe(element.closest('#gen-buttons'), {attributes: true, childList: true, subtree: true});
  },
  // The panel of a chosen token: another one in its place, which then has the focus, a guess, and why.
  panel(element, trigger, watch) {
    let used = false;
    watch('value', () => {
      const shown = element.querySelector('[data-at]');
      const detail = shown && Number(shown.dataset.at);
      document.querySelector('#gen-chips')?.dispatchEvent(new CustomEvent('shown', {detail, bubbles: true}));
      if (shown && document.body.classList.contains('presenter')) element.scrollIntoView({block: 'nearest'});
      if (!shown || !used) return;
      used = false;  // its row went, and the focus with it
      gptPage.when('#gen-chips .selected', (chip) => {
        if (document.activeElement === document.body) chip.focus({preventScroll: true});
      });
    });
    element.addEventListener('click', (event) => {
      const use = event.target.closest('[data-token]'), pick = event.target.closest('[data-guess]');
      if (use) trigger('select', {token: Number(use.dataset.token)});
      used ||= Boolean(use);
      if (pick) trigger('input', {token: Number(pick.dataset.guess), text: ''});
      if (event.target.closest('#gen-why')) trigger('click', {});
    });
    element.addEventListener('submit', (event) => {
      event.preventDefault();
      trigger('input', {text: event.target.elements.guess.value, token: -1});
    });
  },
  // A version beside others becomes the text, at the chip that was clicked.
  take(element, trigger) {
    element.addEventListener('click', (event) => {
      const column = event.target.closest('[data-column]'), chip = event.target.closest('.chip');
      if (!event.target.closest('button') || !column) return;
      const position = chip ? Number(chip.dataset.position) : null;
      trigger('select', {column: Number(column.dataset.column), position});
      document.getElementById('gen-output').scrollIntoView({block: 'nearest'});
    });
  },
  // The script of the note: a text in it is copied, an address goes to the address bar too, and the
  // text of a link that was opened is written again.
  note(element, trigger, watch) {
    const find = (selector) => document.querySelector(selector);
    const writeLinked = ({prompt, chip, tab}) => {
      let left = false;  // who chooses a tab meanwhile is not sent to another
      document.addEventListener('click', (event) => {
        left ||= event.isTrusted && Boolean(event.target.closest('[role=tab]'));
      });
      const filled = setInterval(() => {
        if (find('#gen-prompt textarea')?.value !== prompt) return;
        clearInterval(filled);
        trigger('input');
      }, 100);
      const show = () => {
        if (left) return;
        const chosen = find(`#gen-chips [data-position="${chip}"]`), open = () => gptPage.openTab(tab);
        if (!chosen) return open();
        chosen.click();  // Internals opens at what the server has heard of
        gptPage.when('#gen-why', open);
      };
      // Called when the run did not fail. It is over when Stop has gone, and may have been stopped
      // before the first token.
      gptPage.linked = () => gptPage.when('#gen-run', () => gptPage.when('#gen-chips .chip', show, 10));
    };
    watch('value', () => {
      const box = element.querySelector('textarea'), said = element.querySelector('.copied');
      if (box) navigator.clipboard?.writeText(box.value).then(
        () => { said.textContent = `${said.dataset.what} is copied.`; }, () => box.select());
      if (box?.dataset.link) history.replaceState(null, '', box.value);
      const asked = element.querySelector('[data-linked]');
      if (asked) writeLinked(JSON.parse(asked.dataset.linked));
    });
    element.addEventListener('click', (event) => {
      event.target.closest('.close')?.closest('.note').remove();
      if (event.target.matches('textarea')) event.target.select();
    });
  },
  // One card is shown; its tab, its section and its place are too. Escape leaves the tour, which
  // leaves the settings as it found them.
  tour(element, trigger) {
    const cards = [...element.querySelectorAll('.tour-card')];
    const find = (selector) => document.querySelector(selector);
    let at = -1, found = {};
    const set = (selector, value) => {
      const input = find(selector);
      if (!input) return;
      found[selector] ??= input.value;
      input.value = value;
      ['input', 'change', 'blur'].forEach(
        (name) => input.dispatchEvent(new Event(name, {bubbles: true})));
    };
    const point = (place, tries = 50) => {
      const shown = find(place);
      const folded = shown?.closest('.gr-accordion')?.querySelector('.label-wrap:not(.open)');
      if (folded?.checkVisibility()) folded.click();
      else if (shown?.checkVisibility()) {
        shown.classList.add('tour-here');
        return gptPage.stay(shown);  // which scrolls there at once
      }
      const again = () => cards[at]?.dataset.goes.includes(place) && point(place, tries - 1);
      if (tries) setTimeout(again, 100);
    };
    const go = (to) => {
      document.querySelectorAll('.tour-here').forEach((each) => each.classList.remove('tour-here'));
      at = to < cards.length ? to : -1;
      cards.forEach((card, i) => {
        card.hidden = i !== at;
        const next = card.querySelector('.next');
        if (i === at) next.id = 'tour-next'; else next.removeAttribute('id');
        next.hidden = i === cards.length - 1;
        card.querySelector('.back').hidden = i === 0;
      });
      if (at < 0) {
        Object.entries(found).forEach(([selector, value]) => set(selector, value));
        found = {};
        return find('#tour-start')?.focus();
      }
      const {tab, at: place, sets} = JSON.parse(cards[at].dataset.goes);
      gptPage.openTab(tab);
      Object.entries(sets || {}).forEach(([selector, value]) => set(selector, value));
      if (place) point(place);
      cards[at].querySelector('h2').focus({preventScroll: true});
    };
    document.addEventListener('click', (event) => { if (event.target.closest('#tour-start')) go(0); });
    document.addEventListener('keydown', (event) => { if (event.key === 'Escape' && at >= 0) go(-1); });
    element.addEventListener('click', (event) => {
      if (event.target.matches('.next')) go(at + 1);
      if (event.target.matches('.back')) go(at - 1);
      if (event.target.matches('.leave')) go(-1);
    });
    element.addEventListener('submit', (event) => {
      event.preventDefault();
      trigger('submit', {given: [...element.querySelectorAll('input')].map((input) => input.value)});
    });
  },
  // What the server says to the answers stands in the last card.
  said(element, watch) {
    watch('value', () => {
      document.querySelector('.tour-card .said').innerHTML = element.innerHTML;
    });
  },
  presenter() {
    const on = document.body.classList.toggle('presenter');
    document.getElementById('presenter').setAttribute('aria-pressed', on);
    document.onkeydown = on ? (event) => { if (event.key === 'Escape') gptPage.presenter(); } : null;
    dispatchEvent(new Event('resize'));
  },
  // Where the visitor is, in the place of the first two arguments: the address and the tab.
  where(_, __, ...rest) {
    const tab = document.querySelector('[role=tab][aria-selected=true]');
    return [location.origin + location.pathname, tab.textContent.trim().toLowerCase(), ...rest];
  },
  // What is to be pressed in Internals when its pass over a new text is done.
  next: null,
  pressNext() {
    document.querySelector(gptPage.next)?.click();
    gptPage.next = null;
  },
  // A section of Internals is opened and shown, as soon as the tab is drawn.
  section(key) {
    const first = !document.getElementById('int-rail');
    gptPage.when('#int-section-' + key, (section) => {
      const bar = section.querySelector(':scope > button');
      const open = () => bar.classList.contains('open') || bar.click();
      open();
      if (first) setTimeout(open, 500);  // gradio draws the tab twice then, with sections as at first
      const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
      // On a phone the controls fill a screen: what they change is shown.
      const shown = (innerWidth <= 640 && section.querySelector('.beside > :last-child')) || section;
      shown.scrollIntoView({block: 'start', behavior: still ? 'auto' : 'smooth'});
      bar.focus({preventScroll: true});
      setTimeout(() => gptPage.stay(shown), still ? 0 : 500);
    });
  },
  // The way back, to a part in the drawing of Architecture that leads to the section: the chosen one,
  // else the first.
  showPart(parts) {
    gptPage.openTab('architecture');
    gptPage.when(parts, (first) => {
      const part = document.querySelector(parts + '[aria-pressed=true]') ?? first;
      part.click();
      part.focus({preventScroll: true});
      gptPage.stay(document.querySelector('#arch-preset'));
    });
  },
  // What is filled above it moves it away: it is brought back until the visitor does something.
  stay(shown) {
    const watch = new ResizeObserver(() => shown.scrollIntoView({block: 'start', behavior: 'instant'}));
    watch.observe(shown.closest('[role=tabpanel]') ?? document.body);
    const end = () => watch.disconnect();
    ['wheel', 'pointerdown', 'keydown'].forEach((name) => addEventListener(name, end, {once: true}));
    setTimeout(end, 15000);
  },
  // What a button leads to in another tab, as soon as that is drawn: within ten seconds.
  when(selector, then, tries = 100) {
    const found = document.querySelector(selector);
    if (found?.checkVisibility()) then(found);
    else if (tries) setTimeout(() => gptPage.when(selector, then, tries - 1), 100);
  },
  // Another tab's button lets Generation write, from the top of the page.
  write() {
    gptPage.when('#gen-run', (button) => { scrollTo(0, 0); button.click(); });
  },
  // The rail marks the section that one reads and tells which ones are in view.
  rail(element, trigger) {
    const sectionOf = (stop) => document.querySelector('#int-section-' + stop.dataset.section);
    const followers = () => [...document.querySelectorAll('#int-sections > .follows')];
    const stops = () => [...element.querySelectorAll('[data-section]')];
    const mark = () => {
      const seen = stops().filter((stop) => sectionOf(stop)?.getBoundingClientRect().top < 200);
      stops().forEach((stop) => {
        if (stop !== (seen.at(-1) ?? stops()[0])) return stop.removeAttribute('aria-current');
        stop.setAttribute('aria-current', 'step');
        const row = stop.parentElement;  // a phone's, which scrolls
        row.scrollLeft = stop.offsetLeft - row.offsetLeft - row.clientWidth / 2 + stop.clientWidth / 2;
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
  },
  // plotly, 1.3 MB for two figures of a section that is closed at first, is fetched once a text was
  // read and the page has nothing else to do; where a visitor saves data, with the first figure.
  plotly() {
    const link = document.querySelector('[data-plotly]');
    if (!link || link.rel || navigator.connection?.saveData) return;
    Object.assign(link, {href: link.dataset.plotly, rel: 'modulepreload'});  // which does not run it
  },
  // The strip of tokens scrolls: the chosen one shall be seen.
  strip(element, watch) {
    watch('value', () => {
      (window.requestIdleCallback ?? setTimeout)(gptPage.plotly);
      const box = document.querySelector('#int-chips'), chosen = element.querySelector('.selected');
      const edge = (each) => each.getBoundingClientRect();
      if (!chosen) return;
      box.scrollLeft += edge(chosen).left - edge(box).left - box.clientWidth / 2;
      box.scrollTop += edge(chosen).top - edge(box).top - box.clientHeight / 2;
    });
  },
  // The word that the pointer or the focus is on shows its arcs; one that was clicked keeps them.
  arcs(element, watch) {
    let kept = null;
    const show = (at) => element.querySelectorAll('[data-from]').forEach((part) => {
      part.classList.toggle('on', part.dataset.from === String(at));
    });
    const at = (event) => event.target.closest?.('.word')?.dataset.from;
    const start = () => element.querySelector('.arcs')?.dataset.at;
    ['mouseover', 'focusin'].forEach((name) => element.addEventListener(name, (event) => {
      if (at(event) !== undefined) show(at(event));
    }));
    ['click', 'keydown'].forEach((name) => element.addEventListener(name, (event) => {
      if (at(event) !== undefined && [undefined, 'Enter', ' '].includes(event.key)) {
        kept = at(event);
        show(kept);
        if (event.key) event.preventDefault();
      }
    }));
    ['mouseleave', 'focusout'].forEach((name) => element.addEventListener(name, () => {
      show(kept ?? start());
    }));
    const bring = () => {  // on a phone the row scrolls: the word looked from shall be seen
      const box = element.querySelector('.arcs'), word = element.querySelector('.word.on');
      if (box && word) box.scrollLeft = word.lastChild.getAttribute('x') - box.clientWidth / 2;
    };
    watch('value', () => { kept = null; bring(); });
  },
  // What a visitor unfolded stays unfolded when the view is drawn again, a wide table of a phone
  // shows the chosen column, and a long list of bars the row that the words are about.
  keepUnfolded(element, watch) {
    const unfolded = new Set(), titled = (fold) => fold.querySelector('summary').textContent;
    element.addEventListener('toggle', ({target}) => {
      target.open ? unfolded.add(titled(target)) : unfolded.delete(titled(target));
    }, true);
    watch('value', () => {
      element.querySelectorAll('details').forEach((fold) => { fold.open = unfolded.has(titled(fold)); });
      element.querySelectorAll('.heat th.here').forEach((column) => {
        const box = column.closest('.heat');
        box.scrollLeft = column.offsetLeft - box.clientWidth / 2;
      });
      element.querySelectorAll('.bars .here .name').forEach((name) => {
        const box = name.closest('.bars');
        const below = name.getBoundingClientRect().top - box.getBoundingClientRect().top;
        box.scrollTop += below - box.clientHeight / 2;
      });
    });
  },
};

// gradio's list of a dropdown stays open, over what follows, where one tabs out of it.
addEventListener('keydown', (event) => {
  if (event.key === 'Tab' && event.target.matches('[role=combobox]')) event.stopPropagation();
}, true);
