"""Training text: what is read, how it is cut, in which order, over which vocabulary."""

from itertools import islice, pairwise

import pytest
import torch
import torch.nn.functional as F
from tiny_models import TINY

from gpt import GPTConfig, GPTModel
from gpt.training.corpus import (
    CompactVocabulary,
    encode_documents,
    read_documents,
    window_starts,
    windows_at,
)


def read_ids(paths, tokenizer):
    return encode_documents(read_documents(paths), tokenizer)


def starts(n_ids=203, context_length=10, count=200, **where):
    return list(islice(window_starts(n_ids, context_length, seed=1, **where), count))


def test_each_text_of_a_file_ends_with_the_end_of_text_id(tmp_path, tokenizer):
    file = tmp_path / "two.txt"
    file.write_text("One.\n<|endoftext|>\nTwo <|endoftext|> inside a line.\n")
    ids = read_ids([file], tokenizer).tolist()
    first, second = tokenizer.encode("One."), tokenizer.encode("Two <|endoftext|> inside a line.\n")
    assert ids == [*first, 50256, *second, 50256]


def test_separators_at_the_ends_and_in_a_row_make_no_empty_text(tmp_path, tokenizer):
    file = tmp_path / "edges.txt"
    file.write_text("<|endoftext|>\nOne.\n<|endoftext|>\n<|endoftext|>\nTwo.\n<|endoftext|>\n")
    one, two = tokenizer.encode("One."), tokenizer.encode("Two.")
    assert read_ids([file], tokenizer).tolist() == [*one, 50256, *two, 50256]


def test_a_byte_order_mark_is_no_text(tmp_path, tokenizer):
    """It was: every file of Windows' Notepad began with a token that no other text has."""
    file = tmp_path / "bom.txt"
    file.write_bytes(b"\xef\xbb\xbfOne.\r\nTwo.")
    assert read_ids([file], tokenizer).tolist() == [*tokenizer.encode("One.\nTwo."), 50256]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "text.txt cannot be read: No such file"),
        (b"", "text.txt holds no text"),
        (b"\xef\xbb\xbf<|endoftext|>\n", "text.txt holds no text"),
        ("caf\xe9".encode("latin-1"), "no UTF-8 text .byte 0xE9 at position 3.: save it as UTF-8"),
        ("text".encode("utf-16"), "no UTF-8 text .byte 0xFF at position 0.: save it as UTF-8"),
        ("text".encode("utf-16-le"), "no UTF-8 text .it has NUL characters.: save it as UTF-8"),
    ],
)
def test_a_file_that_is_no_text_is_named_in_one_line(content, message, tmp_path, tokenizer):
    """UTF-16 was read as text with NULs; an empty --validation was blamed on --text."""
    file = tmp_path / "text.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_ids([file], tokenizer)


def test_no_file_at_all_is_refused(tokenizer):
    with pytest.raises(ValueError, match="name at least one file with --text"):
        read_ids([], tokenizer)


def test_a_target_is_the_token_after_its_input():
    inputs, targets = windows_at(torch.arange(30), [4, 17], 10)
    assert inputs.tolist() == [list(range(4, 14)), list(range(17, 27))]
    assert targets.tolist() == [list(range(5, 15)), list(range(18, 28))]


def test_an_epoch_covers_the_text_once_without_overlap():
    epoch = sorted(starts(count=19))
    assert all(later - earlier == 10 for earlier, later in pairwise(epoch))
    assert 0 <= epoch[0] < 10
    assert epoch[-1] + 10 < 203


def test_the_order_is_the_seeds_and_every_epoch_has_its_own():
    assert starts() == starts()
    assert sorted(starts(count=19)) != starts(count=19)
    assert starts(count=19) != starts(count=38)[19:]


def test_a_resumed_order_goes_on_where_it_stopped():
    assert starts(skip=48, count=100) == starts(count=148)[48:]


def test_a_text_shorter_than_a_window_is_refused():
    with pytest.raises(ValueError, match="the text has 15 tokens: use at least 21"):
        starts(n_ids=15)


@pytest.mark.parametrize("tied", [True, False])
def test_the_compact_loss_is_the_loss_of_the_whole_model(tied):
    """The model over the used tokens and one common row stands for the one over all 97."""
    ids = torch.tensor([5, 9, 5, 40, 80, 9, 9, 5, 40, 80])
    vocabulary = CompactVocabulary(ids, 97)
    assert vocabulary.size == 5
    torch.manual_seed(0)
    cfg = GPTConfig(**{**TINY, "tie_weights": tied})
    compact = GPTModel({**cfg, "vocab_size": 5}).eval()
    whole = vocabulary.expand(compact, cfg)
    x, y = vocabulary.to_compact[ids[None, :-1]], vocabulary.to_compact[ids[1:]]
    with torch.no_grad():
        mine = F.cross_entropy(compact(x)[0] + vocabulary.log_counts, y)
        theirs = F.cross_entropy(whole(ids[None, :-1])[0], ids[1:])
    torch.testing.assert_close(mine, theirs)


def test_a_corpus_that_uses_every_token_needs_no_common_row():
    vocabulary = CompactVocabulary(torch.arange(97), 97)
    assert vocabulary.size == 97
    assert vocabulary.log_counts.tolist() == [0.0] * 97
