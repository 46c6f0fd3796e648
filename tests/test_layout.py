"""The house: who may import whom, how long a file may be, what stands at the top level."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "gpt").rglob("*.py"))
CORE = {"attention", "config", "model", "cache", "trace", "sampling", "generate"}
# What each module may import of ours; a package counts as one module.
ALLOWED = {
    "__init__": None,  # the public names of everything below
    "__main__": None,
    "config": set(),
    "trace": set(),
    "cache": set(),
    "sampling": set(),
    "tokenizer": set(),
    "devices": set(),
    "pages": set(),
    "attention": {"config", "cache", "trace"},
    "model": {"attention", "config", "cache", "trace"},
    "generate": {"cache", "sampling"},
    "replay": {"cache"},
    "accounting": {"config", "trace"},
    "internals": {"config", "trace", "sampling"},
    "precision": {"attention", "cache", "config", "model", "pages"},
    "checkpoints": {"config", "model", "precision", "tokenizer", "devices"},
    "models": {"config", "model", "precision", "checkpoints", "accounting", "sampling", "replay"},
    "corpus": {"config", "model", "tokenizer"},
    "evaluate": {"model"},
    "compare": CORE | {"devices", "models", "precision", "replay", "tokenizer"},
    "train_options": {"config"},
    "optimizer": {"model", "train_options"},
    "train": CORE
    | {"tokenizer", "checkpoints", "models", "corpus", "evaluate", "train_options", "optimizer"},
    "ui": None,
}
TYPES_FOR_ALL = {"config", "model", "trace"}  # under `if TYPE_CHECKING:` a name costs nothing
OPENS_FILES = {
    "checkpoints", "models", "tokenizer", "train", "corpus", "devices", "pages", "compare",
    "__main__", "ui",
}  # fmt: skip


def module_of(path):
    return path.relative_to(ROOT / "gpt").parts[0].removesuffix(".py")


def imports(tree, types_too=True):
    """Every module that a file imports, by its full dotted name."""
    skipped = set()
    if not types_too:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                skipped |= {id(inner) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(tree, types_too=True):
    names = {name for name in imports(tree, types_too) if name.startswith("gpt.")}
    known = {module_of(path) for path in FILES}
    return {name.split(".")[1] for name in names} & known


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_the_house_allows(path):
    module, tree = module_of(path), ast.parse(path.read_text())
    assert module in ALLOWED, f"{module} is not in the house: give it its place in this test"
    allowed = ALLOWED[module]
    if allowed is not None:
        assert ours(tree, types_too=False) <= allowed | {module}
        assert ours(tree) <= allowed | {module} | TYPES_FOR_ALL


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_page_imports_gradio(path):
    packages = {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
    if module_of(path) != "ui" or path.name.endswith("figures.py"):
        assert "gradio" not in packages
    if path.name.endswith("figures.py"):
        assert "torch" not in packages


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_and_print_nothing(path):
    source = path.read_text()
    assert len(source.splitlines()) <= 300
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    names = {ast.unparse(call.func) for call in calls}
    if module_of(path) != "__main__":
        assert "print" not in names
    if module_of(path) not in OPENS_FILES:
        assert not names & {"open", "torch.load", "safe_open", "load_file"}


def test_importing_the_package_is_quiet_and_light():
    code = "import sys, gpt; print('gradio' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False False\n"
    assert done.stderr == ""


def test_the_top_level_is_the_one_of_the_card():
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    top = {file.split("/")[0] for file in files if not file.startswith(".")}
    assert top <= {
        "app.py", "gpt", "requirements.txt", "tests", "README.md", "assets", "LICENSE",
        "pyproject.toml",
    }  # fmt: skip
    assert not [file for file in files if Path(file).stem in ("utils", "common", "helpers")]
