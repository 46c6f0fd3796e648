"""The command line: `python -m gpt generate | params | train | compare | export | serve`."""

import argparse
import contextlib
import inspect
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, NoReturn

import torch

from gpt.accounting import count_parameters
from gpt.accounting.memory import weight_bytes
from gpt.checkpoints import export_model, tokenizer_of
from gpt.checkpoints.reading import read_config_file
from gpt.checkpoints.sources import config_of, load_model, path_of
from gpt.checkpoints.tensors import read_text
from gpt.config import PRESETS, GPTConfig
from gpt.engine import DTYPES, PRECISIONS
from gpt.engine.machine import show_what_can_be_shown, usable_cores
from gpt.generate import context_notes, generate
from gpt.sampling import SamplingOptions
from gpt.training.options import STORYTELLER_CONFIG, TrainOptions

LONGEST_MESSAGE = 500  # characters
_DEFAULT = "default: %(default)s"
_MODELS = """
models, wherever MODEL is asked for:
  storyteller     the small model of this repository, trained on public-domain fairy tales
  book-124M       the book's configuration with the weights of seed 123, untrained
  gpt2, gpt2-medium, gpt2-large, gpt2-xl
                  OpenAI's weights, downloaded once (0.5, 1.5, 3.2 and 6.4 GB) and cached
  PATH            a folder that `train` or `export` wrote, any Hugging Face GPT-2 folder,
                  or a checkpoint of the book (.safetensors or .pth); one that has no
                  configuration beside it needs --config, or the sizes as options
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives the exit status.

    0, or 2 after a mistake in the request, 130 after Ctrl-C, 141 when the reader of a pipe ended.
    """
    show_what_can_be_shown()
    args = _parser().parse_args(argv)
    if "OMP_NUM_THREADS" not in os.environ:  # torchrun sets it for each of its processes
        torch.set_num_threads(usable_cores())
    try:
        args.command(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the pipe, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ValueError as error:
        print(f"error: {_in_one_line(str(error))}", file=sys.stderr)
        return 2
    except OSError as error:  # a disk that is full, a folder that cannot be written
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {_in_one_line(f'{where}{error.strerror or error}')}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    return 0


def _in_one_line(message: str) -> str:
    """`message` without line breaks, and its middle left out where it quotes a long input."""
    line = " ".join(message.splitlines())
    if len(line) <= LONGEST_MESSAGE:
        return line
    return f"{line[: LONGEST_MESSAGE - 150]} … {line[-150:]}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exits with status 2 after the usage and one line."""
        super().error(_in_one_line(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m gpt", description="The GPT of the book, from the command line."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (summary, arguments, command) in _COMMANDS.items():
        layout, text = argparse.RawDescriptionHelpFormatter, inspect.getdoc(command)
        sub = commands.add_parser(
            name, help=summary, description=text, epilog=_MODELS, formatter_class=layout
        )
        sub.set_defaults(command=command)
        arguments(sub)
    return parser


def _add_configuration(
    parser: argparse.ArgumentParser, which: str = "of a checkpoint that has none beside it"
) -> None:
    """`--config FILE`, and an option for each field of GPTConfig."""
    group = parser.add_argument_group(f"the configuration {which}")
    text = "JSON: the book's dict, this package's or GPT-2's config.json"
    group.add_argument("--config", metavar="FILE", help=text)
    _add_fields(group, GPTConfig(), told=False)


def _add_fields(group: Any, defaults: Any, told: bool) -> None:
    """An option for each field of a dataclass; where its default is not told, that is None."""
    for field in fields(defaults):
        value = getattr(defaults, field.name)
        kind: dict[str, Any] = {"type": type(value), "metavar": type(value).__name__.upper()}
        if isinstance(value, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        elif isinstance(value, tuple):
            kind = {"nargs": "+", "metavar": "FILE"}
        if told:
            text = "" if value in ("", ()) else f" (default {value})"
            text = field.metadata.get("help", "of the model") + text
            kind |= {"default": value, "help": text}
        group.add_argument("--" + field.name.replace("_", "-"), dest=field.name, **kind)


def _configuration(
    args: argparse.Namespace, base: Callable[[], GPTConfig] | None = None
) -> GPTConfig | None:
    """What --config names, else `base()`, with the sizes that are given as options.

    Without `base` the book's, and None if the options give nothing.
    """
    options = {name: getattr(args, name) for name in GPTConfig()}
    given = {name: value for name, value in options.items() if value is not None}
    if base is None and args.config is None and not given:
        return None
    found = (base or GPTConfig)() if args.config is None else read_config_file(path_of(args.config))
    return replace(found, **given)


def _generate_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("prompt", nargs="?", metavar="PROMPT", help="without it, the standard input is read")
    add("--model", default="storyteller", metavar="MODEL", help=_DEFAULT)
    text = f"stop after so many, if no other end comes; {_DEFAULT}"
    add("--max-new-tokens", type=int, default=50, metavar="N", help=text)
    text = f"0: the best token, 1: as the model says; {_DEFAULT}"
    add("--temperature", type=float, default=0.8, metavar="T", help=text)
    add("--top-k", type=int, metavar="K", help="sample among the K most probable (default: all)")
    text = "sample among the fewest that hold P (default: 1, all)"
    add("--top-p", type=float, default=1.0, metavar="P", help=text)
    text = "leave out what is below P of the best's (default: 0, none)"
    add("--min-p", type=float, default=0.0, metavar="P", help=text)
    add("--stop", default="", metavar="TEXT", help="end with the token that completes this text")
    text = "this token comes there, from 0; may be repeated"
    add("--steer", type=_steer, action="append", default=[], metavar="POSITION:ID", help=text)
    text = "same seed, same text on one machine (default: drawn, and told)"
    add("--seed", type=int, metavar="S", help=text)
    add("--device", default="cpu", metavar="D", help=f"cpu, cuda or mps; {_DEFAULT}")
    text = f"of the weights: {', '.join(PRECISIONS)}; auto is the fastest that was measured to "
    text += f"cost little, else float32; {_DEFAULT}"
    add("--precision", default="auto", metavar="TYPE", help=text)
    _add_configuration(parser)


def _steer(text: str) -> tuple[int, int]:
    position, _, token_id = text.partition(":")
    if not (position.isdecimal() and token_id.isdecimal()):
        message = f"{text[:40]!r} is no POSITION:ID, such as 2:257: use two whole numbers from 0."
        raise argparse.ArgumentTypeError(message)
    return int(position), int(token_id)


def _generate(args: argparse.Namespace) -> None:
    """Continues a text. The text goes to the standard output, token by token; notes, the speed and
    the seed go to the standard error. Ctrl-C stops the run and keeps what was written.

    examples:
      python -m gpt generate "Once upon a time"
      python -m gpt generate "Hello, I am" --model book-124M --max-new-tokens 6 --temperature 0
      python -m gpt generate --model gpt2 --top-p 0.9 --seed 7 < prompt.txt
    """
    names = [field.name for field in fields(SamplingOptions) if field.name != "steering"]
    given = {name: getattr(args, name) for name in names}
    options = SamplingOptions(**given, steering=tuple(args.steer)).with_seed()
    prompt = args.prompt if args.prompt is not None else _standard_input()
    tokenizer = tokenizer_of(args.model)
    if not (ids := tokenizer.encode(prompt)):
        raise ValueError("the prompt is empty: give at least one character.")
    precision = args.precision
    if precision == "auto":
        from gpt.checkpoints.precision_record import default_precision

        precision = default_precision(args.model, args.device)
    cfg = _configuration(args)
    with _progress() as progress:
        model = load_model(args.model, args.device, precision, cfg, progress)
    stop_id, text_of = tokenizer.end_of_text_id, tokenizer.stream().push
    steps = generate(model, ids, options, stop_id, n_candidates=0, text_of=text_of)  # may refuse
    for note in context_notes(model.cfg, len(ids), options.max_new_tokens):
        print(note, file=sys.stderr)
    text, started, n_tokens = tokenizer.stream(), time.perf_counter(), 0
    print(prompt, end="", flush=True)
    try:
        for step in steps:
            n_tokens += 1
            if step.stop != "stop_id":
                print(text.push(step.token_id), end="", flush=True)
    finally:
        with contextlib.suppress(BrokenPipeError):
            print(text.finish(), flush=True)
        rate = n_tokens / (time.perf_counter() - started)
        print(f"{n_tokens:,} tokens, {rate:.1f} a second, seed {options.seed}", file=sys.stderr)


def _standard_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the standard input is no {error.encoding} text: {error.reason}."
        ) from error


@contextlib.contextmanager
def _progress() -> Any:
    """A callback that keeps one line of the terminal up to date; silent if it is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    yield lambda done, stage: print(f"\r\033[K{stage} {done:.0%}", end="", file=sys.stderr)
    print("\r\033[K", end="", file=sys.stderr)


def _params_arguments(parser: argparse.ArgumentParser) -> None:
    text = "a preset, untied and without biases as in the book (OpenAI's own: add --tie-weights "
    text += f"--qkv-bias), else a model; {_DEFAULT}"
    parser.add_argument("model", nargs="?", default="gpt2-small", metavar="MODEL", help=text)
    _add_configuration(parser, "in place of MODEL's")
    parser.description = f"{parser.description}\n\npresets: {', '.join(PRESETS)}"


def _params(args: argparse.Namespace) -> None:
    """Counts the parameters of a configuration, part by part: where each part is, its tensors, how
    many numbers they hold and by which formula. No weights are read or allocated.

    examples:
      python -m gpt params                                the book's 124M configuration
      python -m gpt params gpt2-xl --context-length 2048  a model's or preset's own, changed
      python -m gpt params storyteller
    """
    cfg = _configuration(args, lambda: PRESETS.get(args.model) or config_of(args.model))
    count = count_parameters(cfg)
    table = [("part", "tensors", "parameters", "share", "formula")]
    for row in count.rows:
        share = f"{100 * row.count / count.total:.1f} %"
        table.append((row.name, row.shape, f"{row.count:,}", share, row.formula))
    a, b, c, d, _ = (max(map(len, column)) for column in zip(*table, strict=True))
    for part, shape, number, share, formula in table:
        print(f"{part:<{a}}  {shape:<{b}}  {number:>{c}}  {share:>{d}}  {formula}")
    mib = weight_bytes(cfg, "float32") / 2**20
    print(f"\n{', '.join(f'{name} {value}' for name, value in cfg.items())}")
    print(f"{count.total:,} parameters, {mib:,.2f} MiB in float32")


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    text = "only print the loss of a model on --text"
    parser.add_argument("--evaluate", metavar="CHECKPOINT", help=text)
    text = "with --evaluate: the JSON configuration of a checkpoint that has none beside it"
    parser.add_argument("--config", metavar="FILE", help=text)
    _add_fields(parser.add_argument_group("the run"), TrainOptions(), told=True)
    _add_fields(parser.add_argument_group("the model"), STORYTELLER_CONFIG, told=True)


def _train(args: argparse.Namespace) -> None:
    """Trains a GPT on plain text files and writes it as a folder that MODEL can name elsewhere, or
    only measures one on held-out text with --evaluate. A killed run continues from its
    checkpoint.

    examples:
      python -m gpt train --text tales.txt --validation held-out.txt --out runs/tales
      python -m gpt train --evaluate storyteller --text held-out.txt
    """
    from gpt.training.command import run

    if closing := run(args):  # empty for all processes of torchrun but the first
        print(closing)


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="what to measure")
    parser.add_argument("--text", required=True, metavar="FILE", help="held-out text, UTF-8")
    text = f"how many tokens of it, from its beginning; {_DEFAULT}"
    parser.add_argument("--tokens", type=int, default=20_480, metavar="N", help=text)
    parser.add_argument("--record", action="store_true", help="keep the result as the default's")
    _add_configuration(parser)


def _compare(args: argparse.Namespace) -> None:
    """Measures what each precision costs on a text, against float32: the mean KL divergence, how
    often the most probable token is the same, the perplexity; and its tokens a second on this
    machine. --record keeps that in assets/precision.json, from which the page and `generate`
    take the default.

    examples:
      python -m gpt compare storyteller --text held-out.txt --record
      python -m gpt compare gpt2 --text held-out.txt --tokens 4096
    """
    from gpt.checkpoints import precision_record

    cfg = _configuration(args)
    if args.tokens < 2:
        raise ValueError(f"--tokens is {args.tokens}: use at least 2.")
    path = path_of(args.text)
    ids = tokenizer_of(args.model).encode(read_text(path), allow_special=True)[: args.tokens]
    measured = precision_record.measure_precisions(args.model, torch.tensor(ids), cfg=cfg)
    if args.record:
        precision_record.write_record(args.model, path.name, measured)
    print(precision_record.table(measured))
    best, limit = precision_record.quickest_allowed(measured), precision_record.LARGEST_KL_NATS
    print(f"the fastest under {limit} nats: {best}")


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="what to write")
    parser.add_argument("folder", metavar="FOLDER", help="where; it is made if need be")
    text = f"of the weights: {', '.join(DTYPES)}; {_DEFAULT}"
    parser.add_argument("--precision", default="float32", metavar="TYPE", help=text)
    _add_configuration(parser)


def _export(args: argparse.Namespace) -> None:
    """Writes a Hugging Face GPT-2 folder: config.json and model.safetensors, and the tokenizer's
    files if the vocabulary is GPT-2's. `AutoModelForCausalLM.from_pretrained(FOLDER)` of
    transformers, and whatever else reads such a folder, then gives the logits that the model
    gives here.

    examples:
      python -m gpt export storyteller my-gpt2
      python -m gpt export book.pth my-gpt2 --precision float16
    """
    with _progress() as progress:
        cfg = _configuration(args)
        model = load_model(args.model, precision=args.precision, cfg=cfg, progress=progress)
    folder = export_model(model, path_of(args.folder), tokenizer_of(args.model))
    for path in sorted(folder.iterdir()):
        print(f"{path.stat().st_size:>13,} bytes  {path}")


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--replicas", default="1", metavar="N|MIN-MAX", help=f"how many; {_DEFAULT}")
    text = "loaded by each before the first request; may be given more than once; a PATH that is "
    text += "not named cannot be asked for"
    add("--model", action="append", default=[], metavar="MODEL", help=text)
    text = "of a Ray cluster that runs; auto: this machine's"
    add("--address", metavar="auto|ADDRESS", help=text)
    text = "of a replica (default: its machine's, divided among replicas)"
    add("--cores", type=int, default=0, metavar="N", help=text)


def _serve(args: argparse.Namespace) -> None:
    """Starts replicas that write texts for the page, `python app.py --cluster ADDRESS`, on Ray
    Serve (pip install "ray[serve]"). Without --address they are in a cluster of this machine
    alone. Runs until Ctrl-C, which stops the replicas.

    --replicas MIN-MAX scales: one more while over 16 runs a replica go on for 10 s, one less
    after 10 minutes without need. A replica takes 64 runs at once; what is more waits for a free
    row.

    examples:
      python -m gpt serve --replicas 2
      python -m gpt serve --replicas 1-4 --model storyteller --model gpt2 --address auto
    """
    from gpt.serving.replicas import served

    numbers = re.fullmatch(r"([1-9][0-9]{0,3})(?:-([1-9][0-9]{0,3}))?", args.replicas, re.ASCII)
    least, most = (int(numbers[1]), int(numbers[2] or numbers[1])) if numbers else (1, 0)
    if least > most:
        raise ValueError(f"--replicas is {args.replicas[:40]!r}: use a number such as 2, or 1-4.")
    if args.cores < 0:
        raise ValueError(f"--cores is {args.cores}: use 1 or more, or 0 to divide what there is.")
    with served(args.model or ["storyteller"], least, most, args.address, args.cores) as address:
        print(f"replicas are ready: python app.py --cluster {address}", flush=True)
        threading.Event().wait()


_COMMANDS = {  # name: summary, arguments, what runs; its docstring is the description
    "generate": ("continue a text", _generate_arguments, _generate),
    "params": ("count a configuration's parameters", _params_arguments, _params),
    "train": ("train a model on text files, or measure one", _train_arguments, _train),
    "compare": ("measure what a precision costs", _compare_arguments, _compare),
    "export": ("write a Hugging Face GPT-2 folder", _export_arguments, _export),
    "serve": ("start replicas that write for the page", _serve_arguments, _serve),
}

if __name__ == "__main__":
    sys.exit(main())
