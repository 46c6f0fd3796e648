"""The Internals tab without a browser: its endpoint, its limits, its store, what its events do."""

from __future__ import annotations

import asyncio
import threading
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError
from own_loop import run_async
from tiny_models import TINY, TinyRegistry, tiny_model

from gpt.internals.distribution import foreseen
from gpt.serving.registry import Registry
from gpt.ui.internals import InternalsTab, section_list
from gpt.ui.internals import lab as lab_module
from gpt.ui.internals.lab import MAX_TOKENS, Lab
from gpt.ui.internals.section import Desk
from gpt.ui.internals.section_list import EMPTY
from gpt.ui.internals.sections import SECTIONS
from gpt.ui.parts.errors import BUG, Blocks
from gpt.ui.parts.sentences import say
from gpt.ui.visit import Shared, Visit

TEXTUAL = replace(TINY, vocab_size=50257, context_length=160)
PROMPT = "Hello, I am a little"
WAIT = 60  # seconds; what takes longer has failed


@pytest.fixture(scope="module")
def registry():
    return TinyRegistry(
        {
            "words": tiny_model(TEXTUAL),
            "numbers": tiny_model(),
            "short": tiny_model(replace(TEXTUAL, context_length=8)),
            "deep": tiny_model(replace(TEXTUAL, n_layers=3, n_heads=2)),
        }
    )


@pytest.fixture
def lab(registry):
    return Lab(registry)


@pytest.fixture(scope="module")
def tab(registry):
    with Blocks() as demo:
        tab = InternalsTab(registry, "words", Shared())
    demo.queue(api_open=False, max_size=16)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    tab.demo, tab.url = demo, url
    yield tab
    demo.close()


@pytest.fixture(scope="module")
def client(tab):
    return Client(tab.url, verbose=False)


class Page:
    """One visitor's page: the controls as they are now, and what the last event put on it."""

    def __init__(self, tab, *opened):
        self.tab, self.shown, self.steps = tab, {}, 0
        self.desk = Desk(open={*opened})
        controls = [*tab.sections.controls, tab.prompt, tab.model, tab.position]
        self.values = {control: control.value for control in controls}

    async def event(self, handler, **event):
        before = dict(self.values)
        arguments = [SimpleNamespace(target=self.tab.chips, **event)] if event else []
        self.steps = 0
        async for step in handler({self.tab.desk: self.desk, **before}, *arguments):
            self.steps += 1
            for component, value in {} if step == gr.skip() else step.items():
                value = value["value"] if isinstance(value, dict) and "value" in value else value
                self.shown[component.elem_id] = value
                if component in self.values:
                    self.values[component] = value

    def look(self, prompt=PROMPT, model="words"):
        self.values |= {self.tab.prompt: prompt, self.tab.model: model}
        run_async(self.event(self.tab.look))

    def click(self, position):
        run_async(self.event(self.tab.move, position=position))

    async def changing(self, section, **controls):
        """The event of a section's controls, which sends the section's own and no other."""
        panel = self.tab.sections.panels[section]
        named = {panel.controls[name]: value for name, value in controls.items()}
        self.values |= named
        await self.event(self.handler(next(iter(named)), "input", "change"))

    def handler(self, component, *events):
        """The function that hears one of these events of `component`."""
        heard = {(component._id, event) for event in events}
        [fn] = [fn.fn for fn in self.tab.demo.fns.values() if heard & {*fn.targets}]
        return fn

    def pick(self, section, **picked):
        """A click on the section's first output."""
        panel = self.tab.sections.panels[section]
        run_async(self.event(self.handler(panel.output, "select"), **picked))

    def change(self, section, **controls):
        run_async(self.changing(section, **controls))

    async def acting(self, key):
        """The event of a section's button."""
        panel = self.tab.sections.panels[key]
        await self.event(self.handler(panel.button, "click"))

    def act(self, key):
        run_async(self.acting(key))


# The endpoint


def test_the_endpoint_answers_by_keyword(client, registry, tokenizer):
    result = client.predict(
        prompt=PROMPT, position=2, top_k=5, model="words", api_name="/internals"
    )
    with torch.no_grad():
        logits = registry.models["words"](torch.tensor([tokenizer.encode(PROMPT)]))[0, 2]
    best = logits.softmax(-1).topk(5)
    assert [row["id"] for row in result["top"]] == best.indices.tolist()
    assert [row["probability"] for row in result["top"]] == pytest.approx(best.values.tolist())
    assert result["tail"]["tokens"] == 50257 - 5
    assert result["tail"]["probability"] == pytest.approx(1 - best.values.sum().item())
    assert result["position"] == 2


def test_the_endpoint_reads_the_last_position_by_default(client, tokenizer):
    result = client.predict(prompt=PROMPT, api_name="/internals")
    assert result["position"] == len(tokenizer.encode(PROMPT)) - 1
    assert [token["id"] for token in result["tokens"]] == tokenizer.encode(PROMPT)


