"""Every section of the Internals tab as plain functions: its numbers are those of the readings."""

from __future__ import annotations

import base64
import csv
import html
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import TINY, TinyRegistry, tiny_model

from gpt.config import GPTConfig
from gpt.internals.ablation import Part, ablate, sweep_heads
from gpt.internals.attribution import gradient_x_input, occlusion
from gpt.internals.distribution import choose, rank_of, ranking, tally, uniform_interval
from gpt.internals.heads import attention_rows, head_stages
from gpt.internals.ledger import read_ledger
from gpt.internals.lens import read_lens
from gpt.internals.residual import embeddings, read_norm, read_stream, token_vector
from gpt.internals.shapes import shape_rows
from gpt.internals.surprise import foreseen, loss
from gpt.internals.two_predictions import compare_predictions
from gpt.sampling import SamplingOptions, draw, probabilities, uniforms
from gpt.tokenizer import Tokenizer
from gpt.ui.internals.draws import segments_of
from gpt.ui.internals.lab import MAX_TOKENS, Lab, Visit
from gpt.ui.internals.prompt import perplexity, prompt_chips
from gpt.ui.internals.sections import SECTIONS
from gpt.ui.internals.sections.logits_to_odds import read_logits, softmax_figure
from gpt.ui.internals.sections.shape_table import KEPT_FILES, save_trace
from gpt.ui.internals.sections.side_by_side import UNTRAINED
from gpt.ui.parts.heat import SIGNED_SCALE
from gpt.ui.parts.numbers import percent, significant
from gpt.ui.parts.plots import AGAINST, FOR

TEXTUAL = replace(TINY, vocab_size=50257, context_length=160)
NASTY = "<img src=x onerror=alert(1)>&\"'\x00\x1b\u202eabc\u2066 é👍🏽\n\t${1}{{2}}</script>"
TAGS = (
    "p|span|br|div|table|caption|t[hrd]|thead|tbody|bdi|a|button|figure|figcaption|img src=.data:"
)
PAYLOAD = 1_000_000  # bytes of any one view
BY_KEY = {section.key: section for section in SECTIONS}
AT = 3  # the position looked at, with a token before and one after it


@pytest.fixture(scope="module")
def lab():
    return Lab(TinyRegistry({"words": tiny_model(TEXTUAL)}), Tokenizer())


@pytest.fixture(scope="module")
def visit(lab):
    return lab.read("words", "Hello, I am a little").at(AT)


@pytest.fixture(scope="module")
def run(lab, visit):
    return lab.run(visit)


@pytest.fixture(scope="module")
def model(lab):
    return lab.registry.models["words"]


def settings(spec):
    """What the controls are at first, by name."""
    return {name: make().value for name, make in spec.controls.items()}


def views(lab, visit, spec, **changed):
    """The last views of a section or of an action, as a tuple."""
    if isinstance(spec, str):
        spec = BY_KEY[spec]
    shared = {name: settings(BY_KEY["ablation"])[name] for name in getattr(spec, "shared", ())}
    shown = spec.view(lab, visit, **{**shared, **settings(spec), **changed})
    if hasattr(shown, "__next__"):
        shown = list(shown)[-1]
    return shown if isinstance(shown, tuple) else (shown,)


def specs():
    """Every section that computes and every action, by key."""
    every = [spec for section in SECTIONS for spec in (section, section.action)]
    return {spec.key: spec for spec in every if spec is not None and spec.view is not None}


def csv_of(text, at=0):
    data = re.findall(r"base64,([A-Za-z0-9+/=]+)\">Download CSV", text)[at]
    return list(csv.reader(io.StringIO(base64.b64decode(data).decode())))


def numbers_of(text, columns, at=0):
    """These columns of a CSV link as floats, a row a line."""
    return [[float(row[i]) for i in columns] for row in csv_of(text, at)[1:]]


