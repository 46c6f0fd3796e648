"""The house: who may import whom, what stands at the top level, names that mislead nobody."""

import ast
import importlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import gpt

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "gpt"
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
TOP = sorted(path.stem for path in PACKAGE.glob("*.py"))
EXEMPT = ("__init__", "__main__")  # of everything below them: the public names, the commands


@cache
def tree_of(path):
    return ast.parse(path.read_text())


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Every module of ours and of others that a file imports, by its full dotted name."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_rooms(path):
    names = {name.split(".")[1] for name in imports(path) if name.startswith("gpt.")}
    return names & {*ROOMS, *TOP}


@cache
def named_rooms(room):
    """The rooms that a room's docstring names: "Imports the rooms accounting and engine." """
    docstring = " ".join((ast.get_docstring(ast.parse(_init(room))) or "").split())
    found = re.search(r"Imports the rooms? ([\w, ]+)\.", docstring)
    return set(re.split(r", | and ", found[1])) if found else set()


def _init(room):
    return (PACKAGE / room / "__init__.py").read_text()


def test_top_level_modules_import_only_top_level_modules():
    for name in set(TOP) - set(EXEMPT):
        assert imported_rooms(PACKAGE / f"{name}.py") <= set(TOP), name


def test_a_room_imports_the_top_level_and_the_rooms_that_its_docstring_names():
    for path in FILES:
        room = room_of(path)
        if room in ROOMS:
            allowed = named_rooms(room) | {room, *TOP} - set(EXEMPT)
            assert named_rooms(room) <= set(ROOMS), f"{room} names a room that does not exist"
            assert imported_rooms(path) <= allowed, path


def test_rooms_import_each_other_in_no_circle():
    left = {room: named_rooms(room) for room in ROOMS}
    while left:
        free = [room for room, needed in left.items() if not needed & set(left)]
        assert free, f"a circle: {left}"
        for room in free:
            del left[room]


def test_only_the_page_imports_gradio():
    for path in FILES:
        if room_of(path) != "ui":
            assert "gradio" not in {name.split(".")[0] for name in imports(path)}, path


def test_nobody_imports_the_commands():
    """The page took what it needs for a console from them."""
    for path in [ROOT / "app.py", *FILES]:
        assert "gpt.__main__" not in set(imports(path)), path


def test_the_package_prints_nothing():
    for path in FILES:
        if path.name != "__main__.py":
            calls = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.Call)]
            assert "print" not in {ast.unparse(call.func) for call in calls}, path


def test_no_module_has_the_name_of_what_its_package_exports():
    """`import gpt.generate as g; g.Step` failed: the package's `generate` was a function."""
    for init in PACKAGE.rglob("__init__.py"):
        name = ".".join(init.parent.relative_to(ROOT).parts)
        exported = set(getattr(importlib.import_module(name), "__all__", ()))
        modules = {path.stem for path in init.parent.glob("*.py")}
        assert not exported & modules, name
    import gpt.generate as g

    assert g.Step.__name__ == "Step"
    assert "generate" not in gpt.__all__


def test_names_that_misled_readers_are_gone():
    gone = {
        "pages", "prompts", "steps", "replay", "fastest", "check_native", "memory_told", "drawing",
        "compute", "choice", "compare", "devices", "precision", "utils", "common", "helpers",
    }  # fmt: skip
    modules = {path.stem for path in FILES} | {path.parent.name for path in FILES}
    assert not modules & gone
    defined = {
        node.name
        for path in FILES
        for node in ast.walk(tree_of(path))
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    assert not defined & gone


def test_no_name_stands_for_two_things():
    """`Run` was a traced pass, a text that is being written and a training; `choose` was two.

    What each tab has under the same name is the pattern of tabs.
    """
    every = [
        node.name
        for path in FILES
        for node in tree_of(path).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]
    assert {name for name in every if every.count(name) > 1} == {"Handlers", "Layout", "add_to"}


def test_a_folders_docstring_names_files_that_are_there():
    """The Train tab's named `run`, which had become `trainings`."""
    for init in PACKAGE.rglob("__init__.py"):
        named = set(re.findall(r"\s\((\w+)\)", ast.get_docstring(tree_of(init)) or ""))
        assert named <= {path.stem for path in init.parent.glob("*.py")}, init


def test_what_benchmarks_import_is_there():
    """That of Internals took the page's `Shared` from a module that never was: it ran no more."""
    for path in (ROOT / "tests" / "benchmarks").glob("*.py"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "gpt":
                module = importlib.import_module(node.module)
                for name in (alias.name for alias in node.names):
                    assert hasattr(module, name), f"{path.name}: {node.module}.{name}"


IMPORTS = """
import sys, tempfile
import gpt
import gpt.__main__ as command
from gpt.accounting.timing import count_on_meta
from gpt.checkpoints import save_model

def told(what, *names):
    print(what, [name for name in sys.modules if name.endswith(names)])

told("gpt", "gradio", "transformers")
command._parser()
told("commands", "precision_record", "trainer")
cfg = gpt.GPTConfig(vocab_size=9, context_length=4, emb_dim=4, n_heads=2, n_layers=1)
assert count_on_meta(cfg)[0] == gpt.count_parameters(cfg).total
folder = save_model(gpt.GPTModel(cfg), tempfile.mkdtemp())
for precision in ("float32", "float16", "int8"):
    gpt.load_model(folder, precision=precision)
told("a model", "sympy")
"""


def test_what_is_imported_is_what_is_needed():
    """`compare`'s code was imported by every command. The first check of a visit took 1.5 s, a
    load one second and 67 MiB, since both drew on the meta device: torch's reference operators.
    """
    done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("gpt []\ncommands []\na model []\n", "")


def test_the_top_level_is_the_one_of_the_card():
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    top = {file.split("/")[0] for file in files if not file.startswith(".")}
    assert top <= {
        "app.py", "gpt", "requirements.txt", "tests", "README.md", "assets", "LICENSE",
        "pyproject.toml",
    }  # fmt: skip
