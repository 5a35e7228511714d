"""Agents that learn inside a world, scored there and in the real game."""

from typing import Any

from agents.dream_task import score_methods
from agents.dream_transfer import DREAM_METHODS
from agents.evaluation import gather_seeds
from experiments.lib.tables.markdown import count_seeds, describe_run, write_solved, write_table

_ROW_KEYS = ("mode", "method")


def tabulate_dreams(results: dict[str, Any]) -> str:
    """Return a row for each method, a column for each mode."""
    solved = gather_seeds(results["rows"], _ROW_KEYS, results["seed"])
    modes = list(dict.fromkeys(mode for mode, _ in solved))
    labels = {row["method"]: row["real_labels"] for row in results["rows"]}
    rows = [
        [known.title, f"{labels[method]:,}", *(write_solved(solved.get((mode, method))) for mode in modes)]
        for method, known in DREAM_METHODS.items()
        if method in labels
    ]
    head = (
        f"CoinRun levels solved, % [95 %] (interquartile mean): the first {results['levels']} {results['level_set']} "
        f"levels, {count_seeds(results)}, {results['env_steps']:,} dreamt steps, videos by `{results['player']}` "
        f"{describe_run(results)}:"
    )
    return f"{head}\n\n{write_table(['agent', 'labelled transitions', *modes], rows)}"


def tabulate_task(results: dict[str, Any]) -> str:
    """Return a row for each method, the best first, with each seed beside the mean."""
    returns, rows = score_methods(results["rows"]), []
    for method in sorted(returns, key=lambda method: -returns[method]["return"]):
        low, high = returns[method]["interval"]
        seeds = {row["seed"]: row["return"] for row in results["rows"] if row["method"] == method}
        by_seed = ", ".join(f"{seeds[seed]:.1f}" for seed in sorted(seeds))
        kind, _, action = method.partition("_")
        word = {"ppo": "PPO in the world", "random": "random", "held": f"latent action {action}, held"}[kind]
        rows.append([word, f"{returns[method]['return']:.1f} [{low:.1f}, {high:.1f}]", by_seed])
    head = (
        f"To go right in the world: pixels that the level scrolls to the left in {results['episode_steps']} steps, "
        f"from frames of `{results['mode']}` validation levels that no agent began on. Mean of {results['episodes']} "
        f"games a seed [95 % over all games], {count_seeds(results)}, {results['env_steps']:,} dreamt steps "
        f"{describe_run(results)}:"
    )
    return f"{head}\n\n{write_table(['agent', 'return', 'by seed'], rows)}"