def cells(text, at=0):
    """The texts of a table's cells, a row a line."""
    body = re.findall(r"<tbody>(.*?)</tbody>", text, re.S)[at]
    return [
        [html.unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall(r"<td.*?</td>", row)]
        for row in re.findall(r"<tr.*?</tr>", body, re.S)
    ]


# A check a section: what it shows against the reading of the same name. A new section adds its own.


def check_position(lab, visit, run, model):
    (text,) = views(lab, visit, "position")
    p = run.logits[AT].double().softmax(-1)
    best = ranking(run.logits[AT])[:5].tolist()
    came = foreseen(run.logits, run.ids)[AT]
    rows = [[str(n), lab.piece(i), f"{i:,}", percent(p[i].item())] for n, i in enumerate(best, 1)]
    rows.append([f"{came.rank:,}", lab.piece(came.token_id), f"{came.token_id:,}",
                 percent(came.probability)])  # fmt: skip
    assert [row[:4] for row in cells(text)] == rows
    assert [row[4] for row in cells(text)] == [""] * 5 + ["came"]
    assert f"{significant(came.surprisal)} nats" in text
    assert f"{significant(came.surprisal / np.log(2))} bits" in text


def check_prompt(lab, visit, run, model):
    (text,) = views(lab, visit, "prompt")
    entries = foreseen(run.logits, run.ids)
    assert numbers_of(text, (0, 2, 3, 4)) == [
        [e.position, e.probability, e.rank, e.surprisal] for e in entries
    ]
    mean = loss(entries)
    assert f"perplexity e^{significant(mean)} = {significant(np.exp(mean))}" in text


def check_embeddings(lab, visit, run, model):
    words, figure, table = views(lab, visit, "embeddings")
    rows = embeddings(run, AT)
    assert np.array_equal(figure.data[0].z, rows.numpy())
    assert np.allclose(numbers_of(table, (1, 2, 3)), rows.T.numpy(), atol=0)
    for row in rows:
        assert significant(row.norm().item()) in words


def check_attention(lab, visit, run, model):
    grid, figure, words = views(lab, visit, "attention", layer=1, head=2)
    stages = head_stages(run, 1, 2)
    later = np.triu(np.ones((len(run.ids),) * 2, bool), 1)
    assert np.array_equal(np.isnan(figure.data[-1].z), later)
    assert np.allclose(np.where(later, 0, figure.data[-1].z), stages.attention.numpy())
    assert [[float(x) for x in row[1:]] for row in csv_of(words)[1:]] == stages.attention.tolist()
    row = attention_rows(stages.attention)[AT]
    assert f"looks most at position {row.most_attended} (" in words
    assert f"with {percent(row.share)}" in words
    assert numbers_of(words, (2, 3, 4), 1)[AT] == [row.share, row.first_share, row.entropy]
    pressed = re.search(r'aria-pressed="true"><img src="data:image/png;base64,([^"]+)', grid)[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(pressed)))).astype(float)
    darkness = (255 - pixels[..., 0]) / (255 - 0x3B)  # the square root of the share
    assert np.allclose(darkness[~later], np.sqrt(stages.attention.numpy()[~later]), atol=0.01)
    assert (pixels[later] == (0xA6, 0xAB, 0xB5)).all()


def check_stream(lab, visit, run, model):
    stream = read_stream(run)
    for measure, values in (
        ("length", stream.norms),
        ("cosine to the stage before", stream.cosines),
    ):
        text, figure, table = views(lab, visit, "stream", measure=measure)
        assert [[float(x) for x in row[1:]] for row in csv_of(text)[1:]] == values.tolist()
        shades = [float(s) for s in re.findall(r"--s:([\d.]+)", text)]
        high = values.max().item() if measure == "length" else 1
        assert np.allclose(shades, (values / high).clamp(min=0).flatten().numpy(), atol=0.006)
    att, ff = stream.attention_norms[:, AT].tolist(), stream.feed_forward_norms[:, AT].tolist()
    assert {trace.name: list(trace.x) for trace in figure.data} == {
        "attention": att, "feed-forward": ff
    }  # fmt: skip
    assert numbers_of(table, (1, 2)) == [list(pair) for pair in zip(att, ff, strict=True)]


