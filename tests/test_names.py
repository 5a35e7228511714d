"""Names and sizes: one public name means one thing, and no file or function is too long to read."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("genie_gym", "agents", "experiments")
SHARED = {"logger", "main"}
"""Names that any module may define for itself."""
FILE_LINES, FUNCTION_LINES, README_LINES = 400, 60, 150
CPP_FUNCTION = re.compile(
    r"^(?P<indent> *)(?!\s|//|namespace|struct|class|enum|union|extern|if|else|for|while|do|switch|return|#)"
    r"[^;\n]*(?:\n(?P=indent) {2,}[^;\n]*)*\{\n",
    flags=re.MULTILINE,
)


def read_sources(*suffixes: str, folders: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Path from the root -> text of every file of the three packages, or other folders, with one of ``suffixes``."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*")) if path.suffix in suffixes]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}


def public_names(source: str) -> Iterator[str]:
    """The functions, classes and constants that a module defines at its top level, without what it imports."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
        else:
            names = []
        yield from (name for name in names if not name.startswith("_") and name not in SHARED)


def shared_names(sources: Mapping[str, str]) -> list[str]:
    """Public names that more than one module defines."""
    places = defaultdict(set)
    for path, source in sources.items():
        for name in public_names(source):
            places[name].add(path)
    return [f"{name}: {', '.join(sorted(paths))}" for name, paths in sorted(places.items()) if len(paths) > 1]


def python_functions(source: str) -> Iterator[tuple[str, int]]:
    """Name and number of lines of every function, methods and nested functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or 0) - node.lineno + 1


def cpp_functions(source: str) -> Iterator[tuple[str, int]]:
    """First line and number of lines of every function: from its signature to a brace of the same indentation."""
    for match in CPP_FUNCTION.finditer(source):
        if "(" in match[0]:
            end = re.compile(rf"^{match['indent']}\}}", flags=re.MULTILINE).search(source, match.end())
            if end:
                yield match[0].strip().splitlines()[0], source.count("\n", match.start(), end.start()) + 1


def oversized(path: str, source: str) -> list[str]:
    """The file and those of its functions that have too many lines."""
    lines = len(source.splitlines())
    found = [f"{path} has {lines} lines"] if lines > FILE_LINES else []
    functions = python_functions(source) if path.endswith(".py") else cpp_functions(source)
    return found + [f"{path}: {name} has {lines} lines" for name, lines in functions if lines > FUNCTION_LINES]


def test_every_public_name_is_defined_once() -> None:
    found = shared_names(read_sources(".py"))
    assert not found, "\n".join(found)


def test_files_and_functions_are_short() -> None:
    sources = read_sources(".py", ".cpp", ".h", ".cu", folders=(*PACKAGES, "tests"))
    found = [line for path, source in sources.items() for line in oversized(path, source)]
    assert not found, "\n".join(found)


def test_the_readme_is_short() -> None:
    lines = len((ROOT / "README.md").read_text().splitlines())
    assert lines <= README_LINES


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("class World: ...", "class World: ..."),
        ("def play(): ...", "async def play(): ..."),
        ("SIZE = 1", "SIZE: int = 2"),
        ("SIZE, WIDTH = 1, 2", "HEIGHT = WIDTH = 3"),
    ],
)
def test_a_name_defined_twice_is_caught(first: str, second: str) -> None:
    assert len(shared_names({"a.py": first, "b.py": second})) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("_SIZE = 1", "_SIZE = 2"),
        ("logger = 1\ndef main(): ...", "logger = 2\ndef main(): ..."),
        ("SIZE = 1", "from a import SIZE"),
        ("SIZE = 1", "def area():\n    SIZE = 2"),
        ("def play(): ...\nplay = trace(play)", "class Game:\n    def play(self): ..."),
    ],
)
def test_names_that_cannot_be_confused_pass(first: str, second: str) -> None:
    assert shared_names({"a.py": first, "b.py": second}) == []


SHAPES = [
    ("a.py", "", "x = 1\n", "", FILE_LINES),
    ("a.h", "", "int x;\n", "", FILE_LINES),
    ("a.py", "class A:\n", "        x = 1\n", "    def grow(self):\n", FUNCTION_LINES),
    ("a.cpp", "", "  x += 1;\n", "static void grow(float* x,\n                 int n) {\n", FUNCTION_LINES),
    ("a.cpp", "namespace {\n", "  x += 1;\n", "template <int N>\nvoid grow() {\n  for (;;) {\n  }\n", FUNCTION_LINES),
    ("a.h", "struct A {\n", "    x += 1;\n", "  void grow() const {\n", FUNCTION_LINES),
]
"""Path, text before what is counted, the line that repeats, the lines it starts with, and the limit."""


@pytest.mark.parametrize(("path", "before", "line", "start", "limit"), SHAPES)
@pytest.mark.parametrize("extra", [0, 1])
def test_long_code_is_caught(path: str, before: str, line: str, start: str, limit: int, extra: int) -> None:
    indentation = re.findall(r"^ *", start, flags=re.MULTILINE)[0] if start else ""
    end = "" if path.endswith(".py") or not start else f"{indentation}}}\n"
    counted = start.removeprefix("template <int N>\n").count("\n") + end.count("\n")
    source = before + start + line * (limit + extra - counted) + end
    assert len(oversized(path, source)) == extra


def test_the_functions_of_the_kernels_are_seen() -> None:
    functions = [name for source in read_sources(".cpp", ".h").values() for name, _ in cpp_functions(source)]
    assert len(functions) > 20, "or the limit on C++ functions holds nothing"
