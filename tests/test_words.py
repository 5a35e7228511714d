"""The mechanical part of plain words: help that explains, docstrings that are sentences, no text about old worlds."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("genie_gym", "agents", "experiments")
FRAGMENT = re.compile(r"(Of|In place|The same|Who|How many|As for|Where)\b")
"""How a docstring that does not stand alone begins."""
HELP_FRAGMENT = re.compile(r"(Of|In|From|Who|How|Where|As|The same)\b", flags=re.IGNORECASE)
"""How a help text that does not name its field's value begins."""
OLD_WORLDS = "world that shipped before"

Function = ast.FunctionDef | ast.AsyncFunctionDef


def read_modules() -> dict[str, str]:
    """Path from the root -> source of every module of the three packages."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}


def described(body: list[ast.stmt]) -> Iterator[tuple[str, str | None]]:
    """Every name assigned in the body of a module or class, with the string below it if there is one."""
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            below = after.value if isinstance(after, ast.Expr) else None
            if isinstance(target, ast.Name):
                is_string = isinstance(below, ast.Constant) and isinstance(below.value, str)
                yield target.id, str(below.value) if is_string else None


def docstrings(node: ast.Module | ast.ClassDef | Function, name: str) -> Iterator[tuple[str, str, bool]]:
    """Name, text, and whether it must be a sentence, of every public docstring and field string in ``node``."""
    text = ast.get_docstring(node)
    if text is not None:
        yield name, text, True
    if isinstance(node, ast.Module | ast.ClassDef):
        for field, below in described(node.body):
            if below is not None and not field.startswith("_"):
                yield f"{name}.{field}", below.strip(), False
        for inner in node.body:
            if isinstance(inner, ast.ClassDef | Function) and not inner.name.startswith("_"):
                yield from docstrings(inner, f"{name}.{inner.name}")


def unclear_docstrings(path: str, source: str) -> list[str]:
    """Public docstrings that begin as a fragment, and those whose first line does not end as a sentence."""
    found = []
    for name, text, is_sentence in docstrings(ast.parse(source), path):
        first = text.splitlines()[0]
        if FRAGMENT.match(first):
            found.append(f"{name} begins as a fragment: {first}")
        elif is_sentence and not first.endswith("."):
            found.append(f"{name} has no full stop: {first}")
    return found


def referred(node: ast.AST) -> set[str]:
    """Every name and attribute name in an expression."""
    named = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return named | {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}


def command_names(trees: Mapping[str, ast.Module]) -> set[str]:
    """Names in the values of every dictionary ``COMMANDS`` and in the arguments of ``tyro.cli`` and ``run_command``."""
    names = set()
    for tree in trees.values():
        assigned = {
            (node.targets[0] if isinstance(node, ast.Assign) else node.target): node.value
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        }
        values = {target.id: referred(value) for target, value in assigned.items() if isinstance(target, ast.Name)}
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for call in calls:
            if {"cli", "run_command"} & referred(call.func) and call.args:
                names |= {inner for name in referred(call.args[0]) for inner in {name, *values.get(name, ())}}
        names |= values.get("COMMANDS", set())
    return names


def help_texts(sources: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """``Class.field`` and help of every option of every command: of its class, its bases and its nested configs."""
    trees = {path: ast.parse(source) for path, source in sources.items()}
    nodes = [node for tree in trees.values() for node in tree.body if isinstance(node, ast.ClassDef)]
    classes = {node.name: node for node in nodes if any("dataclass" in referred(mark) for mark in node.decorator_list)}
    waiting, seen = sorted(command_names(trees) & set(classes)), set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            node = classes[name]
            fields = [field for field in node.body if isinstance(field, ast.AnnAssign)]
            inner = [referred(field.annotation) for field in fields]
            waiting += sorted(set().union(*inner, *map(referred, node.bases)) & set(classes))
            strings = dict(described(node.body))
            for field in fields:
                if "ClassVar" not in referred(field.annotation):
                    label = ast.unparse(field.target)
                    yield f"{name}.{label}", strings[label]


def unclear_help(sources: Mapping[str, str]) -> list[str]:
    """Options of commands whose help is missing, shorter than three words, or a fragment."""
    return [
        f"{field}: {text}"
        for field, text in help_texts(sources)
        if text is None or len(text.split()) < 3 or HELP_FRAGMENT.match(text.strip())
    ]


def texts_about_old_worlds(folder: Path) -> list[str]:
    """Texts and programs of the README, the docs and the experiments that mention earlier worlds."""
    rooms = [folder / "README.md", *(folder / "docs").rglob("*"), *(folder / "experiments").rglob("*")]
    texts = [path for path in rooms if path.suffix in {".md", ".py", ".json", ".txt", ".html"} and path.is_file()]
    assert texts
    return [str(path) for path in texts if OLD_WORLDS in " ".join(path.read_text().lower().split())]


def test_every_option_is_explained() -> None:
    found = unclear_help(read_modules())
    assert not found, "\n".join(found)


def test_the_options_of_all_commands_are_read() -> None:
    from genie_gym.cli import COMMANDS

    classes = {field.split(".")[0] for field, _ in help_texts(read_modules())}
    assert {command.__name__ for command in COMMANDS.values()} <= classes
    assert {"RecordConfig", "Benchmark", "Experiment"} <= classes, "nested configs, agents, and a base class"


def test_every_docstring_stands_alone() -> None:
    found = [line for path, source in read_modules().items() for line in unclear_docstrings(path, source)]
    assert not found, "\n".join(found)


def test_no_text_is_about_old_worlds() -> None:
    assert texts_about_old_worlds(ROOT) == []


@pytest.mark.parametrize(
    "source",
    [
        '"""Of the page."""',
        '"""A page without a full stop"""',
        'class Page:\n    """The same as a sheet."""',
        'class Page:\n    """A page."""\n    def turn(self):\n        """Where to go."""',
        'class Page:\n    """A page."""\n    number: int\n    """How many."""',
        'class Page:\n    """A page."""\n    number: int\n    """In place of the sheet\'s."""',
        'SIZE = 3\n"""Who reads this."""',
        'def turn():\n    """Turn the page, and\n\n    then the next."""',
        'async def turn():\n    """As for sheets."""',
    ],
)
def test_an_unclear_docstring_is_caught(source: str) -> None:
    assert len(unclear_docstrings("a.py", source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        '"""A page."""\nSIZE = 3\n"""number of lines"""',
        'def _turn():\n    """Of the page"""',
        'class _Page:\n    """Of the book"""\n    def turn(self):\n        """Of it"""',
        'def turn():\n    """Offer the page.\n\n    Of the book."""',
    ],
)
def test_clear_and_private_docstrings_pass(source: str) -> None:
    assert unclear_docstrings("a.py", source) == []


