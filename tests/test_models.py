"""The registry: every name gives its model, many visitors share them, and memory is bounded."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import TINY, tiny_model

from gpt import GPT_CONFIG_124M, GPTConfig, GPTModel, count_parameters, load_model
from gpt.checkpoints import HUB_MODELS, reading, save_model, sources
from gpt.checkpoints import free_memory as memory
from gpt.checkpoints.sources import config_of, random_source
from gpt.serving import registry as registries
from gpt.serving.registry import Registry, held_bytes

A, B, C = (random_source(TINY, seed) for seed in (1, 2, 3))
ONE = held_bytes(TINY, "float32")


def equal(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# Names


def test_a_random_source_is_drawn_as_after_manual_seed_which_it_leaves_alone():
    assert config_of("book-124M") == GPTConfig(**GPT_CONFIG_124M)
    for cfg in (TINY, replace(TINY, tie_weights=True, qkv_bias=True)):
        torch.manual_seed(42)
        expected, then = GPTModel(cfg), torch.rand(3)
        torch.manual_seed(42)
        GPTModel(cfg)
        found = load_model(random_source(cfg, 42))
        assert torch.equal(torch.rand(3), then)
        assert equal(found, expected)
        assert not found.training
        assert config_of(random_source(cfg, 42)) == cfg


def test_drawing_a_model_leaves_the_generators_of_other_devices_alone(monkeypatch):
    """What a caller had seeded there was another series after a model was loaded."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("was seeded"))
    load_model(random_source(TINY, 42))


