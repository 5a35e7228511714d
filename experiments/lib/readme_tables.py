"""Write the tables of README.md, docs/results.md and the model card from the JSON in ``experiments/results``.

    python -m experiments.lib.readme_tables

A table stands between two comments that name it, as in ``<!-- world -->`` and ``<!-- /world -->``.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.lib.tables import cloning, dreams, paper, quality, speed
from genie_gym.models.loading import digest_checkpoint
from genie_gym.results.files import ROOT

README = ROOT / "README.md"
RESULTS_PAGE = ROOT / "docs" / "results.md"
CARD = ROOT / "genie_gym" / "weights" / "coinrun" / "README.md"
_OF_THE_SHIPPED_WORLD = (
    "coinrun_test",
    "ablation_steps",
    "play",
    "figure10_prompts",
    "figure17_consistency",
    "agents_speed",
    "separability",
    "dream_task",
)
"""Results that are out of date as soon as another world ships."""
_TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "ablation_steps": quality.tabulate_steps,
    "separability": cloning.tabulate_separability,
    "play": speed.describe_play,
    **{name: functools.partial(paper.tabulate_variants, name) for name in paper.VARIANTS},
    **{name: functools.partial(paper.tabulate_rows, name) for name in paper.ROW_TABLES},
    "figure9_scaling": paper.tabulate_scaling,
    "figure15_cloning": cloning.tabulate_cloning,
    "figure15_cloning_shipped": cloning.tabulate_cloning,
    "figure15_transfer": cloning.tabulate_cloning,
    "dream_task": dreams.tabulate_task,
    "dream_transfer": dreams.tabulate_dreams,
    "agents_speed": speed.describe_agents_speed,
}


def render(document: Path) -> str:
    """Return the text of a document with its tables as the results have them now.

    Raises:
        ValueError: If the document lacks the markers of one of its tables.
    """
    text = document.read_text()
    for name, write in _sections(document).items():
        text = fill(text, name, write())
    return text


def fill(text: str, name: str, table: str) -> str:
    """Return ``text`` with everything between the markers ``name`` replaced by ``table``.

    Raises:
        ValueError: If the markers are missing.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if begin not in text or end not in text:
        raise ValueError(f"document must hold {begin} and {end}")
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n{table}\n{end}{rest.split(end, 1)[1]}"


def _sections(document: Path) -> dict[str, Callable[[], str]]:
    if document == README:
        return {"world": lambda: quality.tabulate_world(read("coinrun_test")), "agents": _write_agents}
    names = ("ablation_steps",) if document == CARD else tuple(name for name in _TABLES if _path(name).exists())
    sections: dict[str, Callable[[], str]] = {name: functools.partial(_write, name) for name in names}
    return {
        "coinrun_test": lambda: "\n\n".join(write(read("coinrun_test")) for write in quality.CARD_TABLES),
        **sections,
    }


def _write_agents() -> str:
    return cloning.tabulate_agents(read("figure15_cloning"), read("figure15_cloning_shipped"))


def _write(name: str) -> str:
    return _TABLES[name](read(name))


def read(name: str) -> dict[str, Any]:
    """Return a file of results.

    Raises:
        ValueError: If it was measured on another world than the one that ships, and its table is about that one.
    """
    results: dict[str, Any] = json.loads(_path(name).read_text())
    if name in _OF_THE_SHIPPED_WORLD and results.get("shipped") != digest_checkpoint():
        raise ValueError(
            f"results of {name} are of another world than the one that ships: measure again or delete them"
        )
    return results


def _path(name: str) -> Path:
    return ROOT / "experiments" / "results" / f"{name}.json"


def fill_documents() -> None:
    """Fill every document."""
    for path in (README, RESULTS_PAGE, CARD):
        path.write_text(render(path))


if __name__ == "__main__":
    fill_documents()
