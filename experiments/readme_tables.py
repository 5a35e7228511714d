"""Write the tables of README.md, of the model card and of experiments/README.md from the JSON in ``results/``.

python -m experiments.readme_tables
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.readme import cloning, dreams, ladder, paper, quality, speed
from genie_gym.models.loading import digest_checkpoint
from genie_gym.results.files import ROOT

BEGIN, END = "<!-- results -->", "<!-- /results -->"
RESULTS = ROOT / "experiments" / "results"
OF_WHAT_SHIPS = (
    "ablation_steps",
    "context",
    "bench",
    "memory",
    "play",
    "figure10_prompts",
    "figure17_consistency",
    "agents_speed",
    "told_apart",
    "dream_task",
)
"""Results that are another world's as soon as another ships."""
README, CARD, ARTEFACTS, LADDER = (
    ROOT / folder / "README.md" for folder in ("", "genie_gym/weights/coinrun", "experiments", "experiments/release")
)


def render(document: Path) -> str:
    """The tables of a document as Markdown."""
    sections = {README: _readme, CARD: _card, ARTEFACTS: _artefacts, LADDER: _ladder}
    return "\n\n".join(sections[document]())


def _card() -> tuple[str, ...]:
    test = read("coinrun_test")
    return (
        tell_age(test) + quality.tell_clips(test),
        quality.tabulate_figures(test),
        quality.tabulate_rollout(test),
        quality.tabulate_actions(test),
        _write("ablation_steps", quality.tabulate_passes),
        _write("context", quality.tell_beyond_context),
    )


def _readme() -> tuple[str, ...]:
    of_speed = {"bench": speed.tabulate_speed, "play": speed.tell_play, "memory": speed.tell_memory}
    return (*_card(), *_of_what_ran(of_speed))


def _artefacts() -> tuple[str, ...]:
    """Of what has run."""
    tables: dict[str, Callable[[dict[str, Any]], str]] = {
        **{name: functools.partial(paper.tabulate_rivals, name) for name in paper.RIVALS},
        "figure9_scaling": paper.tabulate_scaling,
        "figure10_prompts": paper.tabulate_prompts,
        "figure17_consistency": paper.tabulate_consistency,
        "figure15_cloning": cloning.tabulate_cloning,
        "figure15_cloning_shipped": cloning.tabulate_cloning,
        "figure15_transfer": cloning.tabulate_cloning,
        "told_apart": cloning.tabulate_told_apart,
        "dream_task": dreams.tabulate_task,
        "dream_transfer": dreams.tabulate_dreams,
        "agents_speed": speed.tell_agents,
    }
    return _of_what_ran(tables)


def _of_what_ran(tables: dict[str, Callable[[dict[str, Any]], str]]) -> tuple[str, ...]:
    return tuple(_write(name, table) for name, table in tables.items() if (RESULTS / f"{name}.json").exists())


def _write(name: str, table: Callable[[dict[str, Any]], str]) -> str:
    results = read(name)
    return (tell_age(results) if name in OF_WHAT_SHIPS else "") + table(results)


def tell_age(results: dict[str, Any]) -> str:
    """A warning where another world shipped when they were measured; nothing where it is the same."""
    return "" if results.get("shipped") == digest_checkpoint() else "**Of the world that shipped before.** "


def _ladder() -> tuple[str, ...]:
    return (ladder.tabulate_ladder(read("release_ladder")),)


def read(name: str) -> dict[str, Any]:
    """A file of results."""
    results: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return results


def fill(document: str, tables: str) -> str:
    """``document`` with the text between its markers replaced.

    Raises:
        ValueError: If it lacks the markers.
    """
    if BEGIN not in document or END not in document:
        raise ValueError(f"document must hold {BEGIN} and {END}")
    before, rest = document.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{tables}\n{END}{rest.split(END, 1)[1]}"


def main() -> None:
    """Fill every document."""
    for path in (README, CARD, ARTEFACTS, LADDER):
        path.write_text(fill(path.read_text(), render(path)))


if __name__ == "__main__":
    main()
