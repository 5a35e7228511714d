"""What agents learn inside a world, and what that is worth in the real game."""

from typing import Any

from agents.dream_task import score_methods
from agents.evaluation import gather_seeds
from experiments.readme.markdown import count_seeds, tell_how, write_solved, write_table

KEYS = ("mode", "method")
"""That rows differ in, but for their seeds."""
WORDS = {
    "random": "random",
    "random_latents": "random latent actions, mapped",
    "clone": "latent policy, cloned from videos",
    "ppo_real": "PPO in the real game for as many steps",
    "dream": "PPO in the world, rewarded by a judge of labelled transitions",
    "dream_clone": "the cloned policy, dreaming on, rewarded by such a judge",
    "dream_agreement": "PPO in the world, rewarded by agreement with videos",
}


def tabulate_dreams(results: dict[str, Any]) -> str:
    """A row for each method, a column for each mode."""
    told = gather_seeds(results["rows"], KEYS, results["seed"])
    modes = list(dict.fromkeys(mode for mode, _ in told))
    labels = {row["method"]: row["real_labels"] for row in results["rows"]}
    rows = [
        [WORDS[method], f"{labels[method]:,}", *(write_solved(told.get((mode, method))) for mode in modes)]
        for method in WORDS
        if method in labels
    ]
    head = (
        f"CoinRun levels solved, % [95 %] (interquartile mean): the first {results['levels']} {results['level_set']} "
        f"levels, {count_seeds(results)}, {results['env_steps']:,} dreamt steps, videos by `{results['player']}` "
        f"{tell_how(results)}:"
    )
    return f"{head}\n\n{write_table(['agent', 'labelled transitions', *modes], rows)}"


def tabulate_task(results: dict[str, Any]) -> str:
    """A row for each method, the best first; seeds one by one beside their mean."""
    told, rows = score_methods(results["rows"]), []
    for method in sorted(told, key=lambda method: -told[method]["return"]):
        low, high = told[method]["interval"]
        seeds = {row["seed"]: row["return"] for row in results["rows"] if row["method"] == method}
        by_seed = ", ".join(f"{seeds[seed]:.1f}" for seed in sorted(seeds))
        kind, _, action = method.partition("_")
        word = {"ppo": "PPO in the world", "random": "random", "held": f"latent action {action}, held"}[kind]
        rows.append([word, f"{told[method]['return']:.1f} [{low:.1f}, {high:.1f}]", by_seed])
    head = (
        f"To go right in the world: pixels that the level scrolls to the left in {results['episode_steps']} steps, "
        f"from frames of `{results['mode']}` validation levels that no agent began on. Mean of {results['episodes']} "
        f"games a seed [95 % over all games], {count_seeds(results)}, {results['env_steps']:,} dreamt steps "
        f"{tell_how(results)}:"
    )
    return f"{head}\n\n{write_table(['agent', 'return', 'by seed'], rows)}"