def check_vectors(lab, visit, run, model):
    words, strip, norm, gelu, spread, curve = views(lab, visit, "vectors", layer=1, name="keys")
    keys = token_vector(run, 1, "keys", AT)
    assert np.array_equal(strip.data[0].z, keys.numpy())
    assert numbers_of(words, (1,)) == [[x] for x in keys.flatten().tolist()]
    row = read_norm(model, run, 1, "norm1", AT)
    pairs = list(zip(row.before.tolist(), row.after.tolist(), strict=True))
    assert numbers_of(norm, (1, 2)) == [list(pair) for pair in pairs]
    assert cells(norm)[0][1:] == [f"{row.mean:.6f}", f"{row.variance:.6f}"]
    assert sum(spread.data[0].y) == sum(spread.data[1].y) == len(row.before)
    hidden, activation = (run.layer(1, f"ff.{n}")[AT].tolist() for n in ("hidden", "activation"))
    assert (list(curve.data[-1].x), list(curve.data[-1].y)) == (hidden, activation)
    assert numbers_of(gelu, (1, 2)) == [list(p) for p in zip(hidden, activation, strict=True)]


def check_lens(lab, visit, run, model):
    lens = read_lens(model, run, 262)
    values = dict(zip(
        ["probability of the best token", "rank of the chosen token",
         "probability of the chosen token", "entropy", "KL to the final distribution"],
        [lens.best_probability, lens.token_rank, lens.token_probability, lens.entropy,
         lens.divergence], strict=True,
    ))  # fmt: skip
    for measure in values:
        (text,) = views(lab, visit, "lens", measure=measure, query=" the")
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
    (text,) = views(lab, visit, "lens", measure="rank of the chosen token", query="262")
    last = [f"{int(lens.token_rank[-1, AT]):,}", percent(lens.token_probability[-1, AT].item())]
    assert cells(text, 1)[-1][-2:] == last


def check_logits(lab, visit, run, model):
    _, logits, softmax, table = views(lab, visit, "logits", count=5)
    p = run.logits[AT].double().softmax(-1)
    best = ranking(run.logits[AT])[:5].tolist()
    assert list(logits.data[0].x) == run.logits[AT][best].tolist()
    assert list(logits.layout.yaxis.ticktext) == [lab.short(i, 12) for i in best]
    assert np.allclose(list(softmax.data[0].x)[:5], 50257 * p[best])  # faint: multiples of even
    assert softmax.layout.xaxis.range == (0, pytest.approx(1.15 * softmax.data[0].x[0]))
    shown = csv_of(table)[1:]
    assert [int(row[2]) for row in shown[:5]] == best
    assert [float(row[4]) for row in shown[:5]] == pytest.approx(p[best].tolist())
    assert float(shown[5][4]) == pytest.approx(1 - p[best].sum().item())
    assert shown[5][1] == "other 50,252 (mean logit)"


def check_ledger(lab, visit, run, model):
    top, second = ranking(run.logits[AT])[:2].tolist()
    for mode, minus in (("its logit", None), ("its lead over the runner-up", second)):
        words, figure, table = views(lab, visit, "ledger", mode=mode)
        ledger = read_ledger(model, run, AT, top, minus)
        terms = sorted((term.value for term in ledger.terms), key=lambda value: -abs(value))
        assert [row[0] for row in numbers_of(table, (2,))] == terms
        assert numbers_of(table, (3,))[-1][0] == pytest.approx(ledger.logit, abs=1e-3)
        bar = figure.data[0]
        assert list(bar.marker.color) == [FOR if x >= 0 else AGAINST for x in bar.x]
        assert sum(bar.x) == pytest.approx(ledger.total)
        assert f"is {ledger.logit:.4f}.".replace("-", "−") in words


