"""The training run that made the bundled model: plain text in, a GPTModel out.

One process: `python -m gpt train --text FILE ...`; several: `torchrun --nproc-per-node 2
-m gpt train ...`, which reads the same windows in each step and so gives the same loss.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import pickle
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

from gpt.checkpoints import save_model
from gpt.config import GPTConfig
from gpt.generate import generate
from gpt.model import GPTModel
from gpt.sampling import SamplingOptions
from gpt.tokenizer import Tokenizer
from gpt.training.corpus import Vocabulary, WindowOrder, Windows, read_ids
from gpt.training.evaluation import evaluate
from gpt.training.optimizer import initialise_like_gpt2, learning_rate, make_optimizer, mean_loss
from gpt.training.options import TrainOptions, add_arguments

__all__ = ["TrainOptions", "add_arguments", "run", "train"]


class Run:
    """One training run of one process: its model, its data and the state that is checkpointed."""

    def __init__(self, cfg: GPTConfig, options: TrainOptions, tokenizer: Tokenizer) -> None:
        self.cfg, self.options, self.tokenizer = cfg, options, tokenizer
        self.rank, self.world = (
            (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        )
        if options.batch_size % self.world:
            raise ValueError(
                f"batch_size {options.batch_size} is not divisible by {self.world} processes."
            )
        ids = read_ids(options.text, tokenizer)
        if int(ids.max()) >= cfg.vocab_size:
            raise ValueError(
                f"the text has token id {int(ids.max()):,} and vocab_size is {cfg.vocab_size:,}: "
                f"use at least {tokenizer.vocab_size:,}."
            )
        self.corpus = hashlib.sha256(ids.numpy().tobytes()).hexdigest()
        self.vocabulary = Vocabulary(ids, cfg.vocab_size)
        self.ids = self.vocabulary.to_compact[ids]
        self.log_counts = self.vocabulary.log_counts.to(options.device)
        torch.manual_seed(options.seed)
        self.model = GPTModel({**cfg, "vocab_size": self.vocabulary.size})
        if options.initialisation == "gpt2":
            initialise_like_gpt2(self.model)
        if not options.attention_dropout:
            for block in self.model.trf_blocks:
                block.att.dropout.p = 0.0
        self.model.to(options.device)
        self.optimizer = make_optimizer(self.model, options)
        self.step = 0
        self.seconds = 0.0
        self.average: float | None = None  # of the training loss, over about 50 steps
        self.out = Path(options.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.validation = read_ids([options.validation], tokenizer) if options.validation else None

    def batches(self) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
        """For each step from the present one on, this process's micro-batches (b, t)."""
        order = WindowOrder(
            len(self.ids),
            self.cfg.context_length,
            self.options.seed,
            skip=self.step * self.options.batch_size,
            rank=self.rank,
            world=self.world,
        )
        share = self.options.batch_size // self.world
        loader = DataLoader(Windows(self.ids, self.cfg.context_length), share, sampler=order)
        for inputs, targets in loader:
            n = self.options.micro_batch
            yield list(zip(inputs.split(n), targets.split(n), strict=True))

    def update(self, parallel: nn.Module, batch: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
        """One step of the optimizer; the mean loss over all processes."""
        # Dropout of a step depends on the step alone, so that a resumed run repeats it.
        torch.manual_seed(self.options.seed + 1_000_003 * (self.step * self.world + self.rank))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.options)
        n_windows = sum(len(inputs) for inputs, _ in batch)
        loss_sum = torch.zeros((), device=self.options.device)
        for i, (inputs, targets) in enumerate(batch):
            last = i == len(batch) - 1
            wait = contextlib.nullcontext() if last or self.world == 1 else parallel.no_sync()
            device = self.options.device
            half = torch.autocast(
                device.split(":")[0], torch.bfloat16, enabled=self.options.precision == "bfloat16"
            )
            with wait:
                with half:
                    logits = parallel(inputs.to(device))
                    loss = mean_loss(logits, targets.to(device), self.log_counts)
                loss = loss * len(inputs) / n_windows
                loss.backward()
            loss_sum += loss.detach()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.world > 1:
            dist.all_reduce(loss_sum)
        return float(loss_sum) / self.world

    def save(self) -> None:
        """Everything that a killed run needs, by a temporary file and a rename."""
        state = {
            "cfg": dict(self.cfg),
            "options": asdict(self.options),
            "step": self.step,
            "seconds": self.seconds,
            "average": self.average,
            "corpus": self.corpus,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        temporary = self.out / "checkpoint.tmp"
        torch.save(state, temporary)
        os.replace(temporary, self.out / "checkpoint.pt")

    def resume(self) -> None:
        """Continue from the folder's checkpoint, if it has one.

        Raises ValueError if it is damaged, or was of another text, configuration or options.
        """
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location=self.options.device, weights_only=True)
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(f"{path} is damaged: remove it or use another --out.") from error
        mine = {**asdict(self.options), **self.cfg, "corpus": self.corpus}
        theirs = {**state["options"], **state["cfg"], "corpus": state["corpus"]}
        for name in set(mine) - {"text", "validation", "out", "device"}:
            if mine[name] != theirs.get(name):
                raise ValueError(
                    f"{path} was made with {name} {theirs.get(name)}, not {mine[name]}: "
                    "use the same or another --out."
                )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.average = state["average"]

    def whole_model(self) -> GPTModel:
        """The model so far over the whole vocabulary, float32, on the CPU."""
        return self.vocabulary.expand(self.model, self.cfg)

    def log(self, **measured: Any) -> None:
        """One more line of metrics.jsonl."""
        with (self.out / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(measured) + "\n")


