"""The page starts itself once more with glibc's settings, unless its user has chosen some."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHOW = "import os, sys; print(os.environ.get('GLIBC_TUNABLES'), sys.argv[1:]); sys.exit(5)"


def start(folder, **environment):
    """What a module in gradio's place sees, when app.py gets as far as importing it."""
    for name in ("gradio", "spaces"):
        (folder / f"{name}.py").write_text(SHOW)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, ROOT / "app.py", "--port", "7999"]
    made = subprocess.run(
        command, env={**clean, "PYTHONPATH": str(folder), **environment}, capture_output=True
    )
    assert made.returncode == 5, made.stderr
    return made.stdout.decode().strip()


@pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="settings of glibc")
def test_the_page_runs_with_huge_pages_and_its_own_arguments(tmp_path):
    told = start(tmp_path)
    assert told.startswith("glibc.malloc.hugetlb=1:")
    assert told.endswith("['--port', '7999']")


@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_TRIM_THRESHOLD_", "800"), ("GLIBC_TUNABLES", "glibc.rtld.x=1")]
)
def test_whoever_set_how_glibc_keeps_memory_has_chosen(tmp_path, name, value):
    """README's advice for training was overruled by what the command line set."""
    told = start(tmp_path, **{name: value})
    assert told.startswith(value if name == "GLIBC_TUNABLES" else "None")
