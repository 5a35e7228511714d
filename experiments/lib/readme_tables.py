"""Write the tables of README.md, docs/results.md and the model card from the JSON in ``experiments/results``.

    python -m experiments.lib.readme_tables

Each table stands between two comments with its name, such as ``<!-- world -->`` and ``<!-- /world -->``.
"""

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.lib.tables import agents, paper, quality
from genie_gym.models.loading import digest_checkpoint
from genie_gym.results.files import ROOT

README = ROOT / "README.md"
RESULTS_PAGE = ROOT / "docs" / "results.md"
CARD = ROOT / "genie_gym" / "weights" / "coinrun" / "README.md"
_RESULTS = ROOT / "experiments" / "results"
_SHIPPED_RESULTS = "coinrun_test ablation_steps bench play figure10_prompts agents_speed dream_task"
"""Names of results about the shipped world, separated by spaces: out of date as soon as another world ships."""
_TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "coinrun_test": quality.write_card_tables,
    "ablation_steps": quality.tabulate_steps,
    "bench": quality.tabulate_speed,
    "play": quality.describe_play,
    **{name: functools.partial(paper.tabulate_variants, name) for name in paper.VARIANTS},
    **{name: functools.partial(paper.tabulate_rows, name) for name in paper.ROW_TABLES},
    "figure9_scaling": paper.tabulate_scaling,
    "ablation_precision": paper.tabulate_precisions,
    **dict.fromkeys(("figure15_cloning", "figure15_cloning_shipped", "figure15_transfer"), agents.tabulate_cloning),
    "dream_task": agents.tabulate_task,
    "dream_transfer": agents.tabulate_dreams,
    "agents_speed": agents.describe_agents_speed,
}
"""Name of results, and of their table in docs/results.md -> function that writes the table."""


def render(document: Path) -> str:
    """Return the text of a document with all of its tables written anew from the results.

    Raises:
        ValueError: If the document lacks the comments of a table, or results are those of another world.
    """
    text = document.read_text()
    for name, table in _write_tables(document):
        text = fill(text, name, table)
    return text


def fill(text: str, name: str, table: str) -> str:
    """Return ``text`` with ``table`` in place of everything between the two comments with its ``name``.

    Raises:
        ValueError: If the comments are missing.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if begin not in text or end not in text:
        raise ValueError(f"document must hold {begin} and {end}")
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n{table}\n{end}{rest.split(end, 1)[1]}"


def _write_tables(document: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each table of a document."""
    if document == README:
        yield "world", quality.tabulate_world(read("coinrun_test"), read("bench"))
        yield "agents", agents.tabulate_agents(read("figure15_cloning"), read("figure15_cloning_shipped"))
        return
    for name in ("coinrun_test", "ablation_steps") if document == CARD else _TABLES:
        if (_RESULTS / f"{name}.json").exists():
            yield name, _TABLES[name](read(name))


def read(name: str) -> dict[str, Any]:
    """Read a file of ``experiments/results`` by name.

    Raises:
        ValueError: If its table is about the shipped world, but it was measured on another one.
    """
    results: dict[str, Any] = json.loads((_RESULTS / f"{name}.json").read_text())
    if name in _SHIPPED_RESULTS.split() and results.get("shipped") != digest_checkpoint():
        raise ValueError(f"results of {name} are of another world than the shipped one: measure again or delete them")
    return results


if __name__ == "__main__":
    for path in (README, RESULTS_PAGE, CARD):
        path.write_text(render(path))
