"""The pass as a table of shapes, and the whole trace as a file."""

import linecache
import uuid
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np
from gradio.utils import get_upload_folder

from gpt.internals.traced_pass import shape_rows
from gpt.trace import record
from gpt.ui.internals.lab import Focus, Lab
from gpt.ui.internals.section import ROOT, Code, section
from gpt.ui.parts.numbers import mib_and_mb
from gpt.ui.parts.sentences import say
from gpt.ui.parts.table import Column, code_column, table_html

KEPT_FILES = 4
COLUMNS = (
    code_column("step"), code_column("shape"), "dtype", Column("bytes"),
    code_column("computed in"), code_column("the line"), code_column("same tensor as"),
)  # fmt: skip


@section(
    "shapes",
    title="Code: the pass step by step",
    intro="What the pass computed, in the order in which it was computed. The last columns are the "
    "line of this program that made the tensor, noted while it ran, so they cannot go stale.",
    code=(Code(record),),
)
def shapes_html(lab: Lab, focus: Focus) -> str:
    """Every step with shape, dtype, bytes, file and line, and that line itself; HTML."""
    run = lab.run(focus)
    rows = [
        (
            row.name,
            "(" + ", ".join(f"{n:,}" for n in row.value.shape) + ")",
            str(row.value.dtype).removeprefix("torch."),
            row.value.nbytes,
            f"{row.file}:{row.line}",
            linecache.getline(str(ROOT / row.file), row.line).strip(),
            same_as or "",
        )
        for row, same_as in shape_rows(run)
    ]
    cfg = run.cfg
    return say(
        f"{len(rows)} recorded steps, {mib_and_mb(run.n_bytes)} of distinct tensors. b = 1 prompt, "
        f"t = {len(run.ids)} tokens, d = {cfg.emb_dim:,}, h = {cfg.n_heads} heads of e = "
        f"{cfg.head_dim}, vocab = {cfg.vocab_size:,}. File and line are the ones that ran."
    ) + table_html(COLUMNS, rows, "The pass, step by step", csv_name="shapes")


def save_trace(lab: Lab, focus: Focus, folder: Path) -> Path:
    """The run's distinct tensors and ids as an uncompressed `.npz` below `folder`.

    The newest `KEPT_FILES` files stay; older ones are removed. Raises ValueError if the folder
    cannot be written.
    """
    run = lab.run(focus)
    arrays = {row.name: row.value.cpu().numpy() for row, same_as in shape_rows(run) if not same_as}
    path = folder / f"trace-{uuid.uuid4().hex[:12]}.npz"  # nobody else's, whoever asks meanwhile
    try:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, ids=np.array(run.ids), **arrays)
    except OSError as error:
        raise ValueError(
            f"the trace cannot be written to {folder} ({error.strerror}): set GRADIO_TEMP_DIR to "
            "a folder of your own."
        ) from error
    files = sorted(folder.glob("trace-*.npz"), key=lambda file: file.stat().st_mtime)
    for old in files[:-KEPT_FILES]:
        old.unlink(missing_ok=True)
    return path


@section(
    "file",
    title="Code: every tensor of the pass as a file",
    intro="All that the pass computed, to be read with `numpy.load`.",
    code=(Code(save_trace, "arrays = ", "np.savez"),),
    needs_model=True,
    output="int-npz-words",
    button="Prepare the trace as .npz",
    button_id="int-npz",
)
def trace_file(lab: Lab, focus: Focus) -> str:
    """A link to the trace as a file, served from where it lies without a copy; HTML."""
    path = save_trace(lab, focus, Path(get_upload_folder()) / "internals")
    label = f"Download {path.name}, {mib_and_mb(path.stat().st_size)}"
    return say(f"The pass over {len(focus.ids)} tokens with {focus.source}.") + (
        f'<a class="csv" id="int-npz-file" download="{path.name}" '
        f'href="gradio_api/file={escape(quote(str(path)))}">{label}</a>'
    )
