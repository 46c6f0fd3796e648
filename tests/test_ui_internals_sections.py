"""Every section of the Internals tab as plain functions: its numbers are those of the readings."""

from __future__ import annotations

import base64
import csv
import html
import io
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import TINY, TinyRegistry, read_lens, tiny_model

from gpt.checkpoints.sources import random_source
from gpt.config import PRESETS, GPTConfig
from gpt.engine import FastModel
from gpt.generate import generate
from gpt.internals.distribution import (
    best_and_tail,
    compare_predictions,
    foreseen,
    loss,
    ranking,
    ranks,
    tally,
    uniform_interval,
)
from gpt.internals.heads import attention_rows, best_heads, head_scores
from gpt.internals.interventions import (
    ablate,
    gradient_x_input,
    occlusion,
    patch_sweep,
    read_contrast,
    sweep_heads,
)
from gpt.internals.ledger import read_ledger
from gpt.internals.merges import merge_steps
from gpt.internals.residual import embeddings, norms_of, read_norm, read_stream, token_vector
from gpt.internals.traced_pass import shape_rows
from gpt.sampling import SamplingOptions, draw, probabilities, uniforms
from gpt.tokenizer import display_form
from gpt.ui.internals.draws import segments_of
from gpt.ui.internals.lab import MAX_TOKENS, Focus, Lab, most_tokens
from gpt.ui.internals.section import code_html
from gpt.ui.internals.sections import SECTIONS
from gpt.ui.internals.sections.logits_to_odds import read_logits, softmax_bars
from gpt.ui.internals.sections.next_token import as_written
from gpt.ui.internals.sections.shape_table import KEPT_FILES, save_trace
from gpt.ui.internals.sections.text_to_tokens import perplexity, prompt_chips
from gpt.ui.internals.sections.what_if import UNTRAINED
from gpt.ui.internals.sections.why_this_token import BARS
from gpt.ui.parts.numbers import mib_and_mb, percent, significant
from gpt.ui.visit import Visit

TEXTUAL = replace(TINY, vocab_size=50257, context_length=160)
NASTY = "<img src=x onerror=alert(1)>&\"'\x00\x1b\u202eabc\u2066 é👍🏽\n\t${1}{{2}}</script>"
TAGS = (
    "p|span|br|div|table|caption|t[hrd]|thead|tbody|bdi|a|b|i|button|figure|figcaption|details|"
    "summary|svg|rect|g|path|title|text|img src=.data:"
)
ROOT = Path(__file__).resolve().parent.parent
PAYLOAD = 1_000_000  # bytes of any view
BY_KEY = {section.key: section for section in SECTIONS}
AT = 3  # the position looked at, with a token before and one after it


@pytest.fixture(scope="module")
def lab():
    return Lab(TinyRegistry({"words": tiny_model(TEXTUAL)}))


@pytest.fixture(scope="module")
def focus(lab):
    return lab.read("words", "Hello, I am a little").at(AT)


@pytest.fixture(scope="module")
def run(lab, focus):
    return lab.run(focus)


@pytest.fixture(scope="module")
def model(lab):
    return lab.registry.models["words"]


def views(lab, focus, key, **changed):
    """The HTML that a section shows in the end."""
    return "".join(view for view in all_views(lab, focus, key, **changed) if isinstance(view, str))


def all_views(lab, focus, key, **changed):
    """What a section shows in the end, figures too; a tuple. Its controls are as at first."""
    section = BY_KEY[key]
    first = {name: make().value for name, make in section.controls.items()}
    shown = section.view(lab, focus, **{**first, **section.picks, **changed})
    shown = result_of(shown) if hasattr(shown, "__next__") else shown
    return shown if isinstance(shown, tuple) else (shown,)


def result_of(steps):
    """What a generator returns after its texts that say how far it is."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def halves(text):
    """The two parts of a pair."""
    return text.split('<div id="int-att-words">')


def csv_of(text, at=0):
    data = re.findall(r"base64,([A-Za-z0-9+/=]+)\">Download CSV", text)[at]
    return list(csv.reader(io.StringIO(base64.b64decode(data).decode())))


def numbers_of(text, columns, at=0):
    """These columns of a CSV link as floats, a row a line."""
    return [[float(row[i]) for i in columns] for row in csv_of(text, at)[1:]]


def drawn(text, at=0):
    """The names, the widths and the numbers of a chart of bars, a row a line."""
    chart = text.split('<div class="bars')[at + 1]
    rows = [row.split("</div>")[0] for row in chart.split('<div class="row')[1:]]
    return [
        (
            html.unescape(re.search(r'class="name" title="([^"]*)"', row)[1]),
            [float(width) for width in re.findall(r"--w:([\d.]+)%", row)],
            [html.unescape(number) for number in re.findall(r"<span>(.*?)</span>", row)],
        )
        for row in rows
    ]


def assert_drawn(text, series, at=0):
    """Each series' bars are as long as its numbers, on one axis that ends at the longest."""
    widths = np.array([row[1] for row in drawn(text, at)]).T / 100
    every = np.array(series, dtype=float)
    span = max(every.max(), 0) - min(every.min(), 0)
    assert np.allclose(widths, np.abs(every) / span, atol=1e-4)


