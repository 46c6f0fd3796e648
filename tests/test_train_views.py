"""What the Train tab shows of a run whose numbers are known: nothing is trained here."""

import re

import pytest
from train_runs import TINY

from gpt.training.events import Evaluated, Sampled, Stepped
from gpt.ui.train import views
from gpt.ui.train.plans import plan
from gpt.ui.train.trainings import Training, Trainings


@pytest.fixture
def training():
    """40 of 50 steps of 32 tokens, half a second each, and three held-out losses."""
    made = Training(Trainings(), TINY)
    made.plan, made.stage = plan(TINY), ""
    made.history.steps = [Stepped(n, 32 * n, n / 2, 3.25, 3.5, 0.00125, 7.5) for n in range(1, 41)]
    made.history.evaluated = [(n / 2, Evaluated(4 - n / 20, 9, n)) for n in (0, 20, 40)]
    return made


def test_the_newest_numbers_are_shown_by_their_names(training):
    html = views.progress_view(training)
    for text in (
        "step 40 of 50", "64.0 tokens/s", "loss 3.25", "learning rate 0.00125",
        "gradient norm 7.50", 'value="0.8000"',
    ):  # fmt: skip
        assert text in html


@pytest.mark.parametrize("axis", ["seconds", "tokens"])
def test_the_curve_lies_where_its_seconds_or_tokens_are(axis, training):
    """Of the 50 steps that are to come 0, 20 and 40: no, two and four fifths of the way."""
    training.axis = axis
    svg = views.loss_view(training)
    (points,) = re.findall(r'class="held-out" points="([^"]+)"', svg)
    left, right = 44, 632
    found = [float(point.split(",")[0]) for point in points.split()]
    assert found == pytest.approx([left + share * (right - left) for share in (0, 0.4, 0.8)], abs=1)


def test_the_run_before_is_drawn_over_the_tokens_that_it_read(training):
    """Its steps were counted as steps of the new run: with twice the batch, at half their place."""
    before = training.former = Training(Trainings(), {**TINY, "batch": 4})
    before.plan = plan(before.values)
    before.history.evaluated = [(n, Evaluated(3.0, 9, n)) for n in (0, 10, 20)]
    training.axis = "tokens"
    (points,) = re.findall(r'class="before" points="([^"]+)"', views.loss_view(training))
    left, right = 44, 632
    found = [float(point.split(",")[0]) for point in points.split()]
    assert found == pytest.approx([left + share * (right - left) for share in (0, 0.4, 0.8)], abs=1)


def test_a_longer_run_before_ends_at_the_edge(training):
    """Its later losses stood above each other there, as a line straight down."""
    before = training.former = Training(Trainings(), TINY)
    before.plan = training.plan
    before.history.evaluated = [(at, Evaluated(3.0, 9, 0)) for at in (0, 10, 25, 50, 100)]
    (points,) = re.findall(r'class="before" points="([^"]+)"', views.loss_view(training))
    assert len(points.split()) == 3  # 40 steps of 50 took 20 s: the axis ends at 25


def test_a_run_that_was_not_measured_leaves_curve_and_numbers_of_the_one_before():
    """A run that was refused emptied the table of the one before, beside its curve."""
    refused = Training(Trainings(), TINY)
    assert views.numbers_view(refused) == views.loss_view(refused) == ""


def test_right_sums_are_ticked_and_wrong_ones_crossed(training):
    training.history.sample = Sampled(40, "")
    training.history.answers = [("27+48=", "75"), ("10+10=", "21")]
    html = views.sample_view(training)
    assert "1 of 2 sums that it has never read are right (50.0 %)" in html
    assert "<b>27+48=</b>75 ✓" in html
    assert "<b>10+10=</b>21 ✗" in html
