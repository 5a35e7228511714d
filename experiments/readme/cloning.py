"""The paper's figure 15: levels that agents solve which learned from videos."""

from collections import Counter
from typing import Any

from agents.benchmark import KEYS
from agents.evaluation import gather_seeds
from experiments.readme.markdown import count_seeds, tell_how, write_solved, write_table

WORDS = {
    "lam": "latent policy, mapped",
    "lam_majority": "- by each latent action's most frequent real one",
    "lam_features": "- by a mapping that also sees the policy's features",
    "lam_oracle_map": "- by all labelled games",
    "expert_latents": "the videos' player through latent actions",
    "expert_seen_latents": "the same, of what its action leads to",
    "oracle": "oracle: the same on the videos' real actions",
    "labelled_only": "the labelled samples alone",
    "marginal": "the samples' actions, drawn blind",
    "random": "random",
    "expert": "the videos' player",
}


def tabulate_cloning(results: dict[str, Any]) -> str:
    """A row for each method and number of labels, a column for each mode."""
    told = gather_seeds(results["rows"], KEYS, results["seed"])
    modes = list(dict.fromkeys(mode for mode, _, _ in told))
    keys = sorted({key[1:] for key in told}, key=lambda key: (list(WORDS).index(key[0]), key[1] or 0))
    rows = []
    for method, labels in keys:
        cells = [write_solved(told.get((mode, method, labels))) for mode in modes]
        rows.append([WORDS[method], "-" if labels is None else f"{labels:,}", *cells])
    head = (
        f"CoinRun levels solved, % [95 %] (interquartile mean): the first {results['levels']} {results['level_set']} "
        f"levels, {count_seeds(results)}, {results['frames']:,} frames of videos by `{results['player']}`, policy "
        f"`{results['policy']}`, labels of `{results['checkpoint']}` {tell_how(results)}{_tell_taken_over(results)}:"
    )
    return f"{head}\n\n{write_table(['method', 'labelled samples', *modes], rows)}"


def _tell_taken_over(results: dict[str, Any]) -> str:
    """How many rows are another run's, and of which commit."""
    commits = Counter(row["commit"] for row in results["rows"] if "commit" in row)
    return "".join(f"; {rows} of {len(results['rows'])} rows from commit `{each}`" for each, rows in commits.items())


def tabulate_told_apart(results: dict[str, Any]) -> str:
    """A row for each pair of moves: where it shows, and where the latent actions tell it apart."""
    modes = list(dict.fromkeys(row["mode"] for row in results["rows"]))
    told = {(row["pair"], row["mode"]): row for row in results["rows"]}
    rows = []
    for pair in dict.fromkeys(row["pair"] for row in results["rows"]):
        cells = [_write_told(told[pair, mode]) for mode in modes]
        rows.append([pair, *(cell for each in cells for cell in each)])
    states = " and ".join(f"{told[rows[0][0], mode]['states']:,} {mode}" for mode in modes)
    head = (
        f"Pairs of the game's moves played on from the same states, {states} ones of `{results['player']}`'s play on "
        f"validation levels: how many lead to different frames, and of these how many get different latent actions, "
        f"% [95 %] {tell_how(results)}:"
    )
    heads = [f"{mode}: {what}" for mode in modes for what in ("shows", "told apart")]
    return f"{head}\n\n{write_table(['pair', *heads], rows)}"


def _write_told(row: dict[str, Any]) -> tuple[str, str]:
    if row["told_apart"] is None:
        return "0.0", "-"
    low, high = row["interval"]
    return f"{100 * row['shows']:.1f}", f"{100 * row['told_apart']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