def picture_of(text, pattern=r"png;base64,([^\"')]+)", at=0):
    """A picture's alpha from 0 to 1 and its colours."""
    data = re.findall(pattern, text)[at]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(float)
    return pixels[..., 3] / 255, pixels[..., :3]


def cells(text, at=0):
    """The texts of a table's cells, a row a line."""
    body = re.findall(r"<tbody>(.*?)</tbody>", text, re.S)[at]
    return [
        [html.unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall(r"<td.*?</td>", row)]
        for row in re.findall(r"<tr.*?</tr>", body, re.S)
    ]


# A check a section: what it shows against the reading of the same name. A new section adds its own.


def check_tokens(lab, focus, run, model):
    text = views(lab, focus, "tokens")
    steps = merge_steps(lab.tokenizer, b" am")
    assert lab.piece(focus.ids[AT]) == "·am"
    assert [row[:4] for row in cells(text)] == [
        [str(n), f"{s.rank:,}", f"{display_form(s.left)} + {display_form(s.right)}",
         display_form(s.left + s.right)] for n, s in enumerate(steps, 1)
    ]  # fmt: skip
    entries = foreseen(run.logits, run.ids)
    assert numbers_of(text, (0, 2, 3, 4), 1) == [
        [e.position, e.probability, e.rank, e.surprisal] for e in entries
    ]
    mean = loss(entries)
    assert f"perplexity e^{significant(mean, 5)} = {significant(np.exp(mean))}" in text


def check_embeddings(lab, focus, run, model):
    text = views(lab, focus, "embeddings")
    rows = embeddings(run, AT)
    assert np.allclose(numbers_of(text, (1, 2, 3)), rows.T.numpy(), atol=0)
    for row in rows:
        assert significant(row.norm().item()) in text
    alpha, colours = picture_of(text)
    assert np.allclose(alpha, (rows.abs() / rows.abs().max()).numpy(), atol=0.003)
    assert ((colours[..., 2] > colours[..., 0]) == (rows > 0).numpy())[alpha > 0].all()  # blue


def check_attention(lab, focus, run, model):
    grid, words = halves(views(lab, focus, "attention", layer=1, head=2))
    attention = run.layer(1, "att.attention")[2]
    tables = csv_of(words)[1:]
    assert [[float(x) for x in row[1:]] for row in tables] == attention.tolist()
    row = attention_rows(attention)[AT]
    assert f"looks most at position {row.most_attended} (" in words
    assert f"with {percent(row.share)}" in words
    assert numbers_of(words, (2, 3, 4), 1)[AT] == [row.share, row.first_share, row.entropy]
    alpha, _ = picture_of(grid, at=1)  # the heads of layer 1 side by side
    shares = np.concatenate([*run.layer(1, "att.attention").numpy()], axis=1)
    assert np.allclose(alpha, np.sqrt(shares), atol=0.003)
    assert re.search(r'data-layer="1" data-head="2"[^>]*aria-pressed="true"', grid)
    arcs = re.search(rf'<g class="from on" data-from="{AT}">(.*?)</g>', words)[1]
    seen = attention[AT][attention[AT] >= 0.01].tolist()
    drawn_shares = sorted(float(s) for s in re.findall(r"--s:([\d.]+)", arcs))
    assert drawn_shares == pytest.approx(sorted(seen), abs=0.0006)
    for kind, scores in head_scores(model).items():
        for layer, head, score in best_heads(scores, 3):
            assert f"{layer}.{head} <b>{percent(score)}</b>" in grid, kind


