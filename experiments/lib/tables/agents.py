"""Tables about agents: levels solved after learning from videos or in a world, and speed."""

import functools
from collections import Counter
from collections.abc import Mapping
from typing import Any

from agents.benchmark import KEYS
from agents.dream_task import score_methods
from agents.dream_transfer import DREAM_METHODS
from agents.evaluation import gather_seeds
from agents.methods import CLONING_METHODS
from experiments.lib.tables.markdown import count_seeds, describe_run, write_command, write_interval, write_table

_Solved = Mapping[tuple[Any, ...], dict[str, Any]]
"""Results of ``gather_seeds``; a key begins with the mode."""
_ROW_ORDER = (
    "lam lam_majority lam_features lam_oracle_map expert_latents expert_seen_latents "
    "oracle labelled_only marginal random expert"
)
"""Methods, separated by spaces, in the order of the rows of figure 15's table."""
_README_ROWS = {
    ("lam", 200): "latent policy, the latent actions of `jumps`",
    ("oracle", None): "oracle: cloned from the videos' real actions",
    ("marginal", 200): "blind: draws the 200 samples' actions",
    ("expert", None): "the videos' player",
    ("random", None): "random",
}
"""Rows of README.md's table: method and labelled samples -> first cell."""


def tabulate_cloning(results: dict[str, Any]) -> str:
    """Return figure 15 as a table: a row for each method and number of labels, a column for each mode."""
    solved = gather_seeds(results["rows"], KEYS, results["seed"])
    keys = sorted({key[1:] for key in solved}, key=lambda key: (_ROW_ORDER.split().index(key[0]), key[1] or 0))
    names = {(m, labels): [CLONING_METHODS[m].title, "-" if labels is None else f"{labels:,}"] for m, labels in keys}
    commits = Counter(row["commit"] for row in results["rows"] if "commit" in row)
    taken_over = [f"; {rows} of {len(results['rows'])} rows from commit `{each}`" for each, rows in commits.items()]
    about = (
        f"{results['frames']:,} frames of videos by `{results['player']}`, policy `{results['policy']}`, labels of "
        f"`{results['checkpoint']}` {describe_run(results)}{''.join(taken_over)}"
    )
    return _tabulate_solved(results, solved, ["method", "labelled samples"], names, about)


def tabulate_dreams(results: dict[str, Any]) -> str:
    """Return the table of agents that learned in a world and play the real game: a row a method, a column a mode."""
    solved = gather_seeds(results["rows"], ("mode", "method"), results["seed"])
    labels = {row["method"]: row["real_labels"] for row in results["rows"]}
    names = {(m,): [known.title, f"{labels[m]:,}"] for m, known in DREAM_METHODS.items() if m in labels}
    about = f"{results['env_steps']:,} dreamt steps, videos by `{results['player']}` {describe_run(results)}"
    return _tabulate_solved(results, solved, ["agent", "labelled transitions"], names, about)


def _tabulate_solved(
    results: dict[str, Any], solved: _Solved, heads: list[str], names: Mapping[Any, list[str]], about: str
) -> str:
    """Return a table of levels solved, a column for each mode; ``names`` maps the key of a row to its first cells."""
    modes = _list_modes(solved)
    rows = [[*cells, *(_write_solved(solved.get((mode, *key))) for mode in modes)] for key, cells in names.items()]
    head = (
        f"CoinRun levels solved, % [95 %] (interquartile mean): the first {results['levels']} {results['level_set']} "
        f"levels, {count_seeds(results)}, {about}:"
    )
    return f"{head}\n\n{write_table([*heads, *modes], rows)}"


_write_percent = functools.partial(write_interval, digits=1, scale=100)


def _list_modes(solved: _Solved) -> list[str]:
    return list(dict.fromkeys(mode for mode, *_ in solved))


def _write_solved(solved: dict[str, Any] | None) -> str:
    """Return the percentage of levels solved, its 95 % interval and the interquartile mean; a dash without results."""
    if solved is None:
        return "-"
    if len(solved["by_seed"]) == 1:  # one seed has no interval
        return f"{100 * solved['solved']:.1f} (one seed)"
    return f"{_write_percent(solved, 'solved')} ({100 * solved['iqm']:.1f})"


def tabulate_agents(jumps: dict[str, Any], shipped: dict[str, Any]) -> str:
    """Return README.md's short table: the latent policy by both latent action models, and what it is compared with."""
    solved, other = (gather_seeds(each["rows"], KEYS, each["seed"]) for each in (jumps, shipped))
    modes = _list_modes(solved)
    cells = {"latent policy, the shipped world's latent actions": [other[mode, "lam", 200] for mode in modes]}
    cells |= {name: [solved[mode, method, labels] for mode in modes] for (method, labels), name in _README_ROWS.items()}
    rows = [[name, *(_write_percent(each, "solved") for each in row)] for name, row in cells.items()]
    head = f"first {jumps['levels']} test levels solved, %, {count_seeds(jumps)} [95 %]"
    return write_table([head, *modes], rows)


def tabulate_task(results: dict[str, Any]) -> str:
    """Return the table of the task in the world: a row for each method, the best first, with its mean and its seeds."""
    returns, rows = score_methods(results["rows"]), []
    for method in sorted(returns, key=lambda method: -returns[method]["return"]):
        seeds = {row["seed"]: row["return"] for row in results["rows"] if row["method"] == method}
        by_seed = ", ".join(f"{seeds[seed]:.1f}" for seed in sorted(seeds))
        kind, _, action = method.partition("_")
        seen = " on tokens" if action == "tokens" else ""
        title = {"ppo": f"PPO in the world{seen}", "random": "random", "held": f"latent action {action}, held"}[kind]
        rows.append([title, write_interval(returns[method], "return", 1), by_seed])
    head = (
        f"To go right in the world: pixels that the level scrolls to the left in {results['episode_steps']} steps, "
        f"from frames of `{results['mode']}` validation levels that no agent began on. Mean of {results['episodes']} "
        f"games a seed [95 % over all games], {count_seeds(results)}, {results['env_steps']:,} dreamt steps "
        f"{describe_run(results)}:"
    )
    return f"{head}\n\n{write_table(['agent', 'return', 'by seed'], rows)}"


def describe_agents_speed(results: dict[str, Any]) -> str:
    """Return a sentence on the speed of labelling, playing and stepping a world."""
    machine, dreamt = results["machine"], results["dreamt_steps_per_second"]
    return (
        f"On {machine['cpu']}, {machine['threads']} threads ({write_command(results)}, commit `{results['commit']}`): "
        f"{results['labelled_frames_per_second']:,.0f} frames labelled a second; "
        f"{results['env_steps_per_second']:,.0f} steps a second of a policy `{results['policy']}` that plays "
        f"{results['levels']} levels at once; {dreamt:.1f} dreamt steps a second of {results['dreamers']} environments "
        f"in `make_sb3_vec_env`, {100 * results['adapter_share']:.2f} % of the time outside the world; "
        f"{results['peak_memory_mb']:.0f} MB peak memory while dreaming."
    )
