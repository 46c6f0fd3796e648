"""A GPT, seen from outside and inside: compose the three tabs, read the command line, launch."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

try:
    import spaces  # before CUDA is touched; only Hugging Face's ZeroGPU machines have it
except ImportError:
    spaces = None

import gradio as gr
from gradio.utils import get_upload_folder

from gpt import Tokenizer
from gpt.checkpoints.sources import path_of
from gpt.engine.machine import usable_device
from gpt.engine.pages import keep_freed_memory
from gpt.serving import all_cores
from gpt.serving.registry import Registry
from gpt.ui import architecture, generation, internals
from gpt.ui.generation.borrowed_gpu import gpu_seconds
from gpt.ui.parts.gradio_patches import end_cancelled_runs_in_silence

TITLE = "A GPT, from scratch"
INTRODUCTION = (
    "# A GPT, from scratch\n"
    "Watch a small GPT choose one word at a time, then open it up and see why. All of it runs live."
)
ABOUT = (
    "The model is that of [*Build a Large Language Model (From Scratch)*]"
    "(https://www.manning.com/books/build-a-large-language-model-from-scratch), chapter 4. Every "
    "number on this page is computed by the code in `gpt/`."
)
STYLE = Path(__file__).parent / "assets" / "style.css"
# The reader's own fonts: nothing to download, and a familiar page in every script.
THEME = gr.themes.Default(
    primary_hue="blue",
    neutral_hue="slate",
    font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
    font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
)
CACHE_SECONDS = (600, 3600)  # how often files for download are looked at, and how old they get
MAX_VISITORS = 300  # whose settings are remembered, and whose events may run at the same time


# Where a GPU is borrowed for each run: what decorates the function that runs there.
ON_GPU = None if spaces is None else spaces.GPU(duration=gpu_seconds)


def build_demo(default_source: str | None = None, default_device: str = "cpu") -> gr.Blocks:
    """The page; models load at first need. Raises ValueError if `default_source` is unknown."""
    # A folder or file named on the command line is offered; visitors can name no other.
    on_disk = (default_source,) if default_source and path_of(default_source).exists() else ()
    registry = Registry(paths=on_disk)
    tokenizer = Tokenizer()
    source = default_source or registry.sources()[0].name
    registry.config_of(source)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=CACHE_SECONDS) as demo:
        gr.Markdown(INTRODUCTION)
        with gr.Tabs():
            with gr.Tab("Generation", id="generation"):
                writing = generation.build(registry, source, default_device, ON_GPU)
            with gr.Tab("Architecture", id="architecture"):
                calculator = architecture.build(registry)
            with gr.Tab("Internals", id="internals"):
                inside = internals.build(registry, tokenizer, source)
        calculator.offer_to([writing.model, inside])
        gr.Markdown(ABOUT, elem_classes="hint")
        demo.unload(writing.left)
    # Direct calls that pass by the queue are refused. `max_size` bounds the waiting events of all
    # visitors together, the read-only ones too: a click in Internals makes about twenty.
    return demo.queue(api_open=False, max_size=1024, default_concurrency_limit=1)


def launch(demo: gr.Blocks, **where: Any) -> Any:
    """Serve `demo`, quiet and with limits; `where` is host, port and share as gradio names them."""
    end_cancelled_runs_in_silence()
    return demo.launch(
        theme=THEME,
        css_paths=[STYLE],
        ssr_mode=False,
        show_error=False,
        enable_monitoring=False,
        run_history=False,
        max_file_size="100kb",
        state_session_capacity=MAX_VISITORS,
        max_threads=MAX_VISITORS,  # also bounds the events that run, those without a thread too
        footer_links=["api"],
        **where,
    )


def own_temporary_folder() -> str:
    """Gives gradio a new folder for visitors' files if its usual one is not ours, and says so."""
    folder = Path(get_upload_folder())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        os.environ["GRADIO_TEMP_DIR"] = made = tempfile.mkdtemp(prefix="gradio-")
        return f"{folder} cannot be written ({error.strerror}): files to download are in {made}."
    return ""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line as a namespace."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default=None, help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=None, help="port (default: 7860 or the next)")
    parser.add_argument("--share", action="store_true", help="also open a public link for 72 hours")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps: what is chosen at first")
    parser.add_argument("--model", default=None, help="the model chosen at first: name or folder")
    return parser.parse_args(arguments)


def main() -> None:
    args = parse_arguments()
    keep_freed_memory()
    all_cores.start()
    device, missing = usable_device(args.device)
    for line in (missing, own_temporary_folder()):
        if line:
            print(line)
    try:
        demo = build_demo(args.model, device)
    except ValueError as error:
        raise SystemExit(f"app.py: {error}") from error
    launch(demo, server_name=args.host, server_port=args.port, share=args.share)


if __name__ == "__main__":
    main()
