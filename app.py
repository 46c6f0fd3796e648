"""A GPT, seen from outside and inside: compose the four tabs, read the command line, launch."""

import argparse
import gc
import os
import platform
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

if (
    __name__ == "__main__"
    and "glibc" in platform.libc_ver()
    and not any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
):
    # Large tensors in huge pages where the system has some; the memory of a prompt's tensors kept
    # for the next. Fewer arenas gain nothing: with four, memory grew as before, with two, decoding
    # took 1.6 times as long. glibc reads this when a process starts: the page starts once more.
    os.environ["GLIBC_TUNABLES"] = (
        "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432"
        ":glibc.malloc.trim_threshold=268435456"
    )
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

# After every event gradio sums up the last 10,000 with pandas, for a dashboard that this page does
# not show: 15 to 20 ms of processor time each (2-core AMD EPYC). Now none is kept or summed up.
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**12))

try:
    import spaces  # before CUDA is touched; only Hugging Face's ZeroGPU machines have it
except ImportError:
    spaces = None

import gradio as gr
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware

from gpt.checkpoints.reading import read_config_file
from gpt.checkpoints.sources import path_of
from gpt.engine.machine import show_what_can_be_shown
from gpt.serving import all_cores, cluster
from gpt.serving.registry import Registry
from gpt.ui.generation.borrowed_gpu import gpu_seconds
from gpt.ui.generation.wish import usable_device
from gpt.ui.page_bar import PageBar
from gpt.ui.parts.errors import Blocks
from gpt.ui.parts.gradio_patches import patch_gradio
from gpt.ui.parts.middleware import KeptAnswers, small_bodies
from gpt.ui.tabs import Page
from gpt.ui.tour import add_tour

TITLE = "A GPT, from scratch"
INTRODUCTION = (
    "Watch a small GPT choose each word, then open it up and see why. All of it runs live."
)
ABOUT = (
    "The model is that of [*Build a Large Language Model (From Scratch)*]"
    "(https://www.manning.com/books/build-a-large-language-model-from-scratch), chapter 4. Every "
    "number on this page is computed by the code in `gpt/`."
)
# head.css is there from the first paint on, since the style sheet comes later: the page's width,
# and room for what is drawn late (a tab, buttons, the chips of the first text), else what stands
# below would move down. And what a medium changes of the page itself: gradio lets a style sheet's
# @media rules reach only what is inside it.
ASSETS = Path(__file__).parent / "assets"
STYLE, SCRIPT = ((ASSETS / name).read_text() for name in ("head.css", "page.js"))
# gradio's file of plotly, whose name has a hash; page.js has it fetched ahead.
PLOTLY = "".join(
    f'<link fetchpriority="low" data-plotly="assets/{file.name}">'
    for file in Path(gr.__file__).parent.glob("templates/frontend/assets/PlotlyPlot-*.js")
)
HEAD = f"<style>\n{STYLE}</style>{PLOTLY}<script>{SCRIPT}</script>"
# The reader's own fonts: nothing to download, and a familiar page in every script.
THEME = gr.themes.Default(
    primary_hue="blue",
    neutral_hue="slate",
    font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
    font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
).set(  # hints and white on blue with a contrast of at least 4.5
    body_text_color_subdued="*neutral_600",
    block_info_text_color="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    block_info_text_color_dark="*neutral_300",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
)
# The page's HTML is a tenth in gzip, and so are answers. Answers come as events, which the
# middleware leaves out unless told; it flushes after each, so that none waits for the next.
# Scripts and styles are left to gradio's own brotli.
COMPRESSION = Middleware(
    GZipMiddleware,
    minimum_size=1000,
    compresslevel=6,
    exclude_content_types=(
        *(kind for kind in DEFAULT_EXCLUDED_CONTENT_TYPES if kind != "text/event-stream"),
        *("application/javascript", "text/javascript", "text/css"),
    ),
)
CACHE_SECONDS = (600, 3600)  # how often files for download are looked at, and how old they get
MAX_VISITORS = 300  # whose settings are remembered, and whose events may run at the same time


# Where a GPU is borrowed for each run: what decorates the function that runs there.
ON_GPU = None if spaces is None else spaces.GPU(duration=gpu_seconds)


