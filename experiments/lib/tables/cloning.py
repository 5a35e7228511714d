"""Figure 15 of the paper: levels solved by agents that learned from videos; and what their labels separate."""

from collections import Counter
from typing import Any

from agents.benchmark import KEYS
from agents.evaluation import gather_seeds
from agents.methods import CLONING_METHODS
from experiments.lib.tables.markdown import count_seeds, describe_run, write_solved, write_table

_ROW_ORDER = (
    *("lam", "lam_majority", "lam_features", "lam_oracle_map", "expert_latents", "expert_seen_latents"),
    *("oracle", "labelled_only", "marginal", "random", "expert"),
)
"""Methods in the order of the table's rows."""
_README_ROWS = {
    ("lam", 200): "latent policy, 200 labelled samples",
    ("oracle", None): "oracle: cloned from the videos' real actions",
    ("marginal", 200): "blind: draws the 200 samples' actions",
    ("expert", None): "the videos' player",
    ("random", None): "random",
}


def tabulate_cloning(results: dict[str, Any]) -> str:
    """Return a row for each method and number of labels, a column for each mode."""
    solved = gather_seeds(results["rows"], KEYS, results["seed"])
    modes = list(dict.fromkeys(mode for mode, _, _ in solved))
    keys = sorted({key[1:] for key in solved}, key=lambda key: (_ROW_ORDER.index(key[0]), key[1] or 0))
    rows = []
    for method, labels in keys:
        cells = [write_solved(solved.get((mode, method, labels))) for mode in modes]
        rows.append([CLONING_METHODS[method].title, "-" if labels is None else f"{labels:,}", *cells])
    head = (
        f"CoinRun levels solved, % [95 %] (interquartile mean): the first {results['levels']} {results['level_set']} "
        f"levels, {count_seeds(results)}, {results['frames']:,} frames of videos by `{results['player']}`, policy "
        f"`{results['policy']}`, labels of `{results['checkpoint']}` {describe_run(results)}"
        f"{_write_taken_over(results)}:"
    )
    return f"{head}\n\n{write_table(['method', 'labelled samples', *modes], rows)}"


def tabulate_agents(jumps: dict[str, Any], shipped: dict[str, Any]) -> str:
    """Return README.md's short table, and the latent policy with the shipped world's labels in a sentence."""
    solved, other = (gather_seeds(each["rows"], KEYS, each["seed"]) for each in (jumps, shipped))
    modes = list(dict.fromkeys(mode for mode, _, _ in solved))
    rows = [
        [name, *(_write_percent(solved[mode, method, labels]) for mode in modes)]
        for (method, labels), name in _README_ROWS.items()
    ]
    shipped_labels = " and ".join(f"{_write_percent(other[mode, 'lam', 200])} on {mode}" for mode in modes)
    head = f"first {jumps['levels']} test levels solved, % [95 %]"
    return (
        f"{write_table([head, *modes], rows)}\n\n"
        f"{count_seeds(jumps)}. The latent policy learned from labels of `experiments/release/jumps.safetensors`, a "
        f"latent action model that no shipped world has yet; with the shipped one's labels it solves {shipped_labels} "
        f"levels."
    )


def _write_percent(solved: dict[str, Any]) -> str:
    low, high = solved["interval"]
    return f"{100 * solved['solved']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _write_taken_over(results: dict[str, Any]) -> str:
    """Return how many rows come from another run, and its commit."""
    commits = Counter(row["commit"] for row in results["rows"] if "commit" in row)
    return "".join(f"; {rows} of {len(results['rows'])} rows from commit `{each}`" for each, rows in commits.items())


def tabulate_separability(results: dict[str, Any]) -> str:
    """Return a row for each pair of moves: where the frames differ, and where the latent actions do."""
    modes = list(dict.fromkeys(row["mode"] for row in results["rows"]))
    found = {(row["pair"], row["mode"]): row for row in results["rows"]}
    rows = []
    for pair in dict.fromkeys(row["pair"] for row in results["rows"]):
        cells = [_write_pair(found[pair, mode]) for mode in modes]
        rows.append([pair, *(cell for each in cells for cell in each)])
    states = " and ".join(f"{found[rows[0][0], mode]['states']:,} {mode}" for mode in modes)
    head = (
        f"Pairs of moves from the same states, {states} ones of `{results['player']}`'s play on validation levels, % "
        f"of the states where the frames differ, and of these the % [95 %] with different latent actions "
        f"{describe_run(results)}:"
    )
    heads = [f"{mode}: {which}" for mode in modes for which in ("frames differ", "separated")]
    return f"{head}\n\n{write_table(['pair', *heads], rows)}"


def _write_pair(row: dict[str, Any]) -> tuple[str, str]:
    if row["told_apart"] is None:
        return "0.0", "-"
    low, high = row["interval"]
    return f"{100 * row['shows']:.1f}", f"{100 * row['told_apart']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
