"""GPT-2's weights from the Hugging Face Hub: safetensors at pinned revisions, cached on disk."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILES = ("config.json", "model.safetensors")
# The repositories openai-community/NAME, each at one commit: the weights cannot change under us.
HUB_MODELS = {
    "gpt2": "607a30d783dfa663caf39e06633721c8d4cfcd7e",
    "gpt2-medium": "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
    "gpt2-large": "32b71b12589c2f8d625668d2335a01cac3249519",
    "gpt2-xl": "15ea56dee5df4983c59b2538573817e1667135e2",
}


def is_cached(name: str) -> bool:
    """Whether every file of that Hub model is on this disk already."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(filename=file, **_where(name)) for file in FILES)
    return all(isinstance(path, str) for path in found)


def _where(name: str) -> dict[str, str]:
    return {"repo_id": f"openai-community/{name}", "revision": HUB_MODELS[name]}


def download(name: str, progress: Callable[[float, str], None] | None = None) -> Path:
    """The folder with config.json and model.safetensors of that Hub model, from cache if there.

    Raises ValueError, in one line, without a network or the revision, and where the cache is full
    or cannot be written.
    """
    from huggingface_hub import hf_hub_download

    if progress is not None and not is_cached(name):
        progress(0.0, "downloading")  # the first answer can take a while
    meters = {FILES[-1]: _meter(progress)} if progress is not None else {}
    try:
        for file in FILES:
            path = hf_hub_download(filename=file, tqdm_class=meters.get(file), **_where(name))
    except Exception as error:
        if (text := _explained(error, name)) is None:
            raise  # a bug, not a fault of the network
        raise ValueError(text) from error
    return Path(path).parent


def _meter(progress: Callable[[float, str], None]) -> type[Any]:
    """A progress bar class that draws nothing and reports the fraction instead."""
    from huggingface_hub.utils import tqdm

    class Meter(tqdm):
        furthest = 0.0  # a download may have two bars, of the network and of the disk

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if self.total:
                Meter.furthest = max(Meter.furthest, min(1.0, self.n / self.total))
                progress(Meter.furthest, "downloading")

    return Meter


def _explained(error: Exception, name: str) -> str | None:
    """The cause of a failed download and what to do, in one line; None for an unknown error."""
    from huggingface_hub import constants, errors

    repository = _where(name)["repo_id"]
    by_hand = f"download {' and '.join(FILES)} into a folder by hand and load that folder"
    gone = (errors.RepositoryNotFoundError, errors.EntryNotFoundError)
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no revision {HUB_MODELS[name]} any more: {by_hand}."
    if isinstance(error, gone) and not isinstance(error, errors.LocalEntryNotFoundError):
        return f"{repository} or a file of it is not on the Hub any more: {by_hand}."
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: {repository} was not downloaded; make room or set HF_HOME."
    if isinstance(error, OSError) and error.filename:  # a fault of the disk names its file
        return (
            f"{repository} cannot be kept: the cache {constants.HF_HUB_CACHE} cannot be written "
            f"({error.strerror}); set HF_HOME to a folder of yours."
        )
    # The accelerated transfers of hf_xet report a lost connection as RuntimeError too.
    if isinstance(error, (OSError, RuntimeError, errors.HTTPError, errors.XetDownloadError)):
        return f"{repository} cannot be downloaded: is there a network? Or {by_hand}."
    return None
