"""A trained model afterwards: kept for an hour under a name that nobody guesses."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gpt.checkpoints.sources import forget, keep

KEPT_SECONDS = 3600
MOST_KEPT = 24  # of all visitors; the oldest goes
_kept: list[Finished] = []


@functools.cache
def _home() -> tempfile.TemporaryDirectory[str]:
    """Goes with the process."""
    return tempfile.TemporaryDirectory(prefix="gpt-trained-", ignore_cleanup_errors=True)


def new_folder() -> Path:
    """An empty folder for a model."""
    return Path(tempfile.mkdtemp(dir=_home().name))


@dataclass(frozen=True)
class Finished:
    """A model that was trained here: its name for other tabs, labels of it and of its comparison
    with itself early in the training, its zip and folder.
    """

    source: str
    label: str
    compared: str
    archive: Path

    def drop(self) -> None:
        """The model and its files are gone."""
        forget(self.source)
        shutil.rmtree(self.archive.parent, ignore_errors=True)
        with contextlib.suppress(ValueError):
            _kept.remove(self)


def kept(archive: Path, early: Path, label: str, compared: str) -> Finished:
    """The models in `early` and in model/ beside `archive`, found by its name from now on.

    Of more than MOST_KEPT the oldest goes.
    """
    source = keep(archive.parent / "model", early)
    finished = Finished(source, label, compared, archive)
    _kept.append(finished)
    for old in _kept[:-MOST_KEPT]:
        old.drop()
    return finished
