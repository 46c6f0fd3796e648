"""Models from the Hub: a local server stands in for it, and everything that a network does."""

import functools
import http.server
import threading
import time

import huggingface_hub
import pytest
import torch
from test_export import their_model
from tiny_models import TINY

from gpt import load_model
from gpt.checkpoints import HUB_MODELS, hub
from gpt.checkpoints.sources import random_source
from gpt.serving.registry import Registry


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves `files` of one revision; breaks off after `cut` bytes of a body if that is set."""

    files: dict = {}  # noqa: RUF012
    revision = HUB_MODELS["gpt2"]
    cut = None
    asked: list = []  # noqa: RUF012

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        parts = self.path.strip("/").split("/")
        Hub.asked.append(self.path)
        if parts[:2] != ["openai-community", "gpt2"] or parts[3] != self.revision:
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = self.files[parts[-1]]
        self.send_response(200)
        self.send_header("X-Repo-Commit", self.revision)
        self.send_header("ETag", f'"{parts[-1]}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[: self.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def local_hub(tmp_path, monkeypatch):
    """The registry's downloads go to a local server that has a tiny GPT-2 as openai's."""
    their_model().save_pretrained(tmp_path / "published")
    published = {path.name: path.read_bytes() for path in (tmp_path / "published").iterdir()}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(Hub, "files", published)
    monkeypatch.setattr(Hub, "asked", [])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    real = huggingface_hub.hf_hub_download
    monkeypatch.setattr(
        huggingface_hub,
        "hf_hub_download",
        functools.partial(
            real, endpoint=f"http://127.0.0.1:{server.server_port}", cache_dir=tmp_path / "cache"
        ),
    )
    look = functools.partial(huggingface_hub.try_to_load_from_cache, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", look)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # the client waits between its attempts
    yield Hub
    server.shutdown()
    server.server_close()


def test_gpt2_comes_from_the_hub_at_its_pinned_revision_and_is_cached(local_hub):
    progress = []
    model = load_model("gpt2", progress=lambda *step: progress.append(step))
    theirs = their_model()
    assert torch.equal(model.tok_emb.weight, theirs.transformer.wte.weight)
    assert all(f"/resolve/{HUB_MODELS['gpt2']}/" in path for path in local_hub.asked)
    assert {path.rsplit("/", 1)[1] for path in local_hub.asked} == set(hub.FILES)
    assert progress[0] == (0.0, "downloading")
    downloading = [fraction for fraction, stage in progress if stage == "downloading"]
    assert downloading == sorted(downloading)
    assert downloading[-1] == 1
    asked = len(local_hub.asked)
    assert hub.is_cached("gpt2")
    load_model("gpt2")
    assert len(local_hub.asked) == asked  # the second time nobody is asked


def test_the_revisions_are_the_ones_that_public_code_quotes():
    assert HUB_MODELS == {
        "gpt2": "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "gpt2-medium": "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
        "gpt2-large": "32b71b12589c2f8d625668d2335a01cac3249519",
        "gpt2-xl": "15ea56dee5df4983c59b2538573817e1667135e2",
    }


def test_a_revision_that_is_gone_names_the_way_around(local_hub, monkeypatch):
    monkeypatch.setattr(Hub, "revision", "another")
    with pytest.raises(ValueError, match=r"no revision 607a30.* any more: download config.json"):
        load_model("gpt2")


def test_a_connection_that_breaks_off_is_one_line_and_the_registry_goes_on(local_hub, monkeypatch):
    monkeypatch.setattr(Hub, "cut", 1000)
    registry = Registry(budget_bytes=10**9)
    own = random_source(TINY, 1)
    with registry.borrow(own) as before:
        pass
    with pytest.raises(ValueError, match="cannot be downloaded: is there a network") as caught:
        registry.borrow("gpt2").__enter__()
    assert "\n" not in str(caught.value)
    with registry.borrow(own) as after:
        assert after is before
    monkeypatch.setattr(Hub, "cut", None)
    with registry.borrow("gpt2") as model:
        assert model.cfg.qkv_bias


@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_no_network_is_one_line_that_names_the_way_around(how, local_hub, monkeypatch):
    if how == "offline":
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    else:
        nobody = functools.partial(huggingface_hub.hf_hub_download, endpoint="http://127.0.0.1:9")
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", nobody)
    with pytest.raises(ValueError, match=r"is there a network\? Or download config.json") as caught:
        load_model("gpt2")
    assert "\n" not in str(caught.value)


def test_a_full_disk_while_downloading_is_one_line(local_hub, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(ValueError, match="the disk is full"):
        load_model("gpt2")


def test_a_cache_that_cannot_be_written_is_not_the_networks_fault(local_hub, tmp_path, monkeypatch):
    """The line asked "is there a network?"."""
    (tmp_path / "taken").write_text("a file where the cache's folder would be")
    real = huggingface_hub.hf_hub_download
    cache = functools.partial(real, cache_dir=tmp_path / "taken" / "hub")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", cache)
    with pytest.raises(ValueError, match=r"cannot be written \(Not a directory\); set HF_HOME"):
        load_model("gpt2")


def test_a_lost_connection_of_the_accelerated_transfers_is_one_line_too(monkeypatch):
    def lost(*_, **__):
        raise RuntimeError("reqwest: connection closed")  # as hf_xet says it

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lost)
    with pytest.raises(ValueError, match="cannot be downloaded"):
        load_model("gpt2")


def test_a_bug_in_the_client_is_not_passed_off_as_the_networks_fault(monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", broken)
    with pytest.raises(ZeroDivisionError):
        load_model("gpt2")