def build_demo(
    default_source: str | None = None,
    default_device: str = "cpu",
    config: str | None = None,
    replicas: Any = None,
) -> gr.Blocks:
    """The page; models load at first need. `config` is a JSON file for `default_source`.

    With `replicas`, a handle from `gpt.serving.cluster.connect`, these write the texts.

    Raises ValueError if `default_source` is unknown or has no configuration.
    """
    # A folder or file named on the command line is offered; visitors can name no other.
    on_disk = {default_source: None} if default_source and path_of(default_source).exists() else {}
    if config is not None:
        if not on_disk:
            raise ValueError("a configuration is for a checkpoint on disk: name it by --model.")
        on_disk[default_source] = read_config_file(path_of(config))
    registry = Registry(paths=on_disk)
    source = default_source or next(iter(registry.sources()))
    registry.config_of(source)
    with Blocks(title=TITLE, analytics_enabled=False, delete_cache=CACHE_SECONDS) as demo:
        bar = PageBar(TITLE, INTRODUCTION)
        page = Page(registry, source, default_device, ON_GPU, bar.note.input, replicas)
        page.add_tabs()
        bar.connect(page)
        add_tour()
        gr.Markdown(ABOUT, elem_classes="hint")
        # Each step of any event makes gradio's page copy the state of whatever progress was ever
        # to be shown on, hidden or not, with all that stands inside it.
        for event in demo.fns.values():
            if event.show_progress == "hidden":
                event.show_progress_on = []
    # Direct calls that pass by the queue are refused. `max_size` bounds the waiting events of all
    # visitors together, the read-only ones too.
    return demo.queue(api_open=False, max_size=1024, default_concurrency_limit=1)


def launch(demo: gr.Blocks, **where: Any) -> Any:
    """Serve `demo`, quiet and with limits; `where` is host, port and share as gradio names them."""
    patch_gradio(demo)
    return demo.launch(
        theme=THEME,
        css_paths=[ASSETS / "style.css"],
        head=HEAD,
        app_kwargs={"middleware": [Middleware(KeptAnswers), Middleware(small_bodies), COMPRESSION]},
        ssr_mode=False,
        show_error=False,
        enable_monitoring=False,
        run_history=False,
        max_file_size="2mb",
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
    add = parser.add_argument
    told = "address to listen on (default: 127.0.0.1)"
    add("--host", metavar="ADDRESS", type=lambda text: text or None, help=told)
    add("--port", type=int, metavar="N", help="port (default: the first free one from 7860 on)")
    add("--share", action="store_true", help="open a public link too, for up to a week")
    add("--device", default="cpu", help="chosen at first: cpu, cuda or mps (default: %(default)s)")
    add("--model", metavar="NAME_OR_PATH", help="chosen at first (default: storyteller)")
    add("--config", metavar="FILE", help="JSON, for a checkpoint that has no configuration")
    text = "replicas write the texts: of `python -m gpt serve`, on the Ray cluster at ADDRESS"
    add("--cluster", metavar="auto|ADDRESS", help=text)
    return parser.parse_args(arguments)


def check_address(host: str | None, port: int | None) -> None:
    """Raises ValueError, in one line, if this machine cannot listen there."""
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(f"port {port} does not exist: use 1 to 65535.")
    family = socket.AF_INET6 if host and ":" in host else socket.AF_INET
    try:
        socket.create_server((host or "127.0.0.1", port or 0), family=family).close()
    except (OSError, UnicodeError, TypeError) as error:  # the last two: no host name
        reason = (getattr(error, "strerror", None) or "no such address").split(" (while")[0]
        where = f"{(host or '127.0.0.1')[:60]}{'' if port is None else f', port {port}'}"
        raise ValueError(f"cannot listen on {where} ({reason}): use another.") from error


def _end_by_sigterm() -> None:
    """As by Ctrl-C, so that what lies in temporary folders goes; not in forked processes."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL)
            )


def main(arguments: list[str] | None = None) -> None:
    """Serves the page until Ctrl-C or SIGTERM; a mistake on the command line is one line and
    status 2.
    """
    show_what_can_be_shown()
    args = parse_arguments(arguments)
    _end_by_sigterm()
    all_cores.start()
    device, missing = usable_device(args.device)
    for line in (missing, own_temporary_folder()):
        if line:
            print(line)
    try:
        check_address(args.host, args.port)
        handle = cluster.connect(args.cluster) if args.cluster else None
        demo = build_demo(args.model, device, args.config, handle)
        where = {"server_name": args.host, "server_port": args.port, "share": args.share}
        launch(demo, **where, prevent_thread_lock=True)
    except (ValueError, OSError) as error:  # gradio's OSError: no port of a hundred is free
        print(f"app.py: {' '.join(str(error).split())[:500]}", file=sys.stderr)
        raise SystemExit(2) from error
    gc.collect()
    gc.freeze()  # what is there stays; to look at it all again stopped every text for 0.2 s
    demo.block_thread()


if __name__ == "__main__":
    main()
