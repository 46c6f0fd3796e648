"""`python -m gpt train`: the run behind the bundled model, or the loss of a model on a text.

One process: `python -m gpt train --text FILE ...`; several: `torchrun --nproc-per-node 2
-m gpt train ...`, which reads the same windows in each step and so gives the same loss.
"""

import argparse
import atexit
import os
from dataclasses import fields

import torch
import torch.distributed as dist
from tqdm import tqdm

from gpt.checkpoints import check_device, tokenizer_of
from gpt.checkpoints.reading import read_config_file
from gpt.checkpoints.sources import load_model, path_of
from gpt.config import GPTConfig
from gpt.sampling import perplexity_text
from gpt.training.corpus import encode_documents, read_corpus, read_documents
from gpt.training.evaluation import evaluate
from gpt.training.events import Evaluated, Sampled, Stepped
from gpt.training.options import TrainOptions
from gpt.training.trainer import Run


def run(args: argparse.Namespace) -> str:
    """Trains or evaluates as the flags say; the closing sentence, empty except in process 0.

    Raises ValueError for impossible flags, unreadable files and a loss that is not finite.
    """
    given = vars(args)
    if args.evaluate:
        ids = encode_documents(read_documents(args.text), tokenizer_of(args.evaluate))
        cfg = read_config_file(path_of(args.config)) if args.config is not None else None
        result = evaluate(load_model(args.evaluate, args.device, cfg=cfg), ids)
        return (
            f"{result.nats_per_token:.4f} nats a token, "
            f"perplexity {perplexity_text(result.nats_per_token)}, "
            f"over {result.n_targets:,} targets"
        )
    if not args.out:
        raise ValueError("out is empty: name the folder for what is written.")
    values = {item.name: given[item.name] for item in fields(TrainOptions)}
    device = _device_of_process(args.device)
    options = TrainOptions(**{**values, "text": tuple(args.text), "device": device})
    check_device(options.device)  # before the text is read
    corpus = read_corpus(options.text, options.validation, options.vocabulary)
    shape = {item.name: given[item.name] for item in fields(GPTConfig)}
    if options.vocabulary != "gpt2":
        shape["vocab_size"] = corpus.tokenizer.vocab_size
    return train(Run(GPTConfig(**shape), options, corpus))


def train(run: Run) -> str:
    """Trains to the end, with a progress bar and the samples on the terminal.

    Returns the closing sentence, empty except in process 0. Raises ValueError if the run diverges.
    """
    steps, first = run.options.steps, run.rank == 0
    with tqdm(total=steps, initial=run.step, disable=not first, unit="step", smoothing=0.1) as bar:
        for event in run.events():
            if isinstance(event, Stepped):
                bar.set_postfix_str(f"loss {event.average_loss:.3f}", refresh=False)
                bar.update(event.step - bar.n)
            elif isinstance(event, Evaluated):
                tqdm.write(f"step {event.step:,}: held-out {event.nats_per_token:.4f} nats a token")
            elif isinstance(event, Sampled):
                tqdm.write(event.text)
    if run.diverged:
        kept = f"the checkpoint of step {run.saved_step:,} is kept" if run.saved_step else ""
        raise ValueError(
            f"the run diverged, its loss is not finite at step {run.step:,}: "
            f"{kept or 'there is no checkpoint'}; use a lower --peak-rate and another --out."
        )
    return f"{run.step:,} steps done; the model is in {run.folder.path / 'model'}" if first else ""


def _device_of_process(device: str) -> str:
    """Joins the processes of torchrun, if it started this one; the device of this process.

    For "cuda" each has a GPU of its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:  # torchrun sets it
        return device
    on_gpus = device == "cuda"
    if on_gpus:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(check_device(device))
    dist.init_process_group("nccl" if on_gpus else "gloo")
    atexit.register(dist.destroy_process_group)
    return device