def check_stream(lab, focus, run, model):
    measures = ("length", "cosine to the stage before")
    for measure, values in zip(measures, read_stream(run), strict=True):
        text = views(lab, focus, "stream", measure=measure)
        assert [[float(x) for x in row[1:]] for row in csv_of(text)[1:]] == values.tolist()
        shades = [float(s) for s in re.findall(r"--s:([\d.]+)", text)]
        high = values.max().item() if measure == "length" else 1
        assert np.allclose(shades, (values / high).clamp(min=0).flatten().numpy(), atol=0.006)
    att, ff = (norms_of(run, name)[:, AT].tolist() for name in ("att_out", "ff_out"))
    assert_drawn(text, [att, ff])
    assert numbers_of(text, (1, 2), 1) == [list(pair) for pair in zip(att, ff, strict=True)]


def check_vectors(lab, focus, run, model):
    strip, spread, curve, rest = all_views(lab, focus, "vectors", layer=1, name="keys")
    words = strip + rest
    keys = token_vector(run, 1, "keys", AT)
    alpha, _ = picture_of(words)
    assert np.allclose(alpha, (keys.abs() / keys.abs().max()).numpy(), atol=0.003)
    assert numbers_of(words, (1,)) == [[x] for x in keys.flatten().tolist()]
    _, before, after = read_norm(model, run, 1, "norm1", AT)
    pairs = list(zip(before.tolist(), after.tolist(), strict=True))
    assert numbers_of(words, (1, 2), 1) == [list(pair) for pair in pairs]
    assert cells(words, 1)[0][1:] == [f"{before.mean():.6f}", f"{before.var(correction=0):.6f}"]
    assert sum(spread.data[0].y) == sum(spread.data[1].y) == len(before)
    hidden, activation = (run.layer(1, f"ff.{n}")[AT].tolist() for n in ("hidden", "activation"))
    assert (list(curve.data[-1].x), list(curve.data[-1].y)) == (hidden, activation)
    assert numbers_of(words, (1, 2), 2) == [list(p) for p in zip(hidden, activation, strict=True)]


def check_lens(lab, focus, run, model):
    lens = read_lens(model, run, 262)
    values = dict(zip(
        ["probability of the best token", "rank of the chosen token",
         "probability of the chosen token", "entropy", "KL to the final distribution"],
        [lens.best_probability, lens.token_rank, lens.token_probability, lens.entropy,
         lens.divergence], strict=True,
    ))  # fmt: skip
    for measure in values:
        text = views(lab, focus, "lens", measure=measure, query=" the")
        rows = csv_of(text)
        chosen = "chosen" in measure
        assert (rows[0][-2:] == ["rank of the chosen", "its probability"]) == chosen
        assert [int(row[4]) for row in rows[1:]] == lens.best_ids.flatten().tolist()
        assert [float(row[5]) for row in rows[1:]] == lens.best_probability.flatten().tolist()
        if chosen:
            assert [int(row[-2]) for row in rows[1:]] == lens.token_rank.flatten().tolist()
        shades = [float(s) for s in re.findall(r"--s:([\d.]+)", text)]
        order = values[measure].flatten() * (-1 if "rank" in measure else 1)
        high, low = int(order.argmax()), int(order.argmin())
        assert shades[high] == max(shades) > shades[low] == min(shades)
    text = views(lab, focus, "lens", measure="rank of the chosen token", query="262")
    last = [f"{int(lens.token_rank[-1, AT]):,}", percent(lens.token_probability[-1, AT].item())]
    assert cells(text, 1)[-1][-2:] == last


def check_logits(lab, focus, run, model):
    text = views(lab, focus, "logits", count=5)
    p = run.logits[AT].double().softmax(-1)
    best = ranking(run.logits[AT])[:5].tolist()
    assert [row[0] for row in drawn(text)] == [lab.short(i, 12) for i in best]
    assert [row[2] for row in drawn(text)] == [
        [significant(x)] for x in run.logits[AT][best].tolist()
    ]
    assert_drawn(text, [run.logits[AT][best].tolist()])
    rest = (1 - p[best].sum()) / (50257 - 5)
    assert_drawn(text, [[*p[best].tolist(), rest.item()]], 1)  # faint: the tail is a mean
    shown = csv_of(text)[1:]
    assert [int(row[2]) for row in shown[:5]] == best
    assert [float(row[4]) for row in shown[:5]] == pytest.approx(p[best].tolist())
    assert float(shown[5][4]) == pytest.approx(1 - p[best].sum().item())
    assert shown[5][1] == "other 50,252 (mean logit)"
    came = foreseen(run.logits, run.ids)[AT]
    assert f"What came is “{lab.piece(came.token_id)}”: rank {came.rank:,}," in text
    assert f"{percent(came.probability)}, a surprisal" in text
    assert f"{significant(came.surprisal)} nats" in text
    assert f"{significant(came.surprisal / np.log(2))} bits" in text


