"""One engine in a process of its own: it loads, answers requests on standard input, and is timed.

Every engine decodes greedily from token ids, with the same number of threads.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

THREADS = 2
VOCAB = 50_257


def prompt_of(tokens: int, row: int = 0) -> list[int]:
    """Token ids that any GPT-2 vocabulary has, different in every row of a batch."""
    return [(7919 * (i + 1) + 31 * row) % VOCAB for i in range(tokens)]


class Ours:
    """This package: `generate` for one sequence, without the candidates that no peer gives; the
    model and its cache for a batch.
    """

    def __init__(self, folder: Path, setting: str) -> None:
        import torch

        from gpt import load_model

        torch.set_num_threads(THREADS)
        self.model = load_model(folder / "ours", precision=setting)

    def decode(self, tokens: int, prompt: int) -> float:
        from gpt import SamplingOptions
        from gpt.generate import generate

        options = SamplingOptions(max_new_tokens=tokens + 1, temperature=0)
        steps = generate(self.model, prompt_of(prompt), options, n_candidates=0)
        next(steps)
        return timed(lambda: sum(1 for _ in steps))

    def prefill(self, tokens: int) -> float:
        import torch

        ids = torch.tensor([prompt_of(tokens)])

        @torch.inference_mode()
        def read() -> None:
            cache = self.model.new_cache(tokens)
            int(self.model(ids, cache=cache, last_only=True).argmax())

        return timed(read)

    def batch(self, tokens: int, rows: int) -> float:
        import torch

        caches = [self.model.new_cache(tokens + 4) for _ in range(rows)]
        with torch.inference_mode():
            for row, cache in enumerate(caches):
                self.model(torch.tensor([prompt_of(4, row)]), cache, last_only=True)
        ids = list(range(rows))

        def step() -> None:
            nonlocal ids
            ids = self.model.decode_rows(ids, caches).argmax(-1).tolist()

        return timed(lambda: [step() for _ in range(tokens)])


class Book:
    """The book's loop over the book's own kind of model: no cache, every token read again."""

    def __init__(self, folder: Path, setting: str) -> None:
        import torch

        from gpt import load_model
        from gpt.checkpoints import read_config
        from gpt.model import GPTModel

        torch.set_num_threads(THREADS)
        # Weights as torch lays them out, not as we do.
        self.model = GPTModel(read_config(folder / "ours"))
        self.model.load_state_dict(load_model(folder / "ours").state_dict())
        self.model.eval()

    def decode(self, tokens: int, prompt: int) -> float:
        import torch

        from gpt import generate_text_simple

        ids = torch.tensor([prompt_of(prompt)])
        limit = self.model.cfg.context_length
        return timed(lambda: generate_text_simple(self.model, ids, tokens, limit))


class Whole:
    """An engine that reads a prompt and writes its continuation in one call."""

    def decode(self, tokens: int, prompt: int) -> float:
        return self._generate([prompt_of(prompt)], tokens)

    def batch(self, tokens: int, rows: int) -> float:
        return self._generate([prompt_of(4, row) for row in range(rows)], tokens)

    def prefill(self, tokens: int) -> float:
        return self._generate([prompt_of(tokens)], 1)

    def _generate(self, prompts: list[list[int]], tokens: int) -> float:
        raise NotImplementedError


class Transformers(Whole):
    """`transformers`: generate() with its cache; forward() for a prompt."""

    def __init__(self, folder: Path, setting: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(THREADS)
        self.model = AutoModelForCausalLM.from_pretrained(
            folder / "hf", dtype=getattr(torch, setting), attn_implementation="sdpa"
        ).eval()
        self.model.generation_config.pad_token_id = 0
        self.model.generation_config.eos_token_id = None

    def _generate(self, prompts: list[list[int]], tokens: int) -> float:
        import torch

        ids = torch.tensor(prompts)
        with torch.inference_mode():
            return timed(
                lambda: self.model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=tokens,
                    min_new_tokens=tokens,
                    do_sample=False,
                )
            )


class CTranslate2(Whole):
    """`ctranslate2`: generate_batch, one beam."""

    def __init__(self, folder: Path, setting: str) -> None:
        import ctranslate2

        self.engine = ctranslate2.Generator(
            str(folder / f"ct2-{setting}"), compute_type=setting, intra_threads=THREADS
        )
        known = json.loads((folder / "hf" / "vocab.json").read_text(encoding="utf-8"))
        self.words = sorted(known, key=known.__getitem__)

    def _generate(self, prompts: list[list[int]], tokens: int) -> float:
        words = [[self.words[i] for i in prompt] for prompt in prompts]
        return timed(
            lambda: self.engine.generate_batch(
                words,
                max_length=tokens,
                min_length=tokens,
                sampling_topk=1,
                include_prompt_in_result=False,
                max_batch_size=len(words),
            )
        )


class LlamaCpp:
    """`llama-cpp-python`: eval() token by token, the best logit next; for a batch, llama.cpp's own
    llama_decode over as many sequences, as its server calls it.
    """

    def __init__(self, folder: Path, setting: str) -> None:
        from llama_cpp import Llama

        self.engine = Llama(
            str(folder / f"{setting}.gguf"),
            n_ctx=1024,
            n_batch=512,
            n_ubatch=512,
            n_threads=THREADS,
            n_threads_batch=THREADS,
            flash_attn=True,
            verbose=False,
        )

    def decode(self, tokens: int, prompt: int) -> float:
        self._eval(prompt_of(prompt), fresh=True)
        return timed(lambda: [self._eval([self._best()]) for _ in range(tokens)])

    def prefill(self, tokens: int) -> float:
        return timed(lambda: (self._eval(prompt_of(tokens), fresh=True), self._best()))

    def batch(self, tokens: int, rows: int) -> float:
        import llama_cpp
        import numpy

        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max = rows * (tokens + 32), rows
        params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = THREADS
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        context = llama_cpp.llama_init_from_model(self.engine._model.model, params)
        batch = llama_cpp.llama_batch_init(4 * rows, 0, 1)

        def decode(tokens_of: list[list[int]], start: int) -> list[int]:
            """The best next token of each sequence after its new tokens."""
            batch.n_tokens, last = 0, []
            for row, ids in enumerate(tokens_of):
                for i, token in enumerate(ids):
                    at, batch.n_tokens = batch.n_tokens, batch.n_tokens + 1
                    batch.token[at], batch.pos[at] = token, start + i
                    batch.n_seq_id[at], batch.seq_id[at][0] = 1, row
                    batch.logits[at] = i == len(ids) - 1
                last.append(batch.n_tokens - 1)
            if llama_cpp.llama_decode(context, batch) != 0:
                raise RuntimeError("llama_decode failed")
            logits = [llama_cpp.llama_get_logits_ith(context, at) for at in last]
            found = [numpy.ctypeslib.as_array(row, shape=(VOCAB,)).argmax() for row in logits]
            return [int(token) for token in found]

        def write() -> None:
            newest = decode([prompt_of(4, row) for row in range(rows)], 0)
            for made in range(1, tokens):
                newest = decode([[token] for token in newest], 3 + made)

        try:
            return timed(write)
        finally:
            llama_cpp.llama_batch_free(batch)
            llama_cpp.llama_free(context)

    def _eval(self, ids: list[int], fresh: bool = False) -> None:
        if fresh:
            self.engine.reset()
            self.engine._ctx.kv_cache_clear()
        self.engine.eval(ids)

    def _best(self) -> int:
        import numpy

        logits = self.engine._ctx.get_logits()
        return int(numpy.ctypeslib.as_array(logits, shape=(VOCAB,)).argmax())


MODULES = {
    "ours": "gpt",
    "book": "gpt",
    "transformers": "transformers.models.gpt2.modeling_gpt2",
    "ctranslate2": "ctranslate2",
    "llama.cpp": "llama_cpp",
}
ENGINES = {
    "ours": Ours,
    "book": Book,
    "transformers": Transformers,
    "ctranslate2": CTranslate2,
    "llama.cpp": LlamaCpp,
}


def timed(work: Any) -> float:
    """Seconds that `work()` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def memory_of_its_own(field: str) -> int:
    """Bytes of this process: "RssAnon", what no file stands behind, or "VmHWM", the peak of all.

    Not ru_maxrss, which a process inherits from the one that started it.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}: this needs Linux")


def serve(engine: str, setting: str, folder: str) -> None:
    """Answers one JSON request a line, `{"do": name, ...}`, with seconds or memory."""
    importlib.import_module(MODULES[engine])  # its own memory and time are not the model's
    before, made = memory_of_its_own("RssAnon"), []
    seconds = timed(lambda: made.append(ENGINES[engine](Path(folder), setting)))
    reply({"load_seconds": seconds, "held_bytes": memory_of_its_own("RssAnon") - before})
    for line in sys.stdin:
        request = json.loads(line)
        work = request.pop("do")
        if work == "memory":
            reply(memory_of_its_own("VmHWM"))
        else:
            reply(getattr(made[0], work)(**request))


def reply(value: Any) -> None:
    print("=" + json.dumps(value), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:4])
