"""Tables of docs/train_your_own.md: games of several kinds by one recipe, and numbers of latent actions."""

from typing import Any

from experiments.lib.tables.markdown import write_table

_Row = dict[str, Any]
_SEEN_BY = {
    "camera": "the camera",
    "thrust": "the camera, along the way that thrust goes",
    "sprite": "the player's sprite",
    "paddle": "the paddle",
}
_NOT_MEASURED = "-"


def tabulate_games(results: _Row) -> str:
    """Return the table of the games: labels, held actions and roll-outs, each beside its baselines."""
    rows = [_write_game(row) for row in _sort(results)]
    heads = ["game", "camera", "main axis", "label", "supervised", "chance", "kept", "all actions, kept", "perplexity"]
    heads += ["held actions explain", "held keys", "ratio", "motion is that of"]
    heads += ["PSNR at t = 4, dB", "copying", "delta PSNR [95 %]"]
    return f"{_describe(results)}:\n\n{write_table(heads, rows)}"


def tabulate_numbers(results: _Row) -> str:
    """Return the table of what labels keep if one model's codes or latents are merged into few or many actions."""
    measured = [row for row in _sort(results) if row["measurable"]]
    rows = []
    for row in measured:
        kept = (f"{each['axis_kept']:.2f} / {each['all_kept']:.2f}" for each in row["by_actions"])
        rows.append([row["game"], *kept, f"{row['by_actions'][-1]['perplexity']:.1f}"])
    heads = [
        f"{each['actions']} codes" if each.get("merging") == "none" else f"{each['actions']}"
        for each in measured[0]["by_actions"]
    ]
    return write_table(["game", *heads, f"perplexity of the {measured[0]['by_actions'][-1]['actions']} codes"], rows)


def _sort(results: _Row) -> list[_Row]:
    """Return the rows, the game whose labels keep most first, and those that are not measurable last."""
    return sorted(results["rows"], key=lambda row: -row["axis_kept"] if row["measurable"] else 1.0)


def _describe(results: _Row) -> str:
    measured = [row for row in results["rows"] if row["measurable"]]
    kept = sum(row["axis_kept"] >= 0.6 for row in measured)
    held = sum((row["held_ratio"] or 0.0) >= 0.6 for row in measured)
    commits = ", ".join(f"`{commit}`" for commit in dict.fromkeys(row["commit"] for row in results["rows"]))
    return (
        f"{results['frames']:,} frames of training levels a game, {results['clips']} clips of test levels, "
        f"up to {results['starts']} starts, seed {results['seed']}: labels keep at least 60 % of the supervised gain "
        f"in {kept} of {len(measured)} games, held actions explain at least 60 % of what held keys do in {held} "
        f"(`python -m experiments.games.five_games --preset full --game GAME`, commits {commits}, "
        f"{results['machine']['kind']})"
    )


def _write_game(row: _Row) -> list[str]:
    measures = [f"{row[f'axis_{name}']:.3f}" for name in ("ceiling", "chance")]
    about = [row["game"], row["camera"], row["axis"]]
    if not row["measurable"]:
        return [*about, _NOT_MEASURED, *measures, "not measurable", *[_NOT_MEASURED] * 9]
    ratio = row["held_ratio"]
    low, high = row["dpsnr_interval"]
    return [
        *about,
        f"{row['axis_accuracy']:.3f}",
        *measures,
        f"{row['axis_kept']:.2f}",
        f"{row['all_kept']:.2f}",
        f"{row['perplexity']:.1f}",
        f"{row['held_explained']:.2f}",
        f"{row['keys_explained']:.2f}",
        _NOT_MEASURED if ratio is None else f"{ratio:.2f}",
        _SEEN_BY[row["seen_by"]],
        f"{row['t4_psnr']:.1f}",
        f"{row['t4_copy']:.1f}",
        f"{row['dpsnr']:.2f} [{low:.2f}, {high:.2f}]",
    ]