def check_ledger(lab, focus, run, model):
    top, second = ranking(run.logits[AT])[:2].tolist()
    for mode, minus in (("its logit", None), ("its lead over the runner-up", second)):
        text = views(lab, focus, "ledger", mode=mode)
        ledger = read_ledger(model, run, AT, top, minus)
        logit = run.logits[AT, top].item() - (0 if minus is None else run.logits[AT, minus].item())
        terms = sorted((term.value for term in ledger), key=lambda value: -abs(value))
        assert [row[0] for row in numbers_of(text, (2,))] == terms
        assert numbers_of(text, (3,))[-1][0] == pytest.approx(logit, abs=1e-3)
        bars = [*terms[:BARS], sum(terms[BARS:])]
        assert_drawn(text, [bars])
        kinds = re.findall(r'<i class="(\w+)" style="--at', text)
        assert kinds == ["for" if x >= 0 else "against" for x in bars]
        assert f"is {logit:.4f}.".replace("-", "−") in text


def check_choice(lab, focus, run, model):
    text = views(lab, focus, "choice", temperature=0.7, top_k=50, top_p=0.9, seed=3, draws=200)
    options = SamplingOptions(temperature=0.7, top_k=50, top_p=0.9, seed=3)
    distribution = probabilities(run.logits[AT], options)
    choice = best_and_tail(run.logits[AT], distribution, 20)
    rows = csv_of(text)[1:]
    assert [float(row[6]) for row in rows[:20]] == [row.probability for row in choice.rows]
    assert text.count('<tr class="struck">') == sum(not row.kept for row in choice.rows)
    eight = choice.rows[:8]
    assert_drawn(text, [[r.softmax for r in eight], [r.probability for r in eight]])
    uniform = uniforms(torch.Generator().manual_seed(3))
    token_id = int(draw(distribution[None], uniform))
    low, high = uniform_interval(distribution, token_id)
    assert f"u = {uniform.item():.6f}" in text
    assert f'<i style="--at:{uniform.item():07.3%}">' in text
    assert f"between {low:.6f} and {high:.6f}" in text
    assert f"(id {token_id:,}," in text
    bar = text.split('class="cumulative"')[1].split("</div>")[0]
    assert sum(float(w) for w in re.findall(r"--w:([\d.]+)%", bar)) == pytest.approx(100, abs=0.1)
    many = draw(distribution[None], uniforms(torch.Generator().manual_seed(3), 200)[None])[0]
    _, counts, expected = tally(many, distribution, 4)
    assert_drawn(text, [counts, expected], 1)
    assert [row[0] for row in numbers_of(text, (1,), 2)][:-1] == counts


def check_mattered(lab, focus, run, model):
    text = views(lab, focus, "mattered", query=" the")
    gradient = gradient_x_input(model, run, AT, 262).tolist()
    whole, *without = occlusion(model, run, AT, 262)
    lost = [whole.logit - each.logit for each in without]
    assert_drawn(text, [gradient, lost])
    assert [row[1] for row in numbers_of(text, (2, 3))] == lost
    most = max(range(AT + 1), key=lambda i: abs(lost[i]))
    assert f"position {most} {'lowers' if lost[most] > 0 else 'raises'} its logit most" in text


def check_ablation(lab, focus, run, model):
    parts = {"one head": ("head", 1, 2), "a feed-forward": ("ff", 1, 0),
             "a whole layer": ("layer", 1, 0)}  # fmt: skip
    for kind, part in parts.items():
        for mode, how in (("zeros", "zero"), ("its mean so far", "mean")):
            text = views(lab, focus, "ablation", kind=kind, layer=1, head=2, mode=mode)
            result = compare_predictions(run.logits[AT], ablate(model, run, AT, part, how), 6)
            pairs = [list(pair) for pair in zip(result.first, result.second, strict=True)]
            assert [row[2] for row in drawn(text)] == [[percent(p) for p in pair] for pair in pairs]
            assert numbers_of(text, (2, 4)) == pairs
            assert f"overlap by {percent(result.overlap)}" in text


