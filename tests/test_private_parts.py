"""Parts of other packages that are private or announced to go: one test each, saying what to do.

requirements.txt bounds gradio and torch from above, so these fail when a bound is raised, and
not at a visitor's.
"""

import inspect
import re
import threading

import gradio as gr
import pytest
import torch
from gradio import queueing, routes, utils
from gradio.state_holder import SessionState

import app
from gpt.ui.parts import gradio_patches


def missing(owner: object, name: str, advice: str) -> str:
    return "" if hasattr(owner, name) else f"{name} is gone: {advice}"


@pytest.mark.parametrize(
    "name",
    [
        "linear_prepack",
        "linear_unpack",
        "linear_with_input_q_dq_qweight_dq_output_fp32",
    ],
)
def test_torch_still_has_its_packed_int8_layers(name):
    """torch announced the end of qint8 (pytorch 184982)."""
    advice = "let int8 use gpt/engine/layers.py's other layer, torch._int_mm with our own scales"
    assert missing(torch.ops.quantized, name, advice) == ""


@pytest.mark.parametrize(
    "name", ["linear_prepack_fp16", "linear_unpack_fp16", "linear_dynamic_fp16"]
)
def test_torch_still_has_its_packed_float16_layers(name):
    advice = "let float16 use torch.nn.functional.linear on float16 weights, half as fast"
    assert missing(torch.ops.quantized, name, advice) == ""


@pytest.mark.parametrize("name", ["_int_mm", "_make_per_channel_quantized_tensor"])
def test_torch_still_has_its_integer_products(name):
    advice = {
        "_int_mm": "look for its public name: torchao builds on it",
        "_make_per_channel_quantized_tensor": "torch.quantize_per_channel of the float weights",
    }[name]
    assert missing(torch, name, advice) == ""


def test_torch_still_has_torchscript():
    """Announced as unsupported from Python 3.14 on."""
    advice = "leave the compiled decode step out: FastModel then runs the book's forward"
    assert missing(torch.jit, "script", advice) == ""


@pytest.mark.parametrize("name", ["_global_forward_hooks", "_global_forward_pre_hooks"])
def test_torch_still_tells_its_hooks(name):
    advice = "the compiled decode step of gpt/engine/decode_step.py must not skip anybody's hook"
    assert missing(torch.nn.modules.module, name, advice) == ""
    own = name.removeprefix("_global")
    assert missing(torch.nn.Linear(1, 1), own, advice) == ""


def test_torch_still_shows_each_operation_of_a_pass():
    advice = "gpt/accounting/code_lines.py needs another way to see the tensors of a line"
    assert missing(torch.utils._python_dispatch, "TorchDispatchMode", advice) == ""


def test_what_the_page_asks_of_gradio_is_still_there(built):
    advice = "wrap each handler in one_line of gpt/ui/parts/errors.py"
    assert missing(gr.Blocks, "call_function", advice) == ""
    advice = "measure a stream of updates without app.py's loop over it"
    assert {missing(event, "show_progress_on", advice) for event in built.fns.values()} == {""}
    assert app.PLOTLY, "its script of plotly has another name: page.js cannot fetch it ahead"


def test_a_lock_can_still_begin_anew_in_a_forked_process():
    """gpt/engine/decode_step.py and gpt/checkpoints/sources.py ask for it, as CPython's logging."""
    advice = "let register_at_fork put a new Lock in its place"
    assert missing(threading.Lock(), "_at_fork_reinit", advice) == ""


def test_torchs_initialisation_is_still_seen_by_function_modes():
    """model_without_values skips what torch.nn.init is asked to fill: by the module's name."""
    assert torch.nn.init.kaiming_uniform_.__module__ == "torch.nn.init"
    assert torch.nn.init.normal_.__module__ == "torch.nn.init"


def test_a_gradio_session_can_still_begin_without_the_pages_configuration(monkeypatch):
    """Thirty visitors who came together waited 2 s: each session wrote out all 400 components.

    When this fails: time `SessionState(demo)` without the patch; below 5 ms, delete the patch.
    """
    with gr.Blocks() as demo:
        box, kept = gr.Textbox(), gr.State(3)
    monkeypatch.setattr(SessionState, "__init__", gradio_patches._begin_session)
    assert SessionState(demo).config_values != {}
    gradio_patches.patch_gradio(demo)
    session = SessionState(demo)
    assert session.config_values == {}
    session[kept._id] = 4
    assert (session[kept._id], session[box._id]) == (4, box)
    session[box._id] = gr.Textbox("another", render=False)
    session._update_config(box._id)
    session._update_value_in_config(box._id, "text")
    assert not any(session.config_values.values())  # nothing written out, nothing kept


def test_gradio_still_tells_its_folder_for_downloads():
    """app.py asks for it. When it is gone: set GRADIO_TEMP_DIR to a folder of our own always."""
    assert inspect.signature(utils.get_upload_folder).parameters == {}
    assert isinstance(utils.get_upload_folder(), str)


@pytest.mark.parametrize("kind", [gr.Slider, gr.Number])
def test_a_number_that_is_impossible_reaches_our_own_check(kind, monkeypatch):
    """Gradio's line does not name the field, and an emptied slider was a traceback."""
    for each, check in gradio_patches._checks.items():  # what another test left is put back later
        monkeypatch.setattr(each, "preprocess", check)
    box = kind(minimum=0, maximum=9)
    with pytest.raises(gr.Error, match="less than minimum"):
        box.preprocess(-3)
    gradio_patches.patch_gradio(gr.Blocks())
    assert [box.preprocess(value) for value in (-3, 2.5, 99, None)] == [-3, 2.5, 99, None]


def test_gradio_sums_up_no_events(built, monkeypatch):
    """pandas grouped up to 10,000 events after each one, 15 to 20 ms of it: an end of every run.

    app.py sets two variables for it. When this fails: look in gradio's queueing.py for their names.
    """
    queue = built._queue
    monkeypatch.setattr(queue, "_get_df", None)  # cannot be called
    monkeypatch.setattr(queue, "events_recorded", 10_000)
    assert queue.compute_analytics_summary([{"function": "generate"}]) == {"functions": {}}
    assert queue.ANALYTICS_MAX_EVENTS == 1


def test_the_queue_looks_for_events_a_hundred_times_a_second():
    """A thousand times, 5 % of a core with nobody there. When this fails: measure without it."""
    page = gr.Blocks()
    assert page._queue.sleep_when_free == 0.001
    gradio_patches.patch_gradio(page)
    assert page._queue.sleep_when_free == gradio_patches.LOOK_SECONDS


@pytest.mark.parametrize("module", [queueing, routes])
def test_gradio_asks_its_traceback_for_nothing_but_to_print(module):
    """What gradio_patches.py puts in its place has nothing else. When this fails: give it that."""
    assert set(re.findall(r"\btraceback\.(\w+)", inspect.getsource(module))) == {"print_exc"}


def test_an_update_is_no_change_of_the_one_before_it(monkeypatch):
    """A sweep's Cancel button stayed on a slow page: the last message took "visible" out of the
    update that hid it before the page had read that.

    When this fails: where does gradio compute what of a yield it sends?
    """
    hidden, nothing = gr.update(visible=False), gr.update()
    monkeypatch.setattr(utils, "diff", gradio_patches._diff)
    assert utils.diff(hidden, nothing) == [["delete", ["visible"], None]]
    gradio_patches.patch_gradio(gr.Blocks())
    assert utils.diff(hidden, nothing) == [["replace", [], nothing]]
    assert utils.diff(hidden, hidden) == []
    assert utils.diff("Once", "Once upon") == [["append", [], " upon"]]