def test_the_endpoint_is_the_only_public_one_typed_and_described(client):
    """Its results were `value_19` and `value_304`, with 23 kB of the page's HTML beside them."""
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert list(endpoints) == ["/internals"]
    parameters = endpoints["/internals"]["parameters"]
    assert [(p["parameter_name"], p["python_type"]["type"]) for p in parameters] == [
        ("prompt", "str"), ("position", "int"), ("top_k", "int"), ("model", "str"),
    ]  # fmt: skip
    assert len(endpoints["/internals"]["returns"]) == 1
    assert "one position of a prompt" in endpoints["/internals"]["description"]


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"position": None}, "position is empty: use a whole number"),
        ({"position": "2"}, "position is '2': use a whole number"),
        ({"position": 99}, "position 99 is outside the prompt of 6 tokens"),
        ({"top_k": None}, "top_k is empty: use a whole number from 1 to 50"),
        ({"top_k": 1.5}, "top_k is 1.5: use a whole number from 1 to 50"),
        ({"model": None}, "model is None: use the name of a model"),
        ({"prompt": None}, "the prompt is None: use a text"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": "a" * 5_000_000}, "the prompt has 5,000,000 characters: use at most 50,000"),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_it(client, changed, line):
    """None and texts ended in a traceback; 5 MB were tokenized in the model's turn."""
    with pytest.raises(AppError) as raised:
        client.predict(**{"prompt": PROMPT, **changed}, api_name="/internals")
    assert line in str(raised.value)


# Prompts, runs, the store


@pytest.mark.parametrize(
    ("source", "prompt", "position", "message"),
    [
        ("words", "a " * MAX_TOKENS, -1, "tokens and this tab reads at most 128"),
        ("short", "a b c d e f g h i", -1, "at most 8"),
        ("words", "a b", 2, "position 2 is outside the prompt of 2 tokens"),
        ("numbers", "Hello", -1, "has id 15,496 and this model knows ids 0 to 96"),
    ],
)
def test_a_mistake_is_one_clear_line_and_costs_no_model(lab, source, prompt, position, message):
    before = lab.registry.borrowed
    with pytest.raises(ValueError, match=message):
        lab.read(source, prompt, position)
    assert lab.registry.borrowed == before


def test_a_run_that_was_dropped_is_computed_again(lab, registry):
    lab.runs.most = 1
    visit = lab.read("words", PROMPT)
    first = lab.run(visit).logits
    lab.run(lab.read("words", "other"))
    before = registry.borrowed
    assert torch.equal(lab.run(visit).logits, first)
    assert registry.borrowed == before + 1


def test_the_store_stays_within_its_bytes(lab):
    one = lab.run(lab.read("words", PROMPT)).n_bytes
    lab.runs.most = 3 * one
    visits = [lab.read("words", f"{PROMPT}{tail}") for tail in ["", "one", "two", "six", "ten"]]
    for visit in visits:
        lab.run(visit)
    held = [visit for visit in visits if lab.runs.get(visit.key)]
    assert held == visits[-len(held) :]
    assert 1 <= len(held) < len(visits)


def test_visitors_at_once_read_their_own_prompt(lab):
    lab.runs.most = 1  # every look is a new pass
    prompts = [f"{word} said" for word in ("cat", "dog", "fox", "owl", "bee", "ant", "cow", "hen")]
    expected = {p: lab.run(lab.read("words", p)).logits.clone() for p in prompts}
    got: dict[str, list[bool]] = {p: [] for p in prompts}

    def visit(prompt):
        for _ in range(3):
            read = lab.run(lab.read("words", prompt)).logits
            got[prompt].append(torch.equal(read, expected[prompt]))

    threads = [threading.Thread(target=visit, args=(p,)) for p in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {p: [True] * 3 for p in prompts}


def test_a_folders_model_is_read_with_its_own_tokenizer(registry, monkeypatch):
    """Prompts were numbered by GPT-2's vocabulary, whatever the model's was."""
    own = SimpleNamespace(encode=lambda text: [7, 8, 9], vocab_size=97)
    monkeypatch.setattr("gpt.ui.internals.lab.tokenizer_of", lambda source: own)
    assert Lab(registry).read("numbers", "Hello").ids == (7, 8, 9)


# Events


def test_a_look_fills_the_open_sections_and_no_other(tab):
    page = Page(tab, "tokens", "logits", "lens")
    page.look()
    assert "6 tokens, float32" in page.shown["int-message"]
    assert "“·little” is 7 bytes" in page.shown["int-merges"]
    assert "After position 5" in page.shown["int-logits-words"]
    assert "At position 5" in page.shown["int-lens"]
    for closed in ("int-att", "int-choice", "int-ledger", "int-shapes"):
        assert closed not in page.shown


def test_a_section_is_computed_when_it_is_opened(tab):
    page = Page(tab, "tokens")
    page.look()
    assert "int-lens" not in page.shown
    run_async(page.event(page.handler(tab.sections.panels["lens"].accordion, "expand")))
    assert "At position 5" in page.shown["int-lens"]
    assert page.desk.open == {"tokens", "lens"}


def test_a_click_on_a_token_moves_every_open_section(tab):
    page = Page(tab, "logits", "lens")
    page.look()
    page.click(2)
    assert page.shown["int-position"] == 2
    assert "After position 2" in page.shown["int-logits-words"]
    assert "At position 2" in page.shown["int-lens"]
    assert 'aria-pressed="true"' in page.shown["int-chips"].split('data-position="2"')[1][:200]


def test_looking_at_the_same_text_again_stays_at_the_position(tab):
    """The number stands above the button: typed, then pressed, it went back to where it was."""
    page = Page(tab, "logits")
    page.look()
    page.click(2)
    page.look()
    assert page.shown["int-position"] == 2
    assert "After position 2" in page.shown["int-logits-words"]
    page.look(model="deep")
    assert page.shown["int-position"] == 2
    page.look("Once upon another time")
    assert page.shown["int-position"] == -1


def typed_beside_another_text(tab):
    """A page whose boxes have another text than was read, and a position that was typed then."""
    page = Page(tab, "logits")
    page.look()
    page.values |= {tab.prompt: "Once upon another time", tab.position: 1}
    run_async(page.event(tab.move))
    return page


def test_a_position_typed_beside_a_new_text_is_where_its_look_starts(tab):
    """The old text moved there, and the new one was looked at from its end."""
    page = typed_beside_another_text(tab)
    assert "“Look inside” to start at this position" in page.shown["int-message"]
    assert "After position 5" in page.shown["int-logits-words"]
    page.look(page.values[tab.prompt])
    assert page.shown["int-position"] == 1
    assert "After position 1" in page.shown["int-logits-words"]
    page.look("The next text")
    assert page.shown["int-position"] == -1


def test_generations_text_is_opened_at_its_own_token_whatever_was_typed_before(tab):
    page = typed_beside_another_text(tab)
    written = Visit("words", PROMPT, ids=tuple(tab.lab.encode("words", PROMPT)), position=4)
    run_async(page.event(opening(page, written)))
    assert page.shown["int-position"] == 3


def test_generations_text_too_is_looked_at_again_where_it_was_moved_to(tab):
    page = Page(tab, "logits")
    ids = tuple(tab.lab.encode("words", PROMPT))
    page.desk.given = tab.lab.given_by("words", ids, 3)
    page.look(tab.lab.using("words").text(page.desk.given.ids))
    assert page.shown["int-position"] == 2
    page.click(1)
    page.look(tab.lab.using("words").text(page.desk.given.ids))
    assert page.shown["int-position"] == 1


def test_how_the_prompt_was_predicted_is_read_once_and_not_at_every_click(tab, monkeypatch):
    """Strip, message and table each read it anew: 0.6 s for 128 tokens, three times a click."""
    passes = []

    def counted(logits, ids):
        passes.append(ids)
        return foreseen(logits, ids)

    monkeypatch.setattr(lab_module, "foreseen", counted)
    page = Page(tab, "tokens", "logits")
    page.look("Nobody else reads this")
    page.click(0)
    page.click(2)
    assert len(passes) == 1


def test_what_stands_above_the_sections_is_computed_beside_the_event_loop(tab, monkeypatch):
    """The odds of a prompt were not, so everybody's texts stood still meanwhile; nor was the pass,
    where others' had taken its place since the press.
    """
    loops, threads = [], []

    def noted(logits, ids):
        threads.append(threading.get_ident())
        return foreseen(logits, ids)

    def forgotten():
        loops.append(threading.get_ident())
        tab.lab.runs._kept.clear()
        tab.lab.memos._kept.clear()

    async def look_and_click():
        forgotten()
        await page.event(tab.look)
        forgotten()
        await page.event(tab.move, position=1)

    monkeypatch.setattr(lab_module, "foreseen", noted)
    page = Page(tab, "logits")
    page.values |= {tab.prompt: "Odds of my own", tab.model: "words"}
    monkeypatch.setattr(tab.sections, "lane", asyncio.Semaphore(1))  # the server's has its loop
    run_async(look_and_click())
    assert page.shown["int-position"] == 1
    assert len(threads) == 2
    assert not {*threads} & {*loops}


def test_what_is_out_of_view_follows_a_click_when_it_comes_into_view(tab):
    """A click computed and sent fifteen sections, of which two were on the screen."""
    page = Page(tab, "logits", "lens", "ledger")
    page.look()
    run_async(page.event(tab.sections.come_into_view, told=1, sections=["logits"]))
    assert page.steps == 1  # nothing was late
    page.click(2)
    assert "After position 2" in page.shown["int-logits-words"]
    assert "At position 5" in page.shown["int-lens"]
    run_async(page.event(tab.sections.come_into_view, told=2, sections=["lens", "tokens"]))
    assert "At position 2" in page.shown["int-lens"]
    assert "after position 5" in page.shown["int-ledger"]
    run_async(page.event(tab.sections.come_into_view, told=1, sections=["logits"]))  # late
    assert page.desk.in_view == {"lens", "tokens"}
    page.change("ledger", mode="its lead over the runner-up")
    assert "after position 2" in page.shown["int-ledger"]
    assert page.desk.late == set()


def test_a_section_that_was_closed_is_not_computed_when_it_comes_into_view(tab):
    """Late when it was closed, it was computed for nobody as soon as it was scrolled to."""
    page, lens = Page(tab, "logits", "lens"), tab.sections.panels["lens"]
    page.look()
    run_async(page.event(tab.sections.come_into_view, told=1, sections=["logits"]))
    page.click(2)
    run_async(page.handler(lens.accordion, "collapse")(page.desk))
    run_async(page.event(tab.sections.come_into_view, told=2, sections=["lens"]))
    assert page.steps == 1  # nothing was late
    run_async(page.event(page.handler(lens.accordion, "expand")))
    assert "At position 2" in page.shown["int-lens"]


def test_an_event_whose_work_begins_after_a_newer_click_takes_nothing_of_it(tab):
    """A task begins a turn of the loop after it was made: it took the newer click's section, and
    what it computed was dropped as the older one's."""
    page = Page(tab, "logits")
    page.look()

    async def filling():
        page.desk.late.add("logits")
        return [step async for step in tab.sections.filling(page.desk, {"logits"})]

    async def both():
        older = asyncio.ensure_future(filling())
        await asyncio.sleep(0)
        page.desk.focus, page.desk.turn = page.desk.focus.at(1), page.desk.turn + 1
        newer = [step async for step in tab.sections.filled(page.desk, {})]
        return await older, newer

    older, newer = run_async(both())
    assert older == [gr.skip()]
    assert "After position 1" in str(newer)


def test_an_older_click_that_ends_late_takes_nothing_of_a_newer_one(tab, monkeypatch):
    """It went on to the next section, which the newer one had ready, and that was dropped."""
    monkeypatch.setattr(section_list, "SOON", WAIT)
    panel = tab.sections.panels["tokens"]
    page = Page(tab, "tokens", "logits")
    page.look()
    begun, ready, view = threading.Event(), threading.Event(), panel.spec.view

    def slow_first(lab, visit, **controls):
        if visit.position == 1:
            begun.set()
            ready.wait(WAIT)
        return view(lab, visit, **controls)

    def last(lab, visit, **controls):  # of the newer click, in which the older one goes on
        ready.set()
        older_is_over.wait(WAIT)
        return embedded(lab, visit, **controls)

    monkeypatch.setattr(panel, "spec", replace(panel.spec, view=slow_first))
    end = tab.sections.panels["shapes"]
    older_is_over, embedded = threading.Event(), end.spec.view
    monkeypatch.setattr(end, "spec", replace(end.spec, view=last))
    page.desk.open.add("shapes")

    async def both():
        older = asyncio.ensure_future(page.event(tab.move, position=1))
        older.add_done_callback(lambda _: older_is_over.set())
        await asyncio.to_thread(begun.wait, WAIT)
        await page.event(tab.move, position=3)
        await older

    run_async(both())
    assert "After position 3" in page.shown["int-logits-words"]


def test_a_shorter_prompt_is_read_at_its_last_token(tab):
    """It was refused: "position 5 is outside the prompt of 2 tokens", which nobody had typed."""
    page = Page(tab, "logits")
    page.look()
    page.click(5)
    page.look("The wolf")
    assert page.shown["int-position"] == -1
    assert "After position 1" in page.shown["int-logits-words"]
    page.click(5)  # a late click on a chip of the longer prompt
    assert "After position 1" in page.shown["int-logits-words"]


def test_a_click_after_the_visit_has_ended_says_so(tab):
    """128 other visits or a restart: the page looked alive, and nothing moved."""
    page = Page(tab, "logits")
    page.click(2)
    assert "visit has ended" in page.shown["int-message"]
    assert "reload the page" in page.shown["int-message"]


def test_a_position_typed_where_nothing_was_read_asks_for_a_look(tab):
    """After a prompt that could not be read it told that the visit had ended: reload the page."""
    page = Page(tab, "logits")
    page.look("")
    run_async(page.event(tab.move))
    assert "visit has ended" not in page.shown["int-message"]
    assert "press “Look inside”" in page.shown["int-message"]


def test_a_prompt_that_cannot_be_read_leaves_nothing_of_the_one_before(tab):
    page = Page(tab, "logits", "choice", "mattered")
    page.look()
    page.look("")
    assert "the prompt is empty" in page.shown["int-message"]
    assert page.shown["int-chips"] == ""
    assert "position" not in page.shown["int-logits-words"]
    assert "Look inside" in page.shown["int-choice"]
    assert page.shown["int-mattered"] == page.shown["int-choice"]


def test_a_prompt_that_cannot_be_read_is_told_beside_another_visitors_pass(tab, monkeypatch):
    """It waited for its turn to compute, and computed nothing."""
    page = Page(tab, "tokens")
    page.values |= {tab.prompt: "", tab.model: "words"}
    monkeypatch.setattr(tab.sections, "lane", asyncio.Semaphore(0))  # somebody else's, for good
    run_async(asyncio.wait_for(page.event(tab.look), WAIT / 4))
    assert "the prompt is empty" in page.shown["int-message"]


def test_what_comes_into_view_after_a_prompt_that_cannot_be_read_stays_as_it_is(tab):
    """It was filled for a visit that there was not: AttributeError in the log."""
    page = Page(tab, "logits", "lens")
    page.look()
    page.desk.late = {"lens"}
    page.look("")
    run_async(page.event(tab.sections.come_into_view, told=9, sections=["lens"]))
    assert "Look inside" in page.shown["int-lens"]


@pytest.mark.parametrize("moved", ["look", "click"])
def test_results_of_a_button_say_that_they_are_of_the_former_pass(tab, moved):
    """Compare went on saying "After position 7" about a prompt of 6 tokens."""
    page = Page(tab, "sweep", "compare")
    page.look()
    page.act("compare")
    page.act("sweep")
    assert "After “…Hello, I am a little”" in page.shown["int-cmp"]
    assert "after position 5" in page.shown["int-sweep-words"]
    page.look("The wolf") if moved == "look" else page.click(1)
    for elem_id, button in (("int-cmp", "Compare"), ("int-sweep-words", "Sweep all heads")):
        assert "of the former pass" in page.shown[elem_id]
        assert f"press “{button}” again" in page.shown[elem_id]


def test_a_result_that_was_never_asked_for_is_not_of_a_former_pass(tab):
    page = Page(tab, "compare")
    page.look()
    page.click(1)
    assert "int-cmp" not in page.shown


def test_a_head_that_was_clicked_is_the_models_last_where_it_has_not_so_many(tab):
    page = Page(tab, "attention")
    page.look(model="deep")
    page.pick("attention", layer=2, head=1)
    assert "In layer 2, head 1," in page.shown["int-att"]
    page.click(0)
    assert "In layer 2, head 1," in page.shown["int-att"]
    page.look(model="words")
    assert "In layer 1, head 1," in page.shown["int-att"]


def test_layers_on_offer_are_those_of_the_model(tab):
    page = Page(tab, "vectors")
    boxes = {box.elem_id: box for box in tab.sections.of_model}
    page.look(model="deep")
    page.change("vectors", layer=2)
    assert "of layer 2: " in page.shown["int-vectors"]
    page.look(model="words")
    assert page.values[boxes["int-vec-layer"]] == 1
    assert "of layer 1: " in page.shown["int-vectors"]


def test_a_section_hears_of_all_that_its_reset_sets(tab):
    """Precision was set, and the odds stayed those of int8: `input` tells of a visitor alone."""
    panel = tab.sections.panels["choice"]
    targets = {target for fn in tab.demo.fns.values() for target in fn.targets}
    assert {(box._id, "change") for box in panel.controls.values()} <= targets


def test_a_layer_that_a_shallower_model_lacks_becomes_its_last(tab):
    """As of a choice that was sent before the page had the layers of the new model."""
    page = Page(tab, "vectors", "attention")
    page.look()
    for layer, shown in ((7, 1), (None, 0)):
        page.change("vectors", layer=layer)
        assert f"of layer {shown}: " in page.shown["int-vectors"]
    page.pick("attention", layer=7, head=7)
    assert "In layer 1, head 2," in page.shown["int-att"]


def test_a_click_is_one_message_and_says_nothing_when_it_ends(tab, monkeypatch):
    """A message a section: each cost the page a tenth of a second, twenty of them two. Gradio
    repeats the last one when the event ends, which could come after a newer click's."""
    monkeypatch.setattr(section_list, "SOON", WAIT)
    page = Page(tab, *(section.key for section in SECTIONS))
    page.look()

    async def click():
        event = SimpleNamespace(target=tab.chips, position=1)
        return [step async for step in tab.move({tab.desk: page.desk}, event)]

    everything, nothing = run_async(click())
    shown = {p.output for p in tab.sections.panels.values() if not p.spec.button}
    assert shown < set(everything)
    assert nothing == gr.skip()


def test_the_strip_does_not_wait_for_a_section_that_takes_long(tab, monkeypatch):
    panel = tab.sections.panels["tokens"]
    page = Page(tab, "tokens")
    page.look()
    shown = threading.Event()
    slow = replace(panel.spec, view=lambda *_, **__: str(shown.wait(WAIT)))
    monkeypatch.setattr(panel, "spec", slow)

    async def click():
        event = SimpleNamespace(target=tab.chips, position=1)
        steps = tab.move({tab.desk: page.desk}, event)
        first = await anext(steps)
        shown.set()
        return first, await anext(steps)

    first, second = run_async(click())
    assert first[tab.position] == 1
    assert panel.output not in first
    assert second == {panel.output: "True"}


def test_a_newer_click_ends_what_the_older_one_has_not_shown_yet(tab, monkeypatch):
    """A row of clicks cost the time of all of them, one after another."""
    monkeypatch.setattr(section_list, "SOON", 0)
    page = Page(tab, "tokens", "logits", "lens", "ledger")
    page.look()

    async def both():
        first = tab.move(
            {tab.desk: page.desk, **page.values}, SimpleNamespace(target=tab.chips, position=1)
        )
        said = [await anext(first)]
        newer = asyncio.ensure_future(page.event(tab.move, position=3))
        await asyncio.sleep(0)
        said += [step async for step in first]
        await newer
        return said

    strip, nothing = run_async(both())
    assert tab.position in strip
    assert nothing == gr.skip()
    assert "At position 3" in page.shown["int-lens"]


def test_a_token_typed_beside_a_click_is_found_whichever_event_comes_first(tab, monkeypatch):
    """The click's event brought the box as it was, empty, and came late: gradio takes a thread
    for each of its 40 inputs. What was typed was forgotten until the next key."""
    monkeypatch.setattr(section_list, "SOON", WAIT)
    page = Page(tab, "choice")
    page.look()

    async def typed_while_the_click_is_on_its_way():
        click = tab.move(
            {tab.desk: page.desk, **page.values}, SimpleNamespace(target=tab.chips, position=2)
        )  # sent, with what the controls are now
        await page.changing("choice", query="262")  # sent later, and there first
        return [step async for step in click]

    everything, _ = run_async(typed_while_the_click_is_on_its_way())
    shown = {component.elem_id: value for component, value in everything.items()}
    assert "·the" in shown["int-choice"]


def test_a_message_that_is_on_its_way_is_not_overtaken_by_a_newer_one(tab):
    """Gradio prepares messages side by side: a newer short one came before an older long one."""
    page = Page(tab, "choice")
    page.look()
    order = []

    async def both():
        click = tab.move(
            {tab.desk: page.desk, **page.values}, SimpleNamespace(target=tab.chips, position=2)
        )
        await anext(click)  # on its way until gradio asks for the next
        typing = asyncio.ensure_future(page.changing("choice", query="262"))
        typing.add_done_callback(lambda _: order.append("typed"))
        await asyncio.sleep(0.2)
        order.append("clicked")
        async for _ in click:
            pass
        await typing

    run_async(both())
    assert order == ["clicked", "typed"]


def test_an_older_answer_does_not_cover_a_newer_one_of_the_same_section(tab, monkeypatch):
    """A token typed while a click was answered was found, and the click's answer hid it."""
    panel = tab.sections.panels["tokens"]
    page = Page(tab)
    page.look()
    begun, newer_is_out = threading.Event(), threading.Event()
    texts = iter(["older", "newer"])

    def slow_first(*_, **__):
        text = next(texts)
        if text == "older":
            begun.set()
            newer_is_out.wait(WAIT)
        return text

    monkeypatch.setattr(panel, "spec", replace(panel.spec, view=slow_first))

    async def collect():
        page.desk.late.add("tokens")
        steps = tab.sections.filling(page.desk, {"tokens"})
        return [step[panel.output] async for step in steps if step != gr.skip()]

    async def both():
        older = asyncio.ensure_future(collect())
        await asyncio.to_thread(begun.wait, WAIT)
        newer = await collect()
        newer_is_out.set()
        return await older, newer

    older, newer = run_async(both())
    assert newer == ["newer"]
    assert older == []


def test_presses_while_one_waits_are_read_once(tab, registry, monkeypatch):
    """Holding Shift and Enter queued fifteen runs; the last one is what the visitor wants."""
    page = Page(tab)
    monkeypatch.setattr(tab.sections, "lane", asyncio.Semaphore(1))  # the server's has its loop

    async def press_often():
        async with tab.sections.lane:  # somebody else's pass
            tasks = []
            for n in range(15):
                page.values[tab.prompt] = f"press {n}"
                tasks.append(asyncio.ensure_future(page.event(tab.look)))
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    before = registry.borrowed
    run_async(press_often())
    assert registry.borrowed == before + 1
    assert page.desk.focus.ids == tuple(tab.lab.tokenizer.encode("press 14"))


@pytest.mark.parametrize("read", [False, True])
def test_a_press_that_is_overtaken_leaves_the_page_to_the_newer_event(tab, monkeypatch, read):
    """It yielded nothing, and gradio sent null for every output: a click on a token while a pass
    was computed left strip and sections empty.
    """
    page = Page(tab, "tokens")
    page.look()
    monkeypatch.setattr(tab.sections, "lane", asyncio.Semaphore(1))  # the server's has its loop

    def overtaken(*_):
        page.desk.looks += 1

    monkeypatch.setattr(tab, "_above", overtaken)

    async def press():
        async with nullcontext() if read else tab.sections.lane:
            older = asyncio.ensure_future(all_of(tab.look({tab.desk: page.desk, **page.values})))
            await asyncio.sleep(0)
            page.desk.looks += not read
        return await older

    async def all_of(steps):
        return [step async for step in steps]

    assert run_async(press()) == [gr.skip()]


@pytest.mark.parametrize(("typed", "tokens", "position"), [("The wolf", 2, -1), (PROMPT, 6, 1)])
def test_a_click_on_the_strip_drops_no_pass_over_another_text(
    tab, monkeypatch, typed, tokens, position
):
    """A text was typed and Look inside pressed: a click on the strip of before forgot both."""
    page = Page(tab, "tokens")
    page.look()
    page.values[tab.prompt] = typed
    run_async(look_and_click(page, monkeypatch))
    assert f"{tokens} tokens, float32" in page.shown["int-message"]
    assert page.shown["int-position"] == position  # over the same text the click is the newer wish


def test_a_pass_that_fails_leaves_what_was_clicked_meanwhile(tab, monkeypatch):
    """Strip and sections were emptied, and the next click told that the visit had ended."""
    page, above = Page(tab, "tokens"), tab._above
    page.look()

    def fails(visit, position, progress=None):
        return above(visit, position) if position >= 0 else tab.lab.encode("words", "")

    monkeypatch.setattr(tab, "_above", fails)
    page.values[tab.prompt] = "The wolf"
    run_async(look_and_click(page, monkeypatch))
    assert "the prompt is empty" in page.shown["int-message"]
    assert page.shown["int-chips"].count('data-position="') == 6
    assert page.desk.focus.position == 1


async def look_and_click(page, monkeypatch):
    """Look inside is pressed while somebody else's pass goes on, and then a token is clicked."""
    lane = asyncio.Semaphore(1)  # the server's has its loop
    monkeypatch.setattr(page.tab.sections, "lane", lane)
    async with lane:
        look = asyncio.ensure_future(page.event(page.tab.look))
        await asyncio.sleep(0)
        await page.event(page.tab.move, position=1)
    await look


def test_a_prompt_that_could_not_be_read_says_nothing_beside_a_newer_press(tab, monkeypatch):
    """It emptied the page of the newer one, whose pass was on its way."""
    page, asked = Page(tab, "tokens"), tab._asked
    page.look()
    begun, newer = threading.Event(), threading.Event()
    monkeypatch.setattr(tab.sections, "lane", asyncio.Semaphore(1))  # the server's has its loop

    def slow(values):
        if not values[tab.prompt]:
            begun.set()
            newer.wait(WAIT)
        return asked(values)

    monkeypatch.setattr(tab, "_asked", slow)

    async def both():
        said = asyncio.ensure_future(steps({tab.desk: page.desk, **page.values, tab.prompt: ""}))
        await asyncio.to_thread(begun.wait, WAIT)
        press = asyncio.ensure_future(page.event(tab.look))
        await asyncio.sleep(0)
        newer.set()
        await press
        return await said

    async def steps(values):
        return [step async for step in tab.look(values)]

    assert run_async(both()) == [gr.skip()]


def test_a_position_typed_while_the_first_pass_is_read_does_not_drop_it(tab, monkeypatch):
    """The page said that its visit had ended, and what the pass found was never shown."""
    page = Page(tab, "tokens")
    page.values |= {tab.prompt: PROMPT, tab.model: "words", tab.position: 2}
    monkeypatch.setattr(tab.sections, "lane", asyncio.Semaphore(1))  # the server's has its loop

    async def both():
        async with tab.sections.lane:
            look = asyncio.ensure_future(page.event(tab.look))
            await asyncio.sleep(0)
            await page.event(tab.move)
        await look

    run_async(both())
    assert "6 tokens, float32" in page.shown["int-message"]
    assert page.shown["int-position"] == 2  # it was thrown away


def test_a_section_waits_for_the_first_pass_and_says_nothing(tab, monkeypatch):
    """It asked to press Look inside: opening the tab set its controls before the pass was read."""
    page = Page(tab, "choice")
    monkeypatch.setattr(tab.sections, "lane", asyncio.Semaphore(1))  # the server's has its loop

    async def both():
        async with tab.sections.lane:
            look = asyncio.ensure_future(page.event(tab.look))
            await asyncio.sleep(0)
            await page.changing("choice", temperature=0.5)
        early = {**page.shown}
        await look
        return early

    assert "int-choice" not in run_async(both())
    assert "tokens can be drawn" in page.shown["int-choice"]


@pytest.mark.parametrize("moved", ["look", "click"])
def test_a_result_that_was_cut_short_by_the_same_text_is_to_be_asked_for_again(
    tab, monkeypatch, moved
):
    """How far it was stood there, with a Cancel that did nothing: for good, or until the new pass
    had its turn.
    """
    panel = tab.sections.panels["sweep"]
    page, begun, ready = Page(tab), threading.Event(), threading.Event()
    page.look()
    page.click(5)

    def slow(*_, **__):
        yield "half"
        begun.set()
        ready.wait(WAIT)
        yield "more"
        return "whole"

    monkeypatch.setattr(panel, "spec", replace(panel.spec, view=slow))
    monkeypatch.setattr(section_list, "SOON", 0)
    monkeypatch.setattr(tab.sections, "lane", asyncio.Semaphore(1))  # the server's has its loop

    async def both():
        sweep = asyncio.ensure_future(page.acting("sweep"))
        await asyncio.to_thread(begun.wait, WAIT)
        others = asyncio.ensure_future(tab.sections.lane.acquire())  # a visitor who comes next
        again = page.event(tab.look) if moved == "look" else page.event(tab.move, position=5)
        again = asyncio.ensure_future(again)
        await asyncio.sleep(0)
        ready.set()
        await sweep
        said = page.shown.get("int-sweep-words", "")
        await others
        tab.sections.lane.release()
        await again
        return said

    assert "of the former pass" in run_async(both())
    assert "of the former pass: press “Sweep all heads” again" in page.shown["int-sweep-words"]
    assert page.shown["int-sweep-cancel"]["visible"] is False


def test_a_download_is_awaited_by_nobody_else(tab, registry, monkeypatch):
    """Who chose GPT-2 XL had everybody wait for 6.4 GB, whatever model they looked at."""
    begun, there = threading.Event(), threading.Event()

    def slow(*_):
        begun.set()
        assert there.wait(WAIT)

    def borrow(source, *_, **__):
        if source == "gpt2" and not there.is_set():  # as the registry does
            slow()
        return TinyRegistry.borrow(registry, source)

    monkeypatch.setitem(registry.models, "gpt2", registry.models["words"])
    monkeypatch.setattr(registry, "borrow", borrow)
    for name, instead in (("download", slow), ("is_cached", lambda _: there.is_set())):
        monkeypatch.setattr(f"gpt.ui.internals.tab.{name}", instead, raising=False)
    monkeypatch.setattr(tab.sections, "lane", asyncio.Semaphore(1))  # the server's has its loop
    large, small = Page(tab), Page(tab)
    large.values |= {tab.prompt: "Over the network", tab.model: "gpt2"}
    small.values |= {tab.prompt: PROMPT, tab.model: "words"}

    async def both():
        downloading = asyncio.ensure_future(large.event(tab.look))
        await asyncio.to_thread(begun.wait, WAIT)
        looking = asyncio.ensure_future(small.event(tab.look))
        done, _ = await asyncio.wait([looking], timeout=WAIT / 4)
        there.set()
        await asyncio.gather(downloading, looking)
        return done

    assert run_async(both())
    assert "3 tokens, float32" in large.shown["int-message"]


def test_cancel_ends_one_section_between_two_steps_and_goes_away(tab):
    """Cancel was there, large, while nothing ran, and ended what stood below as well."""
    panel = tab.sections.panels["mattered"]
    page = Page(tab, "mattered")
    page.look()
    steps = panel.fill(tab.lab, page.desk, page.desk.focus.at(3))
    assert next(steps)[panel.cancel]["visible"]
    page.desk.cancelled.add("mattered")
    ended = next(steps)
    assert "Cancelled" in ended[panel.output]
    assert not ended[panel.cancel]["visible"]
    assert list(steps) == []
    *_, done = panel.fill(tab.lab, page.desk, page.desk.focus.at(3))  # not cancelled any more
    assert "occluding" in done[panel.output]
    assert not done[panel.cancel]["visible"]


def test_a_fault_of_a_section_stands_in_it_and_reaches_the_log(tab, monkeypatch):
    panel = tab.sections.panels["tokens"]
    page = Page(tab, "tokens", "logits")
    page.look()
    monkeypatch.setattr(panel, "spec", replace(panel.spec, view=lambda *_, **__: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        page.click(1)
    assert "fault of the page" in page.shown["int-merges"]
    assert "After position 1" in page.shown["int-logits-words"]  # the others are filled


def test_no_event_of_the_tab_waits_in_gradios_queue_for_another_visitor(tab):
    """Ten visitors that clicked at once had up to 48 of 160 events refused."""
    private = [fn for fn in tab.demo.fns.values() if fn.api_visibility == "private"]
    assert {fn.concurrency_limit for fn in private if fn.queue is not False} == {None}
    clicked = [fn for fn in private if (tab.chips._id, "select") in fn.targets]
    assert len(clicked) == 1  # one request a click, and one for its answer


def test_six_visitors_click_at_once_and_each_is_answered(tab):
    config = tab.demo.config["dependencies"]
    look, move = (
        next(d for d in config if [component._id, name] in [list(t) for t in d["targets"]])
        for component, name in ((tab.run, "click"), (tab.chips, "select"))
    )
    answers = {}

    async def press(client, session, dependency, **event):
        """The last message of an event over the smallest model's one-token prompt."""
        now = {tab.prompt._id: "!", tab.model._id: "numbers", tab.desk._id: None}
        blocks = [tab.demo.blocks[i] for i in dependency["inputs"]]
        data = [now.get(block._id, getattr(block, "value", None)) for block in blocks]
        sent = {"data": data, "fn_index": dependency["id"], "session_hash": session,
                "trigger_id": tab.chips._id, "event_data": event or None}  # fmt: skip
        joined = await client.post("/gradio_api/queue/join", json=sent)
        assert joined.status_code == 200, joined.text
        query = {"session_hash": session}
        async with client.stream("GET", "/gradio_api/queue/data", params=query) as stream:
            async for line in stream.aiter_lines():
                if "process_completed" in line:
                    return line
        return "the stream ended"

    async def everybody():
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(base_url=tab.url, timeout=WAIT, limits=limits) as client:
            sessions = [f"visitor{n}" for n in range(6)]
            await asyncio.gather(*[press(client, session, look) for session in sessions])
            done = await asyncio.gather(*[press(client, s, move, position=0) for s in sessions])
            answers.update(zip(sessions, done, strict=True))

    run_async(everybody())
    assert all('"success":true' in answer.replace(" ", "") for answer in answers.values())
    assert not [answer for answer in answers.values() if "visit has ended" in answer]


def test_a_model_that_has_gone_is_a_line_at_the_next_click(tab, monkeypatch):
    """It was a traceback, and a page that did not move."""
    page = Page(tab, "tokens")
    page.look()
    monkeypatch.setattr(tab.lab.registry, "config_of", Registry(budget_bytes=1).config_of)
    page.desk.focus = replace(page.desk.focus, source="trained:gone")
    page.click(1)
    assert "is gone: train it again" in page.shown["int-message"]


def test_a_text_of_a_model_that_has_gone_hinders_no_look_with_another(tab, monkeypatch):
    """Each press told that the trained model is gone, whatever was chosen and typed since."""
    page = Page(tab, "tokens")
    page.look()
    known, gone = tab.lab.registry.config_of, Registry(budget_bytes=1).config_of

    def config_of(source):
        return (known if source == "words" else gone)(source)

    monkeypatch.setattr(tab.lab.registry, "config_of", config_of)
    page.desk.given = replace(page.desk.focus, source="trained:gone")
    page.look("The wolf")
    assert "2 tokens, float32" in page.shown["int-message"]


def test_what_was_looked_at_is_let_go_where_a_text_cannot_be_opened(tab, monkeypatch):
    """The line said that its model is gone; the controls below filled with the text of before."""
    page = Page(tab, "tokens")
    page.look()
    monkeypatch.setattr(tab.lab.registry, "config_of", Registry(budget_bytes=1).config_of)
    opened = opening(page, Visit(model="trained:gone", prompt="Hello", ids=(1, 2)))
    run_async(page.event(opened))
    assert "is gone: train it again" in page.shown["int-message"]
    assert page.desk.focus is None


def opening(page, written):
    """The handler of the opened tab, where `written` is Generation's text."""
    page.values[page.tab.visitor] = SimpleNamespace(visit=written)
    return page.tab.opened


def test_a_fault_in_opening_generations_text_is_said_and_sections_say_what_to_do(tab, monkeypatch):
    """Nothing was said in the tab, and what was opened at first stayed blank until a look."""
    page = Page(tab, "tokens")
    monkeypatch.setattr(tab, "_as_written", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_async(page.event(opening(page, Visit())))
    assert page.shown["int-message"] == say(BUG, "note")
    assert page.shown["int-merges"] == EMPTY


def test_a_pass_that_was_awaited_is_not_shown_over_a_text_that_cannot_be_opened(tab, monkeypatch):
    """The line said that the model is gone, above the tokens of a text that was pressed before."""
    page, lane = Page(tab, "tokens"), asyncio.Semaphore(1)
    page.values |= {tab.prompt: PROMPT, tab.model: "words"}
    monkeypatch.setattr(tab.sections, "lane", lane)  # the server's has its loop
    opened = opening(page, Visit(model="trained:gone", prompt="Hello", ids=(1, 2)))
    refuse = Registry(budget_bytes=1).config_of

    async def both():
        async with lane:
            look = asyncio.ensure_future(page.event(tab.look))
            await asyncio.sleep(0)
            with monkeypatch.context() as patch:
                patch.setattr(tab.lab.registry, "config_of", refuse)
                await page.event(opened)
        await look

    run_async(both())
    assert "is gone: train it again" in page.shown["int-message"]
    assert page.shown["int-chips"] == ""


@pytest.mark.parametrize("part", ["_above", "choices"])
def test_a_fault_in_a_pass_is_said_and_what_is_opened_then_says_what_to_do(tab, monkeypatch, part):
    """The sections of the text before stayed, and one that was opened then never said a word."""
    page = Page(tab, "tokens")
    page.look()
    with monkeypatch.context() as patch:
        patch.setattr(tab if part == "_above" else tab.sections, part, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            page.look("Another text")
    assert page.shown["int-message"] == say(BUG, "note")
    assert page.shown["int-chips"] == ""
    assert page.shown[tab.sections.panels["tokens"].spec.output] == EMPTY
    panel = tab.sections.panels["lens"]
    run_async(page.event(page.handler(panel.accordion, "expand")))
    assert page.shown["int-lens"] == EMPTY
    page.look("Another text")
    assert "tokens, float32" in page.shown["int-message"]


def test_a_click_whose_pass_fails_leaves_all_sections_at_one_position(tab, monkeypatch):
    """Chips and sections stayed, and one that was opened then showed the place of the click."""
    page = Page(tab, "tokens")
    page.look()
    at = page.desk.focus.position
    with monkeypatch.context() as patch:
        patch.setattr(tab, "_above", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            page.click(1)
    assert page.desk.focus.position == at != 1


def test_a_text_without_a_chosen_token_is_opened_where_its_first_new_one_was_drawn(tab):
    """It was opened at its end, where nothing was drawn, and Choice had settings of its own."""
    page = Page(tab, "tokens")
    written = Visit("words", "Hello", {"temperature": 0.5}, 7, tokens=3, ids=(15496, 11, 1, 2, 3))
    run_async(page.event(opening(page, written)))
    assert (page.desk.focus.ids, page.desk.focus.position) == (written.ids, 1)
    panel = tab.sections.panels["choice"]
    named = ("temperature", "seed", "at")
    assert [page.desk.values[panel.controls[name]] for name in named] == [0.5, 7, 0]


def test_a_text_with_ids_beyond_the_tokenizer_s_is_opened(tab, registry, monkeypatch):
    """An untrained model of 60,000 tokens wrote it, and Internals refused its own page's text."""
    monkeypatch.setitem(registry.models, "wide", tiny_model(replace(TEXTUAL, vocab_size=60_000)))
    page = Page(tab, "tokens", "compare")
    written = Visit("wide", "Hello", {}, 7, tokens=2, ids=(15496, 59_999, 11))
    run_async(page.event(opening(page, written)))
    assert page.shown["int-prompt"] == "Hello⟨59999⟩,"
    assert page.desk.focus.ids == written.ids
    page.click(2)
    page.act("compare")
    assert "After “…Hello⟨59999⟩,”" in page.shown["int-cmp"]


def test_a_closed_section_is_not_computed_when_its_controls_are_set(tab):
    """Why this word opened Choice again for the link, and computed it, while it stayed closed."""
    page = Page(tab, "tokens")
    page.look()
    page.shown.clear()
    page.change("choice", seed=5)
    assert page.desk.open == {"tokens"}
    assert page.shown == {}
    panel = tab.sections.panels["choice"]
    assert page.desk.values[panel.controls["seed"]] == 5