def check_sweep(lab, focus, run, model):
    text = views(lab, focus, "sweep")
    swept = [row for _, row in sweep_heads(model, run, AT, int(run.logits[AT].argmax()), "zero")]
    given = -np.array(swept)  # for is positive, and blue
    shades = [float(s) for s in re.findall(r"--s:([\d.]+)", text)]
    assert np.allclose(shades, np.abs(given).flatten() / np.abs(given).max(), atol=0.006)
    red = ["against" in style for style in re.findall(r"<td style=[^>]*>", text)]
    assert red == (given < 0).flatten().tolist()
    assert sorted(row[0] for row in numbers_of(text, (2,))) == sorted(given.flatten().tolist())


def check_patch(lab, focus, run, model):
    ids = [lab.tokenizer.encode(p) for p in ("The king took his", "The queen took her")]
    for part, head in (("the residual stream", None), ("one head's output", 2)):
        text = views(lab, focus, "patch", part=part, head=2)
        contrast = read_contrast(model, *ids)
        rows: dict[int, list[float]] = {}
        for layer, row in patch_sweep(model, contrast, head):
            rows.setdefault(layer, []).extend(row)
        recovered = np.array([*rows.values()])
        assert [row[0] for row in numbers_of(text, (2,))] == (100 * recovered).flatten().tolist()
        shades = [float(s) for s in re.findall(r"--s:([\d.]+)", text)]
        assert np.allclose(shades, np.abs(recovered).clip(max=1).flatten(), atol=0.006)
        for lead in contrast.leads:
            assert significant(lead) in text
        assert "“·his” leads by" in text


def check_compare(lab, focus, run, model):
    words = views(lab, focus, "compare", prompt="Goodbye, I", position=1)
    other = lab.run(lab.read("words", "Goodbye, I"))
    result = compare_predictions(run.logits[AT], other.logits[1], 10)
    columns = result.ids, result.first, result.first_ranks, result.second, result.second_ranks
    assert numbers_of(words, (1, 2, 3, 4, 5)) == [list(row) for row in zip(*columns, strict=True)]
    assert "After “…Hello, I am” (this prompt) and after “…Good" in words
    assert f"{significant(result.divergence)} nats over the whole vocabulary" in words


def check_shapes(lab, focus, run, model):
    text = views(lab, focus, "shapes")
    expected = [
        [row.name, "float32", str(4 * row.value.numel()), f"{row.file}:{row.line}", same or ""]
        for row, same in shape_rows(run)
    ]
    assert [[*row[:1], *row[2:5], row[6]] for row in csv_of(text)[1:]] == expected
    assert "record(trace, &quot;att_out&quot;, self.att(" in text


def check_file(lab, focus, run, model):
    text = views(lab, focus, "file")
    path = Path(unquote(html.unescape(re.search(r'href="gradio_api/file=([^"]+)"', text)[1])))
    assert f">Download {path.name}, {mib_and_mb(path.stat().st_size)}<" in text  # or GiB
    with np.load(path) as saved:
        assert saved["ids"].tolist() == list(focus.ids)
        assert np.array_equal(saved["logits"][0], run.logits.numpy())
        assert "trf_blocks.0.att.attention" in saved
        assert "trf_blocks.1.resid_in" not in saved  # the very tensor of the block before


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items())
          if name.startswith("check_")}  # fmt: skip


@pytest.mark.parametrize("key", [section.key for section in SECTIONS])
def test_the_numbers_of_a_section_are_those_of_its_reading(key, lab, focus, run, model):
    CHECKS[key](lab, focus, run, model)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.key)
def test_the_code_of_a_section_is_five_to_fifteen_lines_that_stand_in_their_file(section):
    count = 0
    for file, start, lines in (part.lines() for part in section.code):
        stand = (ROOT / file).read_text().splitlines(keepends=True)
        assert file.startswith("gpt/")
        assert stand[start - 1 : start - 1 + len(lines)] == lines
        count += len(lines)
    assert 5 <= count <= 15
    shown = html.unescape(re.sub("<[^>]+>", "", code_html(section.code)))
    assert all(line.strip() in shown for part in section.code for line in part.lines()[2])


@pytest.mark.parametrize("key", BY_KEY)
def test_every_view_is_escaped_and_there_is_one_for_each_output(key, lab):
    shown = all_views(lab, lab.read("words", NASTY), key)
    assert len(shown) == 1 + sum(map(len, BY_KEY[key].more))
    for part in shown:
        text = part if isinstance(part, str) else part.to_json()
        visible = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
        if isinstance(part, str):
            assert "<img src=x" not in visible
            assert not re.search(rf"<(?!/?(?:{TAGS})\b)", visible)
        assert not set(visible) & set("\x00\x1b\u202e\u2066")


