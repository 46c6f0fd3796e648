"""The pass as a table of shapes, and the whole trace as a file."""

from __future__ import annotations

import hashlib
import json
import linecache
import uuid
from pathlib import Path

import gradio as gr
import numpy as np

from gpt.internals.shapes import shape_rows
from gpt.ui.internals.lab import Lab, State
from gpt.ui.internals.sections import EMPTY, Page, Section, quiet
from gpt.ui.internals.tables import say, table_html
from gpt.ui.parts.errors import one_line_errors
from gpt.ui.parts.numbers import mib_and_mb

INTRO = (
    "What the pass computed, in the order in which it was computed. The last columns are the line "
    "of this program that made the tensor, noted while it ran, so they cannot go stale."
)
KEPT_FILES = 4

_ROOT = Path(__file__).resolve().parents[3]


def shapes_html(lab: Lab, state: State) -> str:
    """Every step with shape, dtype, bytes, file and line, and that line itself; HTML."""
    run = lab.run(state)
    rows = shape_rows(run)
    cells = [
        [
            row.name,
            "(" + ", ".join(f"{n:,}" for n in row.shape) + ")",
            row.dtype,
            "same tensor" if row.same_as else f"{row.n_bytes:,}",
            f"{row.file}:{row.line}",
            linecache.getline(str(_ROOT / row.file), row.line).strip(),
        ]
        for row in rows
    ]
    exact = [
        [row.name, str(row.shape), row.dtype, row.n_bytes, row.file, row.line, row.same_as or ""]
        for row in rows
    ]
    headers = ["step", "shape", "dtype", "bytes", "computed in", "the line"]
    cfg = run.cfg
    return say(
        f"{len(rows)} recorded steps, {mib_and_mb(run.n_bytes)} of distinct tensors. b = 1 prompt, "
        f"t = {len(run.ids)} tokens, d = {cfg.emb_dim:,}, h = {cfg.n_heads} heads of e = "
        f"{cfg.head_dim}, vocab = {cfg.vocab_size:,}. File and line are the ones that ran."
    ) + table_html(
        "The pass, step by step",
        headers,
        cells,
        csv_name="shapes",
        csv_headers=["step", "shape", "dtype", "bytes", "file", "line", "same tensor as"],
        csv_rows=exact,
        text_columns=(0, 1, 2, 4, 5),
    )


def save_trace(lab: Lab, state: State, folder: Path) -> Path:
    """The run's distinct tensors and ids as an uncompressed `.npz` below `folder`.

    The newest `KEPT_FILES` files stay; older ones are removed.
    """
    run = lab.run(state)
    arrays = {
        row.name: run.trace[row.name].cpu().numpy() for row in shape_rows(run) if not row.same_as
    }
    folder.mkdir(parents=True, exist_ok=True)
    key = json.dumps([state["source"], state["ids"]]).encode()
    path = folder / f"trace-{hashlib.sha256(key).hexdigest()[:12]}.npz"
    part = path.with_suffix(f".{uuid.uuid4().hex}.part")
    with part.open("wb") as file:
        np.savez(file, ids=np.array(run.ids), **arrays)
    part.replace(path)  # whole or not at all, also when two visitors ask for the same trace
    files = sorted(folder.glob("trace-*.npz"), key=lambda file: file.stat().st_mtime)
    for old in files[:-KEPT_FILES]:
        old.unlink(missing_ok=True)
    return path


def build(page: Page) -> None:
    """The section: the table, and the trace as a file when asked for."""
    with Section(page, "Shapes: the pass step by step", "int-section-shapes") as part:
        gr.Markdown(INTRO)
        table = gr.HTML(EMPTY, elem_id="int-shapes")
        with gr.Row():
            prepare = gr.Button("Prepare the trace as .npz", elem_id="int-npz")
            file = gr.DownloadButton("Download", visible=False, elem_id="int-npz-file")
    part.wire(lambda state: shapes_html(page.lab, state), [], [table])
    folder = Path(file.GRADIO_CACHE) / "internals"  # served from there without another copy

    @one_line_errors
    def offer(state: State | None) -> gr.DownloadButton:
        if not state:
            raise ValueError("there is no pass yet: press “Run the pass” first.")
        path = save_trace(page.lab, state, folder)
        size = path.stat().st_size / 10**6
        return gr.DownloadButton(
            f"Download {path.name} ({size:,.1f} MB)", value=str(path), visible=True
        )

    prepare.click(offer, page.state, file, api_visibility="private", show_progress="minimal")
    # A new run has another trace: the old offer goes.
    page.state.change(lambda: gr.DownloadButton(visible=False), None, file, **quiet(), queue=False)