def test_models_drawn_in_many_threads_do_not_mix_their_numbers():
    expected = {source: load_model(source) for source in (A, B, C)}
    wrong = []

    def draw(source):
        wrong.extend(source for _ in range(5) if not equal(load_model(source), expected[source]))

    threads = [threading.Thread(target=draw, args=(source,)) for source in (A, B, C) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_path_object_is_a_path_even_where_a_model_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tiny_model()
    save_model(model, "gpt2", "float32")
    assert equal(load_model(Path("gpt2")), model)
    assert equal(load_model("./gpt2"), model)
    assert config_of(Path("gpt2")) == model.cfg


def test_a_configuration_beside_a_name_must_be_its_own():
    assert load_model(A, cfg=TINY).cfg == TINY
    with pytest.raises(ValueError, match="leave cfg out"):
        load_model(A, cfg=replace(TINY, n_layers=3))


def test_hub_models_have_openais_shapes():
    counted = [count_parameters(config_of(name)).total for name in HUB_MODELS]
    # Radford et al. 2019 count otherwise; these are the tensors of the published files.
    assert counted == [124_439_808, 354_823_168, 774_030_080, 1_557_611_200]


# The registry


def test_the_sources_say_what_must_be_downloaded(monkeypatch):
    monkeypatch.setattr(registries, "is_cached", lambda name: name == "gpt2-medium")
    found = Registry(paths={"my/model": None}).sources()
    assert list(found) == ["storyteller", "my/model", "book-124M", *HUB_MODELS]
    assert found["gpt2"] == "GPT-2 small · 124 M, by OpenAI, 0.55 GB to download"
    assert found["gpt2-medium"].endswith("by OpenAI, downloaded")


def test_the_storyteller_is_offered_only_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setattr(registries, "STORYTELLER", tmp_path)
    assert next(iter(Registry().sources())) == "book-124M"


def test_a_path_that_was_not_given_is_no_model(tmp_path):
    path = str(save_model(tiny_model(), tmp_path / "mine", "float32"))
    with pytest.raises(ValueError, match="there is no model"), Registry().borrow(path):
        pytest.fail("a visitor read a path of the machine")
    with Registry(paths={path: None}).borrow(path) as model:
        assert equal(model, tiny_model())


def test_a_model_is_loaded_once_and_shared():
    registry = Registry(budget_bytes=ONE)
    with registry.borrow(A) as one, registry.borrow(A) as other:
        assert one is other
    with registry.borrow(A) as again:
        assert again is one
        assert not again.training


def test_the_least_recently_used_goes_first(monkeypatch):
    loads = []
    monkeypatch.setattr(
        registries,
        "load_model",
        lambda source, *_, make_room, **__: (loads.append(source), make_room(), tiny_model())[2],
    )
    registry = Registry(budget_bytes=2 * ONE)
    for source in (A, B, A, C, A, B):
        with registry.borrow(source):
            pass
    assert loads == [A, B, C, B]  # C took B's place, then B took C's: A was used in between


def test_a_model_in_use_never_goes_and_who_needs_its_room_waits():
    registry = Registry(budget_bytes=ONE)
    got, stages = threading.Event(), []

    def other():
        with registry.borrow(B, progress=lambda _, stage: stages.append(stage)) as model:
            assert equal(model, load_model(B))
            got.set()

    with registry.borrow(A) as model:
        thread = threading.Thread(target=other)
        thread.start()
        assert not got.wait(0.3)
        assert equal(model, load_model(A))
    assert got.wait(10)
    thread.join()
    assert "waiting for memory" in stages
    assert len(registry._held) == 1


def test_waiting_for_room_ends_with_a_line():
    registry = Registry(budget_bytes=ONE)
    registry.wait_seconds = 0.1
    with (
        registry.borrow(A),
        pytest.raises(ValueError, match="all memory for models is in use"),
        registry.borrow(B),
    ):
        pytest.fail("there was no room")
    with registry.borrow(B) as model:
        assert equal(model, load_model(B))


@pytest.mark.parametrize("source", [{}, [["x"]], None, 7])
def test_what_is_no_name_is_refused_in_one_line(source):
    """A call of the endpoint with such a model was a fault of the page."""
    with pytest.raises(ValueError, match=r"the model is .*: use a name"):
        Registry(budget_bytes=ONE).borrow(source).__enter__()


def test_a_model_over_the_budget_is_refused_before_anything_is_allocated(monkeypatch):
    monkeypatch.setattr(sources, "GPTModel", lambda cfg: pytest.fail("was allocated"))
    huge = random_source(replace(TINY, context_length=10**12), 0)
    with pytest.raises(ValueError, match=r"takes 89,406\.97 GiB and 954 MiB are allowed here"):
        Registry(budget_bytes=10**9).borrow(huge).__enter__()
    # A step sorts all tokens: one visitor of 6,000,000 brought another's text to 7 tokens/s.
    many = random_source(replace(TINY, vocab_size=300_000), 0)
    with pytest.raises(ValueError, match="vocab_size is 300,000: a model to run may have 262,144"):
        Registry(budget_bytes=10**9).borrow(many).__enter__()


def test_two_visitors_asking_for_two_models_at_once_both_get_theirs(monkeypatch):
    real, inside, most = registries.load_model, [], []

    def slow(*args, **options):
        inside.append(args)
        most.append(len(inside))
        time.sleep(0.05)
        inside.remove(args)
        return real(*args, **options)

    monkeypatch.setattr(registries, "load_model", slow)
    registry, start, right = Registry(budget_bytes=2 * ONE), threading.Barrier(8), []

    def visit(source):
        start.wait()
        with registry.borrow(source) as model:
            right.append(equal(model, real(source)))

    threads = [threading.Thread(target=visit, args=(source,)) for source in (A, B) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 8
    assert most == [1, 1]  # each was loaded once, and one at a time


def test_a_failed_load_leaves_the_others_and_can_be_tried_again(tmp_path):
    """A's place is needed, and the file is found damaged before A is let go."""
    path = tmp_path / "mine"
    registry = Registry(budget_bytes=ONE, paths={str(path): None})
    with registry.borrow(A) as before:
        pass
    save_model(tiny_model(), path, "float32")
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="SHA-256"), registry.borrow(str(path)):
        pytest.fail("was loaded")
    with registry.borrow(A) as after:
        assert after is before
    (path / "model.safetensors").write_bytes(whole)
    with registry.borrow(str(path)) as model:
        assert equal(model, tiny_model())


def test_waiting_in_vain_for_room_lets_go_of_nothing():
    """The idle model went at once, although the one in use left too little room anyway."""
    registry = Registry(budget_bytes=2 * ONE)
    registry.wait_seconds = 0
    wide = random_source(replace(TINY, n_layers=4), 1)
    with registry.borrow(A) as before:
        pass
    with registry.borrow(B), pytest.raises(ValueError, match="is in use"), registry.borrow(wide):
        pytest.fail("there was no room")
    with registry.borrow(A) as after:
        assert after is before


def test_a_popular_model_does_not_keep_others_waiting_for_ever():
    """New borrowers of a model in use went before the one who waited for its room."""
    registry = Registry(budget_bytes=ONE)
    registry.patience_seconds = 0
    order, asked = [], {A: threading.Event(), B: threading.Event()}

    def visit(source):
        with registry.borrow(source, progress=lambda *_: asked[source].set()):
            order.append(source)

    threads = [threading.Thread(target=visit, args=(source,)) for source in (B, A)]
    with registry.borrow(A):
        for source, thread in zip((B, A), threads, strict=True):
            thread.start()
            assert asked[source].wait(60), f"{source} does not wait"
    for thread in threads:
        thread.join()
    assert order == [B, A]


def test_who_waited_in_vain_keeps_nobody_from_what_is_loaded():
    """While one is impatient nobody else is given a model that is in use, and that has an end."""
    registry = Registry(budget_bytes=ONE)
    registry.wait_seconds, registry.patience_seconds = 0.1, 0
    with registry.borrow(A):
        with pytest.raises(ValueError, match="is in use"), registry.borrow(B):
            pytest.fail("there was no room")
        with registry.borrow(A, progress=lambda *_: pytest.fail("waits")):
            pass


def test_a_visitor_who_leaves_gives_the_model_back():
    registry = Registry(budget_bytes=ONE)

    def handler():
        with registry.borrow(A):
            yield 1
            yield 2

    running = handler()
    next(running)
    running.close()  # what the web server does when Stop is pressed
    assert list(registry._borrowers.values()) == [0]


def test_the_same_name_in_two_precisions_is_two_models():
    registry = Registry(budget_bytes=2 * ONE)
    with registry.borrow(A) as whole, registry.borrow(A, precision="float16") as half:
        assert half.out_head.weight.dtype == torch.float16
        assert torch.equal(whole.out_head.weight.half(), half.out_head.weight)


@pytest.mark.parametrize(("free", "budget"), [(1000, 500), (0, 0), (None, 4 * 2**30)])
def test_the_budget_is_half_of_what_is_free(free, budget, monkeypatch):
    """Nothing free was taken for a system that does not say: 4 GiB."""
    monkeypatch.setattr(registries, "free_bytes", lambda: free)
    assert Registry().budget_bytes == budget
    assert Registry(budget_bytes=0).budget_bytes == 0


def test_many_narrow_layers_count_for_what_their_objects_take():
    """4,000 layers of width 1 are 0.34 MiB of weights and took 196 MiB."""
    deep, deeper = (
        random_source(replace(TINY, emb_dim=1, n_heads=1, n_layers=n), 0) for n in (1000, 4000)
    )
    with pytest.raises(ValueError, match="this model takes 72 MiB"), Registry(10**7).borrow(deep):
        pytest.fail("was drawn")
    with pytest.raises(ValueError, match="may have 1,000 here"), Registry().borrow(deeper):
        pytest.fail("was drawn")


def test_a_file_without_a_configuration_is_read_once_for_its_sizes(tmp_path, monkeypatch):
    """Every event of the page compared its two embeddings, 154 MB each, for equality."""
    monkeypatch.setitem(reading.PRESETS, "tiny", TINY)
    path, reads, real = tmp_path / "book.pth", [], reading.read_tensors
    monkeypatch.setattr(reading, "read_tensors", lambda file: (reads.append(file), real(file))[1])
    torch.save(tiny_model().state_dict(), path)
    assert config_of(path) == config_of(path) == TINY
    assert reads == [path]
    torch.save(tiny_model(replace(TINY, qkv_bias=True)).state_dict(), path)
    assert config_of(path).qkv_bias


def test_too_little_memory_to_draw_a_model_is_one_line(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda _: 1000)
    with pytest.raises(ValueError, match="MiB free"):
        load_model(A)


# The Hub, as a server on this machine that answers as the Hub does