@pytest.mark.parametrize("key", BY_KEY)
def test_every_section_reads_a_prompt_of_one_token(key, lab):
    assert views(lab, lab.read("words", "a"), key)


def test_no_view_of_the_longest_prompt_is_too_heavy():
    """GPT-2 small's layers and heads at the most tokens that the tab takes, all shown as hex."""
    cfg = GPTConfig(vocab_size=500, context_length=128, emb_dim=96, n_heads=12, n_layers=12)
    lab = Lab(TinyRegistry({"deep": tiny_model(cfg)}))
    focus = Focus("deep", tuple(range(128, 128 + MAX_TOKENS)), MAX_TOKENS - 1)
    assert lab.piece(200).startswith("⟨")
    heavy = {}
    for key in BY_KEY:
        if key in ("compare", "patch"):  # prompts of their own
            continue
        early = focus.at(15) if key in ("mattered", "sweep") else focus  # sooner measured
        parts = all_views(lab, early, key)
        size = sum(len(p if isinstance(p, str) else p.to_json()) for p in parts)
        if size > PAYLOAD:
            heavy[key] = size
    assert heavy == {}


@pytest.mark.parametrize(
    ("key", "changed", "line"),
    [
        ("choice", {"temperature": -1}, "Temperature is -1"),
        ("choice", {"temperature": "hot"}, "Temperature is 'hot'"),
        ("choice", {"top_k": -1}, "Top-k is -1: use a whole number from 1 to"),
        ("choice", {"seed": 1.5}, "Seed is 1.5: use a whole number"),
        ("choice", {"top_p": 2}, "Top-p is 2: use more than 0"),
        ("choice", {"draws": 10**9}, "draws is 1000000000: use a whole number from 1 to 10,000"),
        ("logits", {"count": 51}, "tokens shown is 51: use a whole number from 1 to 50"),
        ("ledger", {"query": "several words"}, "type one token or an id"),
        ("lens", {"query": "50257"}, "use 0 to 50,256"),
        ("mattered", {"query": "a" * 5_000_000}, "has 5,000,000 characters: type at most 200."),
        ("compare", {"position": 2.5}, "position in it is 2.5"),
        ("compare", {"prompt": "a" * 5_000_000}, "has 5,000,000 characters"),
    ],
)
def test_a_control_out_of_range_is_one_line_that_names_it(key, changed, line, lab, focus):
    """Gradio's own said "Value 9 is greater than maximum value 3." and not of what."""
    with pytest.raises(ValueError, match=re.escape(line)):
        views(lab, focus, key, **changed)


@pytest.mark.parametrize(
    "key",
    ["tokens", "attention", "stream", "lens", "logits", "choice", "ledger", "mattered",
     "ablation", "sweep", "patch"],
)  # fmt: skip
def test_a_token_within_a_sentence_stands_in_quotes(key, lab, focus):
    """“The best token is , (id 11)”: a comma or a space was not seen as a word."""
    text = html.unescape(views(lab, focus, key))
    said = " ".join(re.findall(r'<(?:p class="say"|caption)>(.*?)</', text))
    assert "“" in said
    assert not re.search(r"·\w", re.sub("“.*?”", "", said))


@pytest.mark.parametrize("stage", ["scaled and masked", "scores"])
def test_the_stages_of_a_head_before_the_softmax(stage, lab, focus, run):
    words = views(lab, focus, "attention", layer=1, head=2, stage=stage)
    values = run.layer(1, "att.masked_scores" if stage != "scores" else "att.scores")[2]
    rows = [row[1:] for row in csv_of(words)[1:]]
    shown = [[float("-inf") if x == "masked" else float(x) for x in row] for row in rows]
    assert shown == values.tolist()


def test_taking_out_the_first_token_leaves_the_same_out_of_every_view():
    """Where all look at the first token, grid, map, sentence and table name another one."""
    model = tiny_model(TEXTUAL)
    with torch.no_grad():  # equal scores: every share is 1 / (position + 1), the first one wins
        model.trf_blocks[0].att.W_query.weight.zero_()
    lab = Lab(TinyRegistry({"even": model}))
    focus = lab.read("even", "Hello, I am a little")
    count = len(focus.ids)
    grid, words = halves(views(lab, focus, "attention", skip=True))
    assert f"position {count - 1} (“{lab.piece(focus.ids[-1])}”) looks most at position 1" in words
    assert "(the first token aside)" in words
    assert picture_of(grid)[0].shape == (count, 3 * (count - 1))  # three heads side by side
    arcs = re.search(rf'<g class="from on" data-from="{count - 1}">(.*?)</g>', words)[1]
    assert arcs.count("<path") == count - 1