COMMAND = '''
@dataclass(frozen=True)
class Base:
    size: int = 3
    """number of lines on a page"""

@dataclass
class Ink:
    colour: str = "black"
    """colour of the letters"""

@dataclass(frozen=True)
class Turn(Base):
    port: int
    """port of the web page"""
    ink: Annotated[Ink, tyro.conf.arg(name="")] = field(default_factory=Ink)
    """ink to print with"""
    KINDS: ClassVar[int] = 3

@dataclass
class NoCommand:
    port: int
'''


@pytest.mark.parametrize("entry", ['COMMANDS: dict = {"turn": Turn}', "Both = Turn | None\ntyro.cli(Both).run()"])
@pytest.mark.parametrize(
    ("clear", "unclear"),
    [
        ("port of the web page", "Of the page."),
        ("port of the web page", "port number"),
        ("port of the web page", "Where the page is."),
        ("number of lines on a page", "How many lines on a page"),
        ("colour of the letters", "from black to white"),
        ('    """port of the web page"""\n', ""),
    ],
)
def test_unclear_help_is_caught(entry: str, clear: str, unclear: str) -> None:
    assert unclear_help({"a.py": COMMAND, "b.py": entry}) == []
    assert len(unclear_help({"a.py": COMMAND.replace(clear, unclear), "b.py": entry})) == 1


@pytest.mark.parametrize("place", ["README.md", "docs/results.md", "experiments/lib/tables.py"])
def test_a_text_about_an_old_world_is_caught(tmp_path: Path, place: str) -> None:
    (tmp_path / "README.md").write_text("A world that ships.")
    assert texts_about_old_worlds(tmp_path) == []
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text("The world that\nshipped before was another.")
    assert len(texts_about_old_worlds(tmp_path)) == 1
