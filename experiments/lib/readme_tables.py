"""Write the tables of README.md, of docs and of the model card from the JSON in ``experiments/results``.

    python -m experiments.lib.readme_tables

Each table stands between two comments with its name, such as ``<!-- world -->`` and ``<!-- /world -->``.
"""

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.lib.tables import agents, clients, curation, data, first_hour, games, paper, quality, scale, speed
from genie_gym.models.loading import digest_checkpoint
from genie_gym.results.files import ROOT, read_machines

README = ROOT / "README.md"
RESULTS_PAGE = ROOT / "docs" / "results.md"
SCALE_PAGE, ROBOT_PAGE = ROOT / "docs" / "scale.md", ROOT / "docs" / "robot_video.md"
CLIENTS_PAGE, TRAIN_PAGE = ROOT / "docs" / "compatibility.md", ROOT / "docs" / "train_your_own.md"
HOUR_PAGE = ROOT / "docs" / "first_hour.md"
CARD = ROOT / "genie_gym" / "weights" / "coinrun" / "README.md"
PAGES = (README, RESULTS_PAGE, SCALE_PAGE, ROBOT_PAGE, CLIENTS_PAGE, HOUR_PAGE, TRAIN_PAGE, CARD)
"""Documents with tables."""
_RESULTS = ROOT / "experiments" / "results"
_SHIPPED_RESULTS = "coinrun_test ablation_steps video_distances figure10_prompts agents_speed dream_task"
"""Names of results about the shipped world, separated by spaces: out of date as soon as another world ships."""
_BY_MACHINE = ("bench", "against", "play")
"""Names of results with a row for each kind of machine; rows of another world than the shipped one are left out."""
_TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "coinrun_test": quality.write_card_tables,
    "ablation_steps": quality.tabulate_steps,
    "video_distances": quality.tabulate_distances,
    "bench": speed.tabulate_speed,
    "against": speed.tabulate_against,
    "play": speed.describe_play,
    **{name: functools.partial(paper.tabulate_variants, name) for name in paper.VARIANTS},
    "figure10_prompts": paper.tabulate_prompts,
    "figure9_scaling": paper.tabulate_scaling,
    "ablation_precision": paper.tabulate_precisions,
    "curation": curation.tabulate_curation,
    "players": agents.tabulate_players,
    "cloning_trials": agents.tabulate_trials,
    **dict.fromkeys(("figure15_cloning", "figure15_transfer"), agents.tabulate_cloning),
    "transfer_labels": agents.tabulate_transfer,
    "dream_task": agents.tabulate_task,
    **dict.fromkeys(("dream_transfer", "dream_seen_levels"), agents.tabulate_dreams),
    "agents_speed": agents.describe_agents_speed,
    "convert_many": data.describe_many,
    "clip_formats": data.tabulate_formats,
}
"""Name of results, and of their table in docs/results.md -> function that writes the table."""
_AWAITED = {
    "video_distances": "python -m experiments.release.video_distances --preset full --i3d runs/i3d.safetensors",
    "first_hour": "python -m experiments.release.first_hour --preset full",
    "cloning_trials": "python -m agents.cloning_trials --preset full",
    "figure15_cloning": "python -m agents.benchmark --preset full",
    "figure15_transfer": "python -m agents.transfer --preset full",
    "against": "python -m experiments.ablations.against --preset full --other FOLDER",
    "dream_task": "python -m agents.dream_task --preset full",
    "dream_transfer": "python -m agents.dream_transfer --preset full",
    "dream_seen_levels": "python -m agents.dream_seen_levels --preset full",
}
"""Results that may be missing until the world that they are about ships -> command that makes them."""


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
        has_agents = (_RESULTS / "figure15_cloning.json").exists()
        yield "agents", agents.tabulate_agents(read("figure15_cloning")) if has_agents else _await("figure15_cloning")
        return
    if document == SCALE_PAGE:
        yield "plans", scale.tabulate_plans(read("plans"))
        yield "measured", scale.tabulate_measured(read("plans"))
        return
    if document == CLIENTS_PAGE:
        yield "compatibility", clients.tabulate_clients(read("compatibility"))
        return
    if document == HOUR_PAGE:
        is_timed = (_RESULTS / "first_hour.json").exists()
        yield "first_hour", first_hour.tabulate_first_hour(read("first_hour")) if is_timed else _await("first_hour")
        return
    if document == TRAIN_PAGE:
        yield "games", games.tabulate_games(read("games"))
        yield "games_numbers", games.tabulate_numbers(read("games"))
        return
    if document == ROBOT_PAGE:
        yield "robot_video", scale.tabulate_robot(read("robot_video"))
        return
    for name in ("coinrun_test", "ablation_steps") if document == CARD else _TABLES:
        if (_RESULTS / f"{name}.json").exists():
            yield name, _TABLES[name](read(name))
        elif name in _AWAITED:
            yield name, _await(name)


def _await(name: str) -> str:
    """Return the text in place of a table whose results are not measured yet."""
    return f"Not measured yet for the shipped world: `{_AWAITED[name]}` makes this table."


def read(name: str) -> dict[str, Any]:
    """Read a file of ``experiments/results`` by name.

    Raises:
        ValueError: If its table is about the shipped world, but it was measured on another one.
    """
    path, shipped = _RESULTS / f"{name}.json", digest_checkpoint()
    if name in _BY_MACHINE:
        results: dict[str, Any] = {"rows": [row for row in read_machines(path) if row["shipped"] == shipped]}
        is_current = bool(results["rows"])
    else:
        results = json.loads(path.read_text())
        is_current = name not in _SHIPPED_RESULTS.split() or results.get("shipped") == shipped
    if not is_current:
        raise ValueError(f"results of {name} are of another world than the shipped one: measure again or delete them")
    return results


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(render(path))
