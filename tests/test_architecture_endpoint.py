"""The endpoint /architecture from gradio_client, by keyword, and the wiring of the tab."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from gpt.serving.registry import Registry
from gpt.ui import architecture
from gpt.ui.parts.errors import Blocks
from gpt.ui.tabs import Page

FIELDS = (
    *("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"),
    *("drop_rate", "qkv_bias", "tie_weights"),
)
IDS = [f"arch-{name}" for name in ("preset", *FIELDS, "total", "table", "plot")]


@pytest.fixture(scope="module")
def demo() -> Iterator[gr.Blocks]:
    with Blocks(analytics_enabled=False) as built:
        page = Page(Registry(), "book-124M")
        picker = gr.Dropdown([("the book's", "book-124M")], value="book-124M", elem_id="picker")
        page.shared.add_picker(picker)
        architecture.add_to(page)
        panels = defaultdict(lambda: SimpleNamespace(code=SimpleNamespace(value="")))
        sections = SimpleNamespace(panels=panels)
        page.tabs["internals"] = SimpleNamespace(sections=sections, lab=None, desk=gr.State())
        for wire in page.later:
            wire()
    built.queue(api_open=False)
    built.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, show_error=False)
    yield built
    built.close()


@pytest.fixture(scope="module")
def client(demo: gr.Blocks) -> Client:
    return Client(demo.local_url, verbose=False)


def test_without_arguments_it_is_the_book_s_model(client: Client) -> None:
    said, table, numbers = client.predict(api_name="/architecture")
    assert said == "163,009,536 parameters"
    assert numbers["total"] == 163_009_536
    column = table["headers"].index("parameters")
    assert sum(row[column] for row in table["data"]) == 163_009_536


def test_every_field_can_be_given_by_keyword(client: Client) -> None:
    _, _, numbers = client.predict(
        vocab_size=50257,
        context_length=1024,
        emb_dim=1600,
        n_heads=25,
        n_layers=48,
        drop_rate=0.0,
        qkv_bias=True,
        tie_weights=True,
        api_name="/architecture",
    )
    assert numbers["total"] == 1_557_611_200
    assert numbers["config"]["n_heads"] == 25


def test_a_trillion_parameters_are_counted_at_once(client: Client) -> None:
    _, _, numbers = client.predict(
        emb_dim=25_600, n_heads=160, n_layers=128, api_name="/architecture"
    )
    assert numbers["total"] > 10**12


def test_numbers_beyond_64_bits_reach_a_client_rounded_and_in_full(client: Client) -> None:
    """Whole numbers above 64 bits are no JSON for gradio: the client got an error instead."""
    said, table, numbers = client.predict(
        emb_dim=620_000, n_heads=10, n_layers=1_000_000, api_name="/architecture"
    )
    assert said == "4,612,806,262,954,800,000 parameters"
    assert numbers["exact"]["total"] == "4612806262954800000"
    assert numbers["exact"]["float32_bytes"] == str(4 * 4_612_806_262_954_800_000)
    assert numbers["total"] == pytest.approx(4_612_806_262_954_800_000)
    assert numbers["float32_bytes"] > 2**64
    column = table["headers"].index("parameters")
    assert sum(row[column] for row in table["data"]) == pytest.approx(numbers["total"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"emb_dim": 770}, "emb_dim 770 is not divisible by 12 heads: use 768 or 780."),
        ({"n_layers": -1}, "n_layers is -1: use a whole number from 1"),
        ({"n_layers": "many"}, "n_layers is 'many': use a whole number from 1"),
        ({"vocab_size": 10**30}, "use a whole number from 1 to 1,000,000,000."),
    ],
)
def test_an_impossible_configuration_is_refused_in_one_line(
    client: Client, changes: dict, message: str
) -> None:
    with pytest.raises(AppError, match=message):
        client.predict(**changes, api_name="/architecture")


def test_the_answer_is_one_result_of_three_and_the_page_s_api_says_so(demo: gr.Blocks) -> None:
    """ "Use via API" told a result of any kind: gradio had read the type's name, not the type."""
    (result,) = demo.get_api_info()["named_endpoints"]["/architecture"]["returns"]
    assert result["python_type"]["type"] == "list[str | dict(str, Any)]"
    given = {"data": [50257, 1024, 768, 12, 12, 0.1, False, False]}
    raw = httpx.post(f"{demo.local_url}gradio_api/call/architecture", json=given)
    answer = httpx.get(f"{raw.url}/{raw.json()['event_id']}").text
    ((said, _, _),) = json.loads(answer.partition("data: ")[2])
    assert said == "163,009,536 parameters"


def test_the_endpoint_is_the_only_public_event(demo: gr.Blocks) -> None:
    events = demo.get_config_file()["dependencies"]
    public = [event["api_name"] for event in events if event["api_visibility"] == "public"]
    assert public == ["architecture"]


def test_the_components_have_the_ids_that_scripts_use(demo: gr.Blocks) -> None:
    ids = [part["props"].get("elem_id") for part in demo.get_config_file()["components"]]
    assert [name for name in IDS if ids.count(name) != 1] == []


def test_no_event_waits_for_another_visitors(demo: gr.Blocks) -> None:
    """Measurements wait for each other where Cancel is heard, and not in gradio's queue."""
    functions = [fn for fn in demo.fns.values() if fn.fn is not None]
    assert [fn.name for fn in functions if fn.queue and fn.concurrency_limit is not None] == []