def test_likely_tokens_are_shown_in_per_cent_and_a_longer_tail_has_no_bar(lab, focus):
    read = read_logits(lab, focus, 2)
    read["top"] = [
        {**row, "probability": p} for row, p in zip(read["top"], (0.3, 0.1), strict=True)
    ]
    for tail, bar in ((0.25, 0.25), (0.6, 0)):
        read["tail"] = {**read["tail"], "probability": tail}
        text = softmax_bars(read, ["a", "b"])
        assert_drawn(text, [[0.3, 0.1, bar]])
        assert [row[2] for row in drawn(text)] == [
            ["30.0 %"], ["10.0 %"], [f"{100 * tail:.1f} % in all"]
        ]  # fmt: skip


def test_the_draw_shown_is_the_token_that_generation_draws(lab, focus, model):
    from gpt.generate import generate

    ids = list(focus.ids[: AT + 1])
    step = next(generate(model, ids, SamplingOptions(1, 1.0, None, 1.0, seed=77)))
    words = views(lab, focus, "choice", seed=77)
    assert f"(id {step.token_id:,}," in words
    assert f"u = {step.uniform:.6f}" in words


def test_a_greedy_choice_draws_no_number(lab, focus):
    assert "draws no random number" in views(lab, focus, "choice", temperature=0)


def test_settings_that_are_off_are_not_compared_with_none(lab, focus):
    assert "Without these settings" not in views(lab, focus, "choice")
    assert "Without these settings" in views(lab, focus, "choice", temperature=0.9)


def test_segments_fill_the_bar_in_id_order(lab):
    p = torch.tensor([0.004, 0.5, 0.002, 0.003, 0.4, 0.0, 0.091])
    segments = segments_of(lab, p)
    assert [kind for *_, kind in segments] == ["many", "one", "many", "other", "one"]
    assert [label for label, _, kind in segments if kind == "many"] == ["1 token", "2 tokens"]
    assert [width for _, width, _ in segments] == pytest.approx([0.004, 0.5, 0.005, 0.4, 0.091])


@pytest.mark.parametrize("query", [" the", "262"])
def test_a_token_is_found_by_text_or_id(query, lab, focus, run):
    found = views(lab, focus, "choice", query=query).split('id="int-found"')[1]
    assert cells(found)[0][2] == f"{int(ranks(run.logits[AT], torch.tensor(262))):,} of 50,257"


def test_the_box_that_finds_a_token_says_what_it_takes():
    """A renaming of `Text`, a class, made it "Visit or id."."""
    assert BY_KEY["choice"].controls["query"]().info == "Text or id."


def test_a_token_that_is_not_found_leaves_the_settings_beside_it_alone(lab, focus):
    text = views(lab, focus, "choice", query="50257")
    assert "use 0 to 50,256" in text
    assert "tokens can be drawn" in text


def test_a_fault_in_finding_a_token_is_no_mistake_of_the_visitor(lab, focus, monkeypatch):
    """It stood beside the box as a line about what was typed, and in no log."""
    monkeypatch.setattr(Lab, "named_ids", lambda *_: [*zip("a", "", strict=True)])
    with pytest.raises(ValueError, match="zip"):
        views(lab, focus, "choice", query="the")


def test_an_untrained_twin_has_the_same_configuration_and_other_weights(lab, focus):
    words = views(lab, focus, "compare", way=UNTRAINED)
    assert "KL(trained ‖ untrained)" in words


def test_a_prompt_compared_with_itself_is_equal(lab, focus):
    words = views(lab, focus, "compare", prompt="Hello, I am a little", position=AT)
    assert "<span>0 nats over the whole vocabulary" in words


def test_a_sweep_reports_every_layer(lab, focus):
    said = list(BY_KEY["sweep"].view(lab, focus, query="", mode="zeros"))
    assert [f"Layer {i + 1} of 2" in text for i, text in enumerate(said)] == [True, True]


def test_attribution_is_measured_once_for_a_token_and_position(lab, focus):
    first = views(lab, focus, "mattered", query=" a")
    before = lab.registry.borrowed
    assert views(lab, focus, "mattered", query=" a") == first
    assert lab.registry.borrowed == before