def train(cfg: GPTConfig, options: TrainOptions) -> Run:
    """A finished run; process 0 writes its checkpoints, metrics and model under `options.out`.

    Continues a killed run from its last checkpoint with the same order of data.
    """
    run = Run(cfg, options, Tokenizer())
    run.resume()
    run.model.train()
    parallel = DistributedDataParallel(run.model) if run.world > 1 else run.model
    progress = tqdm(
        total=options.steps, initial=run.step, disable=run.rank > 0, unit="step", smoothing=0.1
    )
    tokens_a_step = options.batch_size * cfg.context_length
    for batch in run.batches():
        if run.step >= options.steps:
            break
        started = time.perf_counter()
        loss = run.update(parallel, batch)
        took = time.perf_counter() - started
        run.seconds += took
        run.average = loss if run.average is None else 0.98 * run.average + 0.02 * loss
        progress.update()
        progress.set_postfix_str(f"loss {run.average:.3f}, {tokens_a_step / took:,.0f} tokens/s")
        if run.rank == 0:
            _after_step(run)
    progress.close()
    if run.rank == 0:
        save_model(run.whole_model(), run.out / "model", precision="float16")
    return run


def _after_step(run: Run) -> None:
    done = run.step == run.options.steps
    if run.step % 50 == 0 or done:
        tokens = run.step * run.options.batch_size * run.cfg.context_length
        run.log(step=run.step, tokens=tokens, seconds=round(run.seconds, 1), loss=run.average)
    if run.validation is not None and (run.step % run.options.validate_every == 0 or done):
        model = run.whole_model()
        held_out = evaluate(model, run.validation if done else run.validation[:16_385])
        run.log(step=run.step, validation=held_out.nats_per_token, targets=held_out.n_targets)
        tqdm.write(f"step {run.step:,}: held-out {held_out.nats_per_token:.4f} nats a token")
        tqdm.write(_sample(model, run.tokenizer))
    if run.step % run.options.checkpoint_every == 0 or done:
        run.save()


def _sample(model: GPTModel, tokenizer: Tokenizer) -> str:
    prompt = "Once upon a time"
    options = SamplingOptions(max_new_tokens=60, temperature=0.8, seed=1)
    steps = generate(model, tokenizer.encode(prompt), options, tokenizer.end_of_text_id)
    decoder = tokenizer.stream()
    return prompt + "".join(decoder.push(step.token_id) for step in steps) + decoder.finish()


def run(args: argparse.Namespace) -> str:
    """Train or evaluate as the flags say; a closing sentence, empty but for process 0.

    Raises ValueError for impossible flags and unreadable files.
    """
    given = vars(args)
    if args.evaluate:
        from gpt.checkpoints.sources import load_model

        model = load_model(args.evaluate)
        result = evaluate(model, read_ids(args.text, Tokenizer()))
        return (
            f"{result.nats_per_token:.4f} nats a token, perplexity {result.perplexity:.2f}, "
            f"over {result.n_targets:,} targets"
        )
    options = {item.name: given[item.name] for item in fields(TrainOptions)}
    cfg = GPTConfig(**{item.name: given[item.name] for item in fields(GPTConfig)})
    options["text"] = tuple(options["text"])
    parallel = int(os.environ.get("WORLD_SIZE", "1")) > 1  # torchrun sets it
    if parallel:
        on_gpus = args.device == "cuda"
        dist.init_process_group("nccl" if on_gpus else "gloo")
        if on_gpus:
            options["device"] = f"cuda:{os.environ['LOCAL_RANK']}"
            torch.cuda.set_device(options["device"])
    try:
        finished = train(cfg, TrainOptions(**options))
    finally:
        if parallel:
            dist.destroy_process_group()
    if finished.rank > 0:
        return ""
    return f"{finished.step:,} steps done; the model is in {finished.out / 'model'}"
