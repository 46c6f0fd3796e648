"""The training loop: a generator of events, over a run that its folder can continue.

The command line, a page and the tests read the same events. To pause a run, stop pulling events;
to end it, close the generator, which saves a checkpoint of its last step.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gpt.accounting.memory import logit_bytes, training_state, weight_bytes
from gpt.checkpoints import check_device, check_memory, save_model, tokenizer_of
from gpt.checkpoints.sources import own_generator
from gpt.checkpoints.writing import write_tokenizer
from gpt.config import GPTConfig
from gpt.generate import generate
from gpt.model import GPTModel
from gpt.sampling import SamplingOptions
from gpt.training.corpus import CompactVocabulary, Corpus, window_starts, windows_at
from gpt.training.evaluation import window_nats
from gpt.training.events import Evaluated, Event, Sampled, Stepped
from gpt.training.optimizer import (
    initialise_like_gpt2,
    learning_rate,
    make_optimizers,
    mean_loss,
    moments_fit,
)
from gpt.training.options import TrainOptions
from gpt.training.run_folder import RunFolder

QUICK_TARGETS = 16_384  # held-out targets of a validation; the last one takes all
LOG_EVERY = 50  # steps between the training losses in metrics.jsonl


class Run:
    """One training run of one process: its model, its data and the state that is checkpointed.

    With a folder `options.out`, process 0 writes checkpoint.pt, metrics.jsonl and at the end
    model/ there, and a checkpoint found there is continued, to the same weights as without the
    break. With "" nothing is written.
    Raises ValueError if the text does not suit `cfg`, the device is missing, memory is short,
    the folder cannot be written, or its checkpoint is damaged or of another run.
    """

    def __init__(self, cfg: GPTConfig, options: TrainOptions, corpus: Corpus) -> None:
        options = options.with_precision()
        self.cfg, self.options, self.corpus = cfg, options, corpus
        self.device = check_device(options.device)
        parallel = dist.is_initialized()
        self.rank = dist.get_rank() if parallel else 0
        self.world = dist.get_world_size() if parallel else 1
        self._check()
        check_memory(weight_bytes(cfg, "float32"), "cpu", "training")  # `whole_model`
        self.vocabulary = CompactVocabulary(corpus.ids, cfg.vocab_size)
        compact = GPTConfig(**{**cfg, "vocab_size": self.vocabulary.size})
        state = int(training_state(compact, "adamw-float32").value)
        rows = min(options.micro_batch, options.batch_size // self.world)
        check_memory(state + logit_bytes(compact, rows), self.device, "training")
        self.ids = self.vocabulary.to_compact[corpus.ids].to(self.device)
        self.log_counts = self.vocabulary.log_counts.to(self.device)
        with own_generator(options.seed):
            self.model = GPTModel(compact)
            if options.initialisation == "gpt2":
                initialise_like_gpt2(self.model)
        if not options.attention_dropout:
            for block in self.model.trf_blocks:
                block.att.dropout.p = 0.0
        self.model.to(self.device)
        self.optimizers = make_optimizers(self.model, options)
        self.step = self.saved_step = 0  # updates so far, and those in the newest checkpoint
        self.diverged = False  # a loss, gradient or weight was not finite, and ended the run
        self.seconds = 0.0
        self.average = torch.full((), math.nan, device=self.device)  # of the loss
        self._savable = True  # weights, moments and step are of the same update
        self.folder = RunFolder(cfg, options, corpus.ids) if options.out else None
        if self.folder is not None:
            self.folder.load(self._restore)
            if self.rank > 0:
                self.folder = None  # process 0 writes
            else:
                self.folder.forget_after(self.step)
        self._parallel = DistributedDataParallel(self.model) if self.world > 1 else self.model

    def events(self) -> Iterator[Event]:
        """Trains from the present step to the last one.

        Yields a Stepped at least every `report_every` steps, and an Evaluated (with a held-out
        text) and a Sampled for each validation. Other steps do not wait for a GPU.
        A run that has `diverged` ends and leaves the last checkpoint as it is.
        Raises ValueError if something cannot be written.
        """
        self.model.train()
        batches = self._batches()
        try:
            while self.step < self.options.steps:
                stepped = self._update(*next(batches))
                if stepped is not None:
                    if not self._is_finite(stepped):
                        self.diverged = True
                        return
                    yield from self._after(stepped)
            if self.folder is not None:
                most = max(float(p.detach().abs().max()) for p in self.model.parameters())
                half = most <= torch.finfo(torch.float16).max
                self.write_model(self.folder.path / "model", "float16" if half else "float32")
        except (GeneratorExit, KeyboardInterrupt):
            if self._savable and self.saved_step < self.step:
                self._save()
            raise

    def whole_model(self) -> GPTModel:
        """A copy of the model so far over the whole vocabulary, float32, on the CPU."""
        with own_generator(0):  # draws weights that are overwritten
            return self.vocabulary.expand(self.model, self.cfg)

    def write_model(self, folder: Path, precision: str) -> None:
        """Writes the model so far, with its tokenizer unless that is GPT-2's."""
        save_model(self.whole_model(), folder, precision)
        if self.corpus.tokenizer.ids != tokenizer_of("gpt2").ids:
            write_tokenizer(folder, self.corpus.tokenizer, self.cfg.context_length)

    def evaluated(self, most: int = QUICK_TARGETS) -> Evaluated:
        """The held-out loss now, over `most` targets; over all once the run is at its end."""
        assert self.corpus.held_out is not None
        whole = self.step == self.options.steps
        ids = self.corpus.held_out if whole else self.corpus.held_out[: most + 1]
        return Evaluated(float(self.nats(ids).double().mean()), len(ids) - 1, self.step)

    @torch.no_grad()
    def nats(self, ids: torch.Tensor) -> torch.Tensor:
        """The present loss (n - 1,) of each next token of `ids` (n,), without dropout, on the CPU.

        The windows are those of `evaluate`. The loss is that over the whole vocabulary, computed
        from the compact model.
        Raises ValueError if there are fewer than two tokens.
        """
        compact, rows = self.vocabulary.to_compact[ids], self.options.micro_batch
        self.model.eval()
        found = window_nats(self.model, compact, rows, self.log_counts)
        # A token that shares its row has that row's probability over its count.
        each = torch.cat(list(found)) + self.log_counts[compact[1:].to(self.device)]
        self.model.train()
        return each.cpu()

    def sampled(self) -> Sampled:
        """What the model writes now."""
        tokenizer, prompt = self.corpus.tokenizer, self.options.prompt
        options = SamplingOptions(
            self.options.sample_tokens, temperature=self.options.temperature, seed=1
        )
        ids = tokenizer.encode(prompt) or [tokenizer.end_of_text_id]
        stream = tokenizer.stream()
        model = self.whole_model().to(self.device)
        steps = generate(model, ids, options, tokenizer.end_of_text_id, n_candidates=0)
        new = [step.token_id for step in steps if step.stop != "stop_id"]
        text = prompt + "".join(map(stream.push, new)) + stream.finish()
        return Sampled(self.step, text, (*ids, *new))

    def _check(self) -> None:
        if self.options.batch_size % self.world:
            raise ValueError(
                f"batch_size {self.options.batch_size} is not divisible by {self.world} processes."
            )
        try:
            self.corpus.tokenizer.encode(self.options.prompt)
        except ValueError as error:
            raise ValueError(f"{str(error)[:-1]}: use another --prompt.") from error
        highest = int(self.corpus.ids.max())
        if highest >= self.cfg.vocab_size:
            raise ValueError(
                f"the text has token id {highest:,} and vocab_size is {self.cfg.vocab_size:,}: "
                f"use at least {self.corpus.tokenizer.vocab_size:,}."
            )

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """For each step from the present one on, this process's inputs and targets (b, t)."""
        n, t = self.options.batch_size, self.cfg.context_length
        starts = window_starts(len(self.ids), t, self.options.seed, skip=self.step * n)
        while True:  # a step reads the same windows however many processes share them
            some = [next(starts) for _ in range(n)]
            yield windows_at(self.ids, some[self.rank :: self.world], t)

    def _update(self, inputs: torch.Tensor, targets: torch.Tensor) -> Stepped | None:
        """One optimizer step on a batch; its event if the step is reported, else None."""
        options, started = self.options, time.perf_counter()
        rate = learning_rate(self.step, options)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        if not options.positions:
            self._savable = False  # its rows are already those of the next step
            self._shuffle_positions()
        # Dropout of a step depends on the step alone, so that a resumed run repeats it.
        seed = options.seed + 1_000_003 * (self.step * self.world + self.rank)
        with own_generator(seed):
            torch.manual_seed(seed)  # the device's too
            loss = self._gradients(inputs, targets)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), options.clip)
        self._savable = False
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.average = loss if self.step == 0 else torch.lerp(self.average, loss, 0.02)
        self.step += 1
        every = (LOG_EVERY, options.report_every, options.validate_every, options.checkpoint_every)
        reported = any(map(self._is_due, every))
        if reported:  # to read these numbers is to wait for a GPU
            found = float(loss), float(self.average), rate, float(norm)
        self.seconds += time.perf_counter() - started
        self._savable = True
        tokens = self.step * options.batch_size * self.cfg.context_length
        return Stepped(self.step, tokens, self.seconds, *found) if reported else None

    @torch.no_grad()
    def _shuffle_positions(self) -> None:
        """Permutes the rows of the position embedding, alike in all processes and when resumed."""
        rows = self.model.pos_emb.weight
        generator = torch.Generator().manual_seed(self.options.seed + self.step)
        rows.copy_(rows[torch.randperm(len(rows), generator=generator)])

    def _gradients(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Computes the gradients of a batch; its mean loss over all processes, on the device."""
        total = torch.zeros((), device=self.device)
        parts = [x.split(self.options.micro_batch) for x in (inputs, targets)]
        half = self.options.precision == "bfloat16"
        for i, (some_inputs, some_targets) in enumerate(zip(*parts, strict=True), start=1):
            apart = self.world > 1 and i < len(parts[0])  # gradients are shared once a step
            with self._parallel.no_sync() if apart else contextlib.nullcontext():
                with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                    logits = self._parallel(some_inputs)  # (b, t, compact)
                    loss = mean_loss(logits, some_targets, self.log_counts)
                loss = loss * len(some_inputs) / len(inputs)
                loss.backward()
            total += loss.detach()
        if self.world > 1:
            dist.all_reduce(total)
        return total / self.world

    def _is_finite(self, stepped: Stepped) -> bool:
        if not math.isfinite(stepped.average_loss + stepped.gradient_norm):
            return False
        used = (self.options.checkpoint_every, self.options.validate_every)
        return not any(map(self._is_due, used)) or self._weights_are_finite()

    def _is_due(self, every: int) -> bool:
        """Whether the step just done is a multiple of `every`, or the last."""
        return self.step % every == 0 or self.step == self.options.steps

    def _after(self, stepped: Stepped) -> Iterator[Event]:
        """The events of a step: `stepped`, and what is due after it.

        The checkpoint is written before the validation and the sample, which may fail.
        """
        if self._is_due(LOG_EVERY):
            spent, loss = round(self.seconds, 1), stepped.average_loss
            self._log(tokens=stepped.tokens, seconds=spent, loss=loss)
        if self._is_due(self.options.checkpoint_every):
            self._save()
        yield stepped
        if self.rank == 0 and self._is_due(self.options.validate_every):
            if self.corpus.held_out is not None:
                evaluated = self.evaluated()
                self._log(validation=evaluated.nats_per_token, targets=evaluated.n_targets)
                yield evaluated
            yield self.sampled()

    def _log(self, **measured: Any) -> None:
        if self.folder is not None:
            self.folder.log(step=self.step, **measured)

    def _save(self) -> None:
        """Writes a checkpoint, unless a weight is not finite."""
        if self.folder is None or not self._weights_are_finite():
            return
        self.folder.save(
            {
                "step": self.step,
                "seconds": self.seconds,
                "average": self.average,
                "model": self.model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            }
        )
        self.saved_step = self.step

    def _weights_are_finite(self) -> bool:
        return all(bool(p.isfinite().all()) for p in self.model.parameters())

    def _restore(self, state: Any) -> None:
        """Goes on from a checkpoint; a part that is missing or does not fit can raise anything."""
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.model.load_state_dict(state["model"])
        for optimizer, known in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(known)
        self.average = torch.as_tensor(state["average"]).to(self.device)
        fits = all(map(moments_fit, self.optimizers)) and self.average.dim() == 0
        if not (fits and 0 <= self.step <= self.options.steps):
            raise ValueError("a number or a shape does not fit")
        self.saved_step = self.step