def check_choice(lab, visit, run, model):
    table, _, bar, drawn, counted, tallied = views(
        lab, visit, "choice", temperature=0.7, top_k=50, top_p=0.9, seed=3, draws=200
    )
    options = SamplingOptions(temperature=0.7, top_k=50, top_p=0.9, seed=3)
    distribution = probabilities(run.logits[AT], options)
    choice = choose(run.logits[AT], distribution, 0.7, 20)
    rows = csv_of(table)[1:]
    assert [float(row[6]) for row in rows[:20]] == [row.probability for row in choice.rows]
    assert table.count('<tr class="struck">') == sum(not row.kept for row in choice.rows)
    uniform = uniforms(torch.Generator().manual_seed(3))
    token_id = int(draw(distribution[None], uniform))
    low, high = uniform_interval(distribution, token_id)
    assert f"u = {uniform.item():.6f}" in drawn
    assert f"between {low:.6f} and {high:.6f}" in drawn
    assert f"(id {token_id:,}," in drawn
    assert sum(trace.x[0] for trace in bar.data) == pytest.approx(1, abs=1e-6)
    many = draw(distribution[None], uniforms(torch.Generator().manual_seed(3), 200)[None])[0]
    expected = tally(many, distribution, 12)
    assert list(counted.data[0].x) == [100 * row.count / 200 for row in expected]
    assert list(counted.data[1].x) == [100 * row.expected / 200 for row in expected]
    assert [row[0] for row in numbers_of(tallied, (1,))][:-1] == [row.count for row in expected]


def check_mattered(lab, visit, run, model):
    words, figure, table = views(lab, visit, "mattered", query=" the")
    gradient = gradient_x_input(model, run, AT, 262).tolist()
    known = dict(occlusion(model, run, AT, 262))
    lost = [known[None].logit - known[i].logit for i in range(AT + 1)]
    assert [list(trace.x) for trace in figure.data] == [gradient, lost]
    assert [row[1] for row in numbers_of(table, (2, 3))] == lost
    most = max(range(AT + 1), key=lambda i: abs(lost[i]))
    assert f"position {most} {'lowers' if lost[most] > 0 else 'raises'} its logit most" in words


def check_ablation(lab, visit, run, model):
    parts = {"one head": Part("head", 1, 2), "a feed-forward": Part("ff", 1),
             "a whole layer": Part("layer", 1)}  # fmt: skip
    for kind, part in parts.items():
        for mode, how in (("zeros", "zero"), ("its mean so far", "mean")):
            words, figure, table = views(
                lab, visit, "ablation", kind=kind, layer=1, head=2, mode=mode
            )
            result = compare_predictions(run.logits[AT], ablate(model, run, AT, part, how), 10)
            assert [trace.name for trace in figure.data] == ["with", "without"]
            assert list(figure.data[1].x) == pytest.approx([pair.second for pair in result.pairs])
            assert numbers_of(table, (2, 4)) == [[pair.first, pair.second] for pair in result.pairs]
            assert f"overlap by {percent(result.overlap)}" in words
    words, figure, table = views(lab, visit, BY_KEY["ablation"].action)
    swept = [row for _, row in sweep_heads(model, run, AT, int(run.logits[AT].argmax()), "zero")]
    assert np.allclose(figure.data[-1].z, -np.array(swept))  # for is positive, and blue
    assert figure.data[-1].colorscale[-1][1] == SIGNED_SCALE[-1][1]
    assert sorted(row[0] for row in numbers_of(table, (2,))) == sorted(
        -change for row in swept for change in row
    )