def test_dark_chips_are_probable_tokens_as_in_the_other_tab(lab, focus, run):
    """They were surprising ones: dark meant the opposite of what it means in Generation."""
    text = prompt_chips(lab, focus)
    shades = [float(s) for s in re.findall(r"--shade:([\d.]+)", text)]
    expected = [entry.probability for entry in foreseen(run.logits, run.ids)]
    assert shades == pytest.approx(expected, abs=0.001)  # none for the first token
    assert text.count("data-position=") == len(run.ids)


def test_a_loss_that_no_power_of_e_holds_is_said_as_one():
    assert perplexity(1139.8) == "e^1,139.8"
    assert perplexity(1.0) == "e^1.0000 = 2.72"


def test_trace_files_do_not_pile_up(lab, tmp_path):
    for n in range(KEPT_FILES + 2):
        save_trace(lab, lab.read("words", "a" * (n + 1)), tmp_path)
    assert len(list(tmp_path.iterdir())) == KEPT_FILES


def test_what_a_full_disk_left_of_a_trace_goes_with_the_older_ones(lab, tmp_path, monkeypatch):
    """It was called .part, and stayed for good."""
    write = np.savez

    def full(file, **arrays):
        write(file, **arrays)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(ValueError, match="No space left"):
            save_trace(lab, lab.read("words", "full"), tmp_path)
    assert list(tmp_path.iterdir())
    for n in range(KEPT_FILES):
        save_trace(lab, lab.read("words", "a" * (n + 1)), tmp_path)
    assert len(list(tmp_path.iterdir())) == KEPT_FILES


def test_a_folder_that_cannot_be_written_is_one_line(lab, focus, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="set GRADIO_TEMP_DIR"):
        save_trace(lab, focus, tmp_path / "file" / "below")


class InPrecisions(TinyRegistry):
    """The tiny models, as the engine makes them in a precision, each once."""

    def __init__(self, models):
        super().__init__(models)
        self.made = {}

    def borrow(self, source, precision="float32", progress=None):
        model = self.models[source]
        if precision != "float32":
            if (source, precision) not in self.made:
                self.made[source, precision] = FastModel(model, precision).eval()
            model = self.made[source, precision]
        return nullcontext(model)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_chosen_token_of_a_text_is_drawn_again_as_its_run_drew_it(precision):
    """Choice had a seed and a temperature of its own: another u than the token's panel told. Then
    it had the odds of float32 beside a text of int8: 54 of 600 draws were other tokens.
    """
    lab = Lab(InPrecisions({"words": tiny_model(TEXTUAL)}))
    ids = lab.encode("words", "Hello, I am")
    options = SamplingOptions(6, temperature=0.7, top_p=0.6, min_p=0.01, seed=7)
    with lab.registry.borrow("words", precision) as model:
        steps = list(generate(model, ids, options, None))
    settings = {
        "temperature": 0.7, "top_p": 0.6, "min_p": 0.01, "top_k": 0, "precision": precision,
    }  # fmt: skip
    for new, step in enumerate(steps):
        written = Visit(
            "words", "Hello, I am", settings, 7, tokens=6, position=len(ids) + new,
            ids=(*ids, *(step.token_id for step in steps)),
        )  # fmt: skip
        controls = as_written(written)
        at = lab.given_by("words", written.ids, written.position)
        shown = views(lab, at, "choice", **controls)
        assert f"Draw {new} of seed 7 is u = {step.uniform:.6f}." in shown
        assert f"(id {step.token_id:,}, {percent(step.probability)})" in shown
        assert "that token is drawn. It is the one in the text." in shown
        exact = probabilities(lab.logits(at, precision), options)[step.token_id].item()
        assert exact == pytest.approx(step.probability, rel=1e-6)
        other = replace(at, ids=(*at.ids[:-1], 5))
        assert "that token is drawn. The text has" in views(lab, other, "choice", **controls)
    assert as_written(replace(written, position=None)) == {}


def test_a_pass_that_would_take_gigabytes_reads_fewer_tokens():
    """One call with 64 heads and 300 layers took 4 GB, which stayed."""
    assert most_tokens(GPTConfig()) == MAX_TOKENS
    assert most_tokens(PRESETS["gpt2-xl"]) == MAX_TOKENS
    deep = GPTConfig(vocab_size=50257, context_length=128, emb_dim=64, n_heads=64, n_layers=300)
    assert most_tokens(deep) == 64
    source = random_source(deep, 1)
    with pytest.raises(ValueError, match="reads at most 64 with this model"):
        Lab(TinyRegistry({})).encode(source, "a b " * 60)
