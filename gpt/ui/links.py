"""A visit as an address that writes it again, as a Python program and as a command; and back."""

import contextlib
import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

from gpt.checkpoints.sources import TRAINED
from gpt.engine import PRECISIONS
from gpt.sampling import SamplingOptions
from gpt.training.choices import OWN
from gpt.ui.architecture.controls import DEFAULTS as SIZES_AT_FIRST
from gpt.ui.architecture.controls import configuration, workload_of
from gpt.ui.generation.settings import AUTO, DEFAULTS, sampling_options
from gpt.ui.internals.sections import SECTIONS
from gpt.ui.tabs import TABS
from gpt.ui.train import settings as train
from gpt.ui.visit import Visit, steering_of

LONGEST = 4_000  # characters of an address, which every browser and chat program takes
WHOLE = ("layer", "head")  # of Attention
OPENED = tuple(section.key for section in SECTIONS if section.opened)
# The parameters of an address, beside "steer" and those of Train and Architecture, which begin with
# "train-" and "arch-" as the ids do.
VISIT = ("model", "prompt", "seed", "tokens", "position")
SETTINGS = (*(name for name in DEFAULTS if name != "seed"), "precision")
WHERE = ("tab", *WHOLE, "open")
FOREIGN = (  # begin what others add: trackers, mails and news, gradio, Spaces
    "_", "utm_", "fbclid", "gclid", "msclkid", "mc_", "ref", "deep_link", "view", "logs"
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """What a link leads to: the visit, the tab, where Internals looks, what Train trains."""

    visit: Visit = field(default_factory=Visit)
    tab: str = TABS[0]
    layer: int | None = None
    head: int | None = None
    open: tuple[str, ...] = OPENED  # keys of sections
    training: Mapping[str, Any] = field(default_factory=dict)  # settings that are not the default
    sizes: Mapping[str, Any] = field(default_factory=dict)  # of Architecture, the same


def link_of(place: Place, page: str, missing: Sequence[str] = ()) -> tuple[str, str]:
    """The address at `page` that leads to `place`, defaults left out, and what it leaves out.

    `missing` names what is not in `place` at all. From Train it leads to the training alone, from
    Architecture to the sizes. The second is one line, empty if nothing is missing.
    """
    given, missing = _parameters(place), [*missing]
    if given.get("train-text") == OWN and "train-pasted" not in given:
        missing.append("the file, which lives on this page only")
    if given.get("model", "").startswith(TRAINED):
        missing.append("the model, which lives on this page only")
        del given["model"]
    if "prompt" in given and (device := place.visit.settings.get("device")):
        missing.append(f"the device, {device}")
    address = f"{page}?{urlencode(given)}"
    if len(address) > LONGEST:
        missing.append(
            f"the text, with which the address would have {len(address):,} characters: "
            f"{LONGEST:,} are what programs take"
        )
        left_out = (*VISIT[1:], "steer", "train-pasted")  # what means nothing without the text, too
        kept = {k: v for k, v in given.items() if k not in left_out}
        address = f"{page}?{urlencode(kept)}"
    if place.tab == "train":
        missing.append("what was trained: whoever opens it trains with the same settings")
    return address, f"The link leaves out {' and '.join(missing)}." if missing else ""


def place_of(
    query: Mapping[str, str], config_of: Callable[[str], Any]
) -> tuple[Place, tuple[str, ...]]:
    """What the parameters of an address lead to, and a line for each that is impossible.

    What is impossible is left at its default; names that are not the page's are in the last line.
    `config_of` raises ValueError for an unknown model.
    """
    found, wrong = {}, []
    for name, text in query.items():
        try:
            if name == "model":
                config_of(text)
            if read := READ.get(name):
                found[name] = read(text)
        except ValueError as error:
            wrong.append(str(error) if name in str(error) else f"{name}: {error}")

    def those(names: Iterable[str], prefix: str = "") -> dict[str, Any]:
        return {name: found[prefix + name] for name in names if prefix + name in found}

    sizes = those(SIZES_AT_FIRST, "arch-")
    if told := impossible({**SIZES_AT_FIRST, **sizes}):
        wrong.append(told)
        sizes = {}
    unknown = [n for n in query if n not in READ and not n.startswith(FOREIGN)]
    if unknown:
        wrong.append(f"A link cannot set {' or '.join(repr(name[:40]) for name in unknown)}.")
    visit = Visit(**those(VISIT), steering=found.get("steer", ()), settings=those(SETTINGS))
    training = those((*train.DEFAULTS, "pasted"), "train-")
    return Place(visit, **those(WHERE), training=training, sizes=sizes), tuple(wrong)


def impossible(sizes: Mapping[str, Any]) -> str:
    """What is wrong with Architecture's sizes, all of them together; "" if nothing is."""
    try:
        workload_of(sizes, configuration(sizes))
    except ValueError as error:
        return str(error)
    return ""


def python_of(visit: Visit) -> str:
    """A program that writes the same token ids and prints them, then the text."""
    options = ", ".join(f"{name}={value!r}" for name, value in _options(visit).items())
    precision = visit.settings.get("precision", AUTO)
    automatic = precision == AUTO
    device = visit.settings.get("device")
    source = f"source, {device!r}" if device else "source"
    text_of = ", text_of=tokenizer.stream().push" if visit.settings.get("stop") else ""
    lines = [
        "import gpt",
        *(["from gpt.checkpoints.precision_record import default_precision"] if automatic else []),
        "from gpt.generate import generate",
        "",
        f"source = {visit.model!r}",
        f"prompt = {visit.prompt!r}",
        f"precision = {f'default_precision({source})' if automatic else repr(precision)}",
        f"model = gpt.load_model({source}, precision=precision)",
        "tokenizer = gpt.tokenizer_of(source)",
        f"options = gpt.SamplingOptions({options})",
        "ids = tokenizer.encode(prompt)",
        f"steps = generate(model, ids, options, stop_id=tokenizer.end_of_text_id{text_of})",
        "new = [step.token_id for step in steps]",
        "print(new)",
        "print(tokenizer.decode(new))",
    ]
    return "\n".join(lines) + "\n"


def command_of(visit: Visit) -> str:
    """A command that writes the same text."""
    words = ["python", "-m", "gpt", "generate", "--model", visit.model]
    for name, value in _options(visit).items():
        if name == "steering":
            words += [f"--steer={at}:{token}" for at, token in value]
        else:
            words.append(f"--{name.replace('_', '-')}={value}")
    if "precision" in visit.settings:
        words.append(f"--precision={visit.settings['precision']}")
    return shlex.join([*words, "--", visit.prompt])  # which may begin with a hyphen


def _options(visit: Visit) -> dict[str, Any]:
    """The fields of SamplingOptions that are not its defaults, and those that a run is about."""
    options = sampling_options({**DEFAULTS, **visit.settings}, visit.steering)
    tokens = visit.tokens or options.max_new_tokens
    options = replace(options, seed=visit.seed, max_new_tokens=tokens)
    always = ("max_new_tokens", "temperature", "seed")
    fields = vars(options).items()
    empty = vars(type(options)())
    return {k: v for k, v in fields if (k in always or v != empty[k]) and v is not None}


def _parameters(place: Place) -> dict[str, str]:
    """The address's parameters by name, defaults left out."""
    visit = place.visit
    alone = {"train": ("train-", place.training), "architecture": ("arch-", place.sizes)}
    if place.tab in alone:
        prefix, values = alone[place.tab]
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
        return {"tab": place.tab, **{prefix + name: text for name, text in texts.items()}}
    given: dict[str, Any] = {"tab": place.tab if place.tab != TABS[0] else None}
    given |= {"model": visit.model or None, "prompt": visit.prompt or None}
    given |= {k: v for k, v in visit.settings.items() if k in SETTINGS}
    if visit.tokens != 0:  # else there is no text to write again
        given |= {"seed": visit.seed, "tokens": visit.tokens, "position": visit.position}
    given["steer"] = ",".join(f"{at}:{token}" for at, token in visit.steering) or None
    given |= {name: getattr(place, name) for name in WHOLE}
    given["open"] = None if place.open == OPENED else ",".join(place.open) or "none"
    return {name: str(value) for name, value in given.items() if value is not None}


def _setting(name: str, text: str) -> Any:
    value = _typed(DEFAULTS[name], text)
    if not isinstance(DEFAULTS[name], str) and type(value) not in (int, float):
        raise ValueError(f"{text[:40]!r} is no number.")
    sampling_options({**DEFAULTS, name: value})
    return value


def _of_training(name: str, text: str) -> Any:
    return train.checked(name, _typed(train.DEFAULTS[name], text))


def _typed(default: Any, text: str) -> Any:
    """The value that a text stands for where the default is such, not checked."""
    if not isinstance(default, str):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
    return text


def _one_of(allowed: Sequence[str], text: str) -> str:
    if text not in allowed:
        raise ValueError(f"{text[:40]!r} is none of {', '.join(allowed)}.")
    return text


def _sections(text: str) -> tuple[str, ...]:
    keys = [section.key for section in SECTIONS]
    return tuple(_one_of(keys, key) for key in text.split(",")) if text != "none" else ()


def _steering(text: str) -> tuple[tuple[int, int], ...]:
    return steering_of([[_whole(n) for n in pair.split(":")] for pair in text.split(",")])


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 17):
        raise ValueError(f"{text[:40]!r} is no whole number from 0.")
    return int(text)


# What reads each parameter. Raises ValueError if the controls cannot have it.
READ: dict[str, Callable[[str], Any]] = {
    **{f"train-{name}": partial(_of_training, name) for name in train.DEFAULTS},
    **{f"arch-{name}": partial(_typed, first) for name, first in SIZES_AT_FIRST.items()},
    **{name: partial(_setting, name) for name in DEFAULTS},
    **dict.fromkeys(("model", "train-pasted"), str),
    # As a browser's box has it: the page waits for the box to show the prompt.
    "prompt": lambda text: text.replace("\r\n", "\n").replace("\r", "\n"),
    **dict.fromkeys(("position", *WHOLE), _whole),
    "tokens": lambda text: _setting("max_new_tokens", str(_whole(text))),
    "tab": partial(_one_of, TABS),
    "open": _sections,
    "seed": lambda text: SamplingOptions(seed=_whole(text)).seed,  # none that is too large
    "steer": _steering,
    "precision": partial(_one_of, (AUTO, *PRECISIONS)),
}