def check_compare(lab, visit, run, model):
    words, _, table = views(lab, visit, BY_KEY["compare"].action, prompt="Goodbye, I", position=1)
    other = lab.run(lab.read("words", "Goodbye, I"))
    result = compare_predictions(run.logits[AT], other.logits[1], 10)
    assert numbers_of(table, (1, 2, 3, 4, 5)) == [
        [p.token_id, p.first, p.first_rank, p.second, p.second_rank] for p in result.pairs
    ]
    assert "After “…Hello, I am” (this prompt) and after “…Good" in words
    assert f"{significant(result.divergence)} nats over the whole vocabulary" in words


def check_shapes(lab, visit, run, model):
    (text,) = views(lab, visit, "shapes")
    expected = [
        [row.name, row.dtype, str(row.n_bytes), f"{row.file}:{row.line}", row.same_as or ""]
        for row in shape_rows(run)
    ]
    assert [[*row[:1], *row[2:5], row[6]] for row in csv_of(text)[1:]] == expected
    assert "record(trace, &quot;att_out&quot;, self.att(" in text


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items())
          if name.startswith("check_")}  # fmt: skip


@pytest.mark.parametrize("key", [section.key for section in SECTIONS])
def test_the_numbers_of_a_section_are_those_of_its_reading(key, lab, visit, run, model):
    CHECKS[key](lab, visit, run, model)


@pytest.mark.parametrize("key", specs())
def test_every_view_is_escaped_and_there_is_one_for_each_output(key, lab):
    spec = specs()[key]
    if key == "int-npz":  # writes a file; its words hold nothing of the visitor's
        return
    shown = views(lab, lab.read("words", NASTY), spec)
    flat = [o for made in spec.outputs for o in (made if isinstance(made, tuple) else (made,))]
    assert len(shown) == len(flat)
    for part in shown:
        text = part if isinstance(part, str) else part.to_json()
        visible = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
        if isinstance(part, str):
            assert "<img src=x" not in visible
            assert not re.search(rf"<(?!/?(?:{TAGS})\b)", visible)
        assert not set(visible) & set("\x00\x1b\u202e\u2066")


@pytest.mark.parametrize("key", [key for key in specs() if key != "int-npz"])
def test_every_section_reads_a_prompt_of_one_token(key, lab):
    assert views(lab, lab.read("words", "a"), specs()[key])


def test_no_view_of_the_longest_prompt_is_too_heavy():
    """GPT-2 small's layers and heads at the most tokens that the tab takes, all shown as hex."""
    cfg = GPTConfig(vocab_size=500, context_length=128, emb_dim=96, n_heads=12, n_layers=12)
    lab = Lab(TinyRegistry({"deep": tiny_model(cfg)}), Tokenizer())
    visit = Visit("deep", tuple(range(128, 128 + MAX_TOKENS)), MAX_TOKENS - 1)
    assert lab.piece(200).startswith("⟨")
    heavy = {}
    for key, spec in specs().items():
        if key in ("int-npz", "int-cmp-run"):
            continue
        early = visit.at(15) if key in ("mattered", "int-sweep") else visit  # sooner measured
        for i, part in enumerate(views(lab, early, spec)):
            size = len((part if isinstance(part, str) else part.to_json()).encode())
            if size > PAYLOAD:
                heavy[key, i] = size
    assert heavy == {}


@pytest.mark.parametrize(
    ("key", "changed", "line"),
    [
        ("choice", {"temperature": -1}, "temperature is -1"),
        ("choice", {"temperature": "hot"}, "temperature is 'hot'"),
        ("choice", {"top_k": -1}, "top_k is -1: use a whole number, 1 to"),
        ("choice", {"seed": 1.5}, "seed is 1.5: use a whole number"),
        ("choice", {"draws": 10**9}, "draws is 1000000000: use a whole number, 1 to 10,000"),
        ("logits", {"count": 51}, "top_k is 51: use a whole number, 1 to 50"),
        ("ledger", {"query": "several words"}, "type one token or an id"),
        ("lens", {"query": "50257"}, "use 0 to 50,256"),
        ("mattered", {"query": "a" * 5_000_000}, "has 5,000,000 characters: type one token"),
        ("int-cmp-run", {"position": 2.5}, "position in it is 2.5"),
        ("int-cmp-run", {"prompt": "a" * 5_000_000}, "has 5,000,000 characters"),
    ],
)
def test_a_control_out_of_range_is_one_line_that_names_it(key, changed, line, lab, visit):
    """Gradio's own said "Value 9 is greater than maximum value 3." and not of what."""
    with pytest.raises(ValueError, match=re.escape(line)):
        views(lab, visit, specs()[key], **changed)


