"""Tests that CI runs every check once, and that the contributor's pages name commands and files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("CONTRIBUTING.md", "SECURITY.md")


def recipes(target: str) -> str:
    """Return the commands of a Makefile target and of the targets that it depends on."""
    makefile = (ROOT / "Makefile").read_text()
    match = re.search(rf"^{target}:(.*)\n((?:\t.*\n)*)", makefile, flags=re.MULTILINE)
    assert match, f"Makefile has no target {target}"
    return "".join(recipes(other) for other in re.findall(r"^\w+$", match[1].strip())) + match[2]


def test_ci_checks_lint_and_types_and_runs_the_tests_once() -> None:
    targets = re.findall(
        r"^[^#\n]*?make (\w+)(?: && make (\w+))?", (ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE
    )
    assert targets == [("lint", ""), ("test", "long")]
    commands = "".join(map(recipes, ("lint", "test")))
    checks = ("ruff format --check", "ruff check", "mypy", "$(PYTEST)")
    assert [commands.count(command) for command in checks] == [1, 1, 1, 1]
    assert recipes("long").endswith("$(PYTEST) --dist load -m long_play\n")
    assert " -m " not in recipes("test"), "a selection would leave tests out"


def test_check_is_lint_and_the_fast_tests() -> None:
    assert recipes("check").startswith(recipes("lint"))
    assert '$(PYTEST) -q -m "not slow and not long_play and not hostile and not pipeline"' in recipes("check")


def test_the_hosted_workflow_calls_the_same_script() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert re.findall(r"- run: (\S+)$", workflow, flags=re.MULTILINE) == [".ci/run"]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_commands_and_files_that_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"make (\w+)", text):
        recipes(target)  # fails for a target that does not exist
    for path in re.findall(r"`((?!build/)[\w.]+(?:/[\w.]+)+)`", text):
        assert (ROOT / path).exists(), f"{page}: {path}"
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), f"{page}: python -m {module}"
    assert len(text.splitlines()) <= 80, f"{page} is longer than a page"