def test_a_layer_that_a_shallower_model_lacks_becomes_its_last(lab, visit):
    assert "In layer 1, head 2," in views(lab, visit, "attention", layer=7, head=7)[2]
    assert "In layer 0, head 0," in views(lab, visit, "attention", layer=None, head=None)[2]


@pytest.mark.parametrize("stage", ["scaled and masked", "scores"])
def test_the_stages_of_a_head_before_the_softmax(stage, lab, visit, run):
    words = views(lab, visit, "attention", layer=1, head=2, stage=stage)[2]
    stages = head_stages(run, 1, 2)
    values = stages.masked if stage != "scores" else stages.scores
    rows = [row[1:] for row in csv_of(words)[1:]]
    shown = [[float("-inf") if x == "masked" else float(x) for x in row] for row in rows]
    assert shown == values.tolist()


def test_taking_out_the_first_token_leaves_the_same_out_of_every_view():
    """Where all look at the first token, grid, map, sentence and table name another one."""
    model = tiny_model(TEXTUAL)
    with torch.no_grad():  # equal scores: every share is 1 / (position + 1), the first one wins
        model.trf_blocks[0].att.W_query.weight.zero_()
    lab = Lab(TinyRegistry({"even": model}), Tokenizer())
    visit = lab.read("even", "Hello, I am a little")
    count = len(visit.ids)
    grid, figure, words = views(lab, visit, "attention", skip=True)
    assert f"position {count - 1} ({lab.piece(visit.ids[-1])}) looks most at position 1" in words
    assert "(the first token aside)" in words.split("</p>")[0]
    picture = re.search(r"png;base64,([^\"]+)", grid)[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
    assert pixels.shape == (count, count - 1, 3)
    assert figure.data[-1].z.shape == (count, count - 1)
    grey = (pixels == (0xA6, 0xAB, 0xB5)).all(-1)
    assert grey.tolist() == np.triu(np.ones((count, count - 1), bool)).tolist()


def test_likely_tokens_are_shown_in_per_cent_and_a_longer_tail_has_no_bar(lab, visit):
    read = read_logits(lab, visit, 2)
    read["top"] = [
        {**row, "probability": p} for row, p in zip(read["top"], (0.3, 0.1), strict=True)
    ]
    for tail, bar in ((0.25, 25), (0.6, 0)):
        read["tail"] = {**read["tail"], "probability": tail}
        figure = softmax_figure(read, ["a", "b"])
        assert list(figure.data[0].x) == pytest.approx([30, 10, bar])
        assert list(figure.data[0].text) == ["30.0 %", "10.0 %", f"{100 * tail:.1f} % in all"]
        assert figure.layout.xaxis.range == (0, pytest.approx(1.15 * 30))


def test_the_draw_shown_is_the_token_that_generation_draws(lab, visit, model):
    from gpt.generate import generate

    ids = list(visit.ids[: AT + 1])
    step = next(generate(model, ids, SamplingOptions(1, 1.0, None, 1.0, seed=77)))
    words = views(lab, visit, "choice", seed=77)[3]
    assert f"(id {step.token_id:,}," in words
    assert f"u = {step.uniform:.6f}" in words


def test_a_greedy_choice_draws_no_number(lab, visit):
    assert "draws no random number" in views(lab, visit, "choice", temperature=0)[3]


def test_settings_that_are_off_are_not_compared_with_none(lab, visit):
    assert "Without these settings" not in views(lab, visit, "choice")[0]
    assert "Without these settings" in views(lab, visit, "choice", temperature=0.9)[0]


def test_segments_fill_the_bar_in_id_order(lab):
    p = torch.tensor([0.004, 0.5, 0.002, 0.003, 0.4, 0.0, 0.091])
    segments = segments_of(lab, p)
    assert [own for _, _, own in segments] == [False, True, False, True, True]
    assert [label for label, _, own in segments if not own] == ["1 token", "2 tokens"]
    assert [width for _, width, _ in segments] == pytest.approx([0.004, 0.5, 0.005, 0.4, 0.091])


@pytest.mark.parametrize("query", [" the", "262"])
def test_a_token_is_found_by_text_or_id(query, lab, visit, run):
    found = views(lab, visit, "choice", query=query)[1]
    assert cells(found)[0][2] == f"{rank_of(run.logits[AT], 262):,} of 50,257"


def test_a_token_that_is_not_found_leaves_the_settings_beside_it_alone(lab, visit):
    table, found, *_ = views(lab, visit, "choice", query="50257")
    assert "use 0 to 50,256" in found
    assert "tokens can be drawn" in table


def test_an_untrained_twin_has_the_same_configuration_and_other_weights(lab, visit):
    words = views(lab, visit, BY_KEY["compare"].action, way=UNTRAINED)[0]
    assert "KL(trained ‖ untrained)" in words


def test_a_prompt_compared_with_itself_is_equal(lab, visit):
    words = views(lab, visit, BY_KEY["compare"].action, prompt="Hello, I am a little", position=AT)[
        0
    ]
    assert "<span>0 nats over the whole vocabulary" in words


def test_a_sweep_reports_every_layer(lab, visit):
    action = BY_KEY["ablation"].action
    said = list(action.view(lab, visit, query="", mode="zeros"))
    assert [f"Layer {i + 1} of 2" in text for i, text in enumerate(said[:-1])] == [True, True]


def test_attribution_is_measured_once_for_a_token_and_position(lab, visit):
    first = views(lab, visit, "mattered", query=" a")
    before = lab.registry.borrowed
    assert views(lab, visit, "mattered", query=" a")[2] == first[2]
    assert lab.registry.borrowed == before


def test_dark_chips_are_probable_tokens_as_in_the_other_tab(lab, visit, run):
    """They were surprising ones: dark meant the opposite of what it means in Generation."""
    text = prompt_chips(lab, visit)
    shades = [float(s) for s in re.findall(r"--shade:([\d.]+)", text)]
    expected = [entry.probability for entry in foreseen(run.logits, run.ids)]
    assert shades == pytest.approx(expected, abs=0.001)  # none for the first token
    assert text.count("data-position=") == len(run.ids)


def test_a_loss_that_no_power_of_e_holds_is_said_as_one():
    assert perplexity(1139.8) == "e^1,140"
    assert perplexity(1.0) == "e^1.00 = 2.72"


def test_the_trace_file_holds_the_distinct_tensors(lab, visit, run, tmp_path):
    with np.load(save_trace(lab, visit, tmp_path)) as saved:
        assert saved["ids"].tolist() == list(visit.ids)
        assert np.array_equal(saved["logits"][0], run.logits.numpy())
        assert "trf_blocks.0.att.attention" in saved
        assert "trf_blocks.1.resid_in" not in saved  # the very tensor of the block before


def test_trace_files_do_not_pile_up(lab, tmp_path):
    for n in range(KEPT_FILES + 2):
        save_trace(lab, lab.read("words", "a" * (n + 1)), tmp_path)
    assert len(list(tmp_path.iterdir())) == KEPT_FILES


def test_a_folder_that_cannot_be_written_is_one_line(lab, visit, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="set GRADIO_TEMP_DIR"):
        save_trace(lab, visit, tmp_path / "file" / "below")
