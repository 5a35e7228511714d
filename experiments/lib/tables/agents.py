"""Tables about agents: levels solved after learning from videos or in a world, and speed."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from agents.config import PAPERS_LABELS
from agents.costs import describe_costs
from agents.dream_task import score_methods
from agents.dream_transfer import DREAM_METHODS
from agents.experiment import Method
from agents.intervals import Estimate
from agents.methods import CLONING_METHODS
from agents.scores import MethodKey, Scores
from agents.transfer_labels import SEEN
from experiments.lib.tables.markdown import count_seeds, describe_run, write_command, write_interval, write_table

_KeyByMode = Mapping[str, MethodKey | None]
"""A method for each mode."""
_README_ROWS = {
    "lam": "latent policy, mapped by 200 samples",
    "oracle": "oracle: cloned from the videos' real actions",
    "player": "the videos' player",
    "best_constant": "blind: holds the best action",
}
"""Rows of README.md's table before that of the best blind method: method -> first cell."""
_PAIRS = (
    ("player", "oracle"),
    ("oracle", "lam"),
    ("oracle", "lam_relabel"),
    ("lam_relabel", "idm_relabel"),
    ("lam", "labelled_only"),
)
"""Methods of figure 15 whose difference on the core is told."""
_NOT_BLIND = ("player", "oracle", "lam", "lam_relabel")
"""Methods of figure 15 whose difference to the best blind method is told."""
_DREAM_PAIRS = (
    ("dream", "random_latents"),
    ("dream", "ppo_real"),
    ("dream_clone", "clone"),
    ("dream_agreement", "random_latents"),
)
"""Methods that learn in a world whose difference on the core is told."""
_DREAMT = ("clone", "dream", "dream_clone", "dream_agreement")
"""Methods that learn in a world whose difference to the best blind method is told."""


def tabulate_cloning(results: dict[str, Any]) -> str:
    """Return figure 15 as tables: a row for each method and number of labels, then differences on the core."""
    scores = Scores(results["rows"], CLONING_METHODS, results["seed"])
    about = (
        f"{results['frames']:,} frames of videos by `{results['player']}`, policy `{results['policy']}`, labels of "
        f"`{results['checkpoint']}` {describe_run(results)}"
    )
    pairs = _tabulate_pairs(scores, _find_papers_keys(scores), _PAIRS, _NOT_BLIND)
    tables = [_describe_levels(results, about), _tabulate_scores(scores, CLONING_METHODS), pairs]
    return "\n\n".join([*tables, f"{describe_costs(results['cpu_seconds'])}."])


def tabulate_trials(results: dict[str, Any]) -> str:
    """Return the table of trials of cloning: a row for each, with the share of the core solved by temperature."""
    keys = list(dict.fromkeys((row["trial"], row["method"]) for row in results["rows"]))
    modes = list(dict.fromkeys(row["mode"] for row in results["rows"]))
    temperatures = list(results["rows"][0]["core_solved"])
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in results["rows"]:
        found.setdefault((row["mode"], row["trial"], row["method"]), []).append(row)
    rows = [
        [trial, f"`{method}`", str(max(len(found.get((mode, trial, method), ())) for mode in modes))]
        + [_write_trial(found.get((mode, trial, method), []), temperatures) for mode in modes]
        for trial, method in keys
    ]
    about = (
        f"Levels of the core of {results['level_set']} levels solved, in %, at temperatures {', '.join(temperatures)}: "
        f"means over seeds, {results['frames']:,} frames of videos, {results['train_steps']:,} batches of "
        f"{results['batch_size']} {describe_run(results)}. With {results['core_levels']} levels, the standard error of "
        f"one seed is about 3."
    )
    return f"{about}\n\n{write_table(['trial', 'method', 'seeds', *modes], rows)}"


def _write_trial(rows: list[dict[str, Any]], temperatures: list[str]) -> str:
    """Return the cell of a trial's rows of all seeds."""
    if not rows:
        return "-"
    levels = sum(row["core_levels"] for row in rows)
    return " / ".join(f"{100 * sum(row['core_solved'][each] for row in rows) / levels:.0f}" for each in temperatures)


def tabulate_dreams(results: dict[str, Any]) -> str:
    """Return the tables of agents that learned in a world and play the real game: methods, then their differences."""
    scores = Scores(results["rows"], DREAM_METHODS, results["seed"])
    seen = f", dreams from {results['starts']}, which are not new to them" if "starts" in results else ""
    about = f"{results['env_steps']:,} dreamt steps{seen}, videos by `{results['player']}` {describe_run(results)}"
    pairs = _tabulate_pairs(scores, {key[0]: key for key in scores.keys}, _DREAM_PAIRS, _DREAMT)
    tables = [_describe_levels(results, about), _tabulate_scores(scores, DREAM_METHODS), pairs]
    return "\n\n".join([*tables, f"{describe_costs(results['cpu_seconds'])}."])


def tabulate_players(results: dict[str, Any]) -> str:
    """Return the table of players of the recorder: a row for each, with levels solved, all and of the core."""
    rows = {(row["mode"], row["player"]): row for row in results["rows"]}
    modes, players = (list(dict.fromkeys(key[part] for key in rows)) for part in (0, 1))
    cells = [
        [f"`{player}`"]
        + [cell for mode in modes for cell in _write_player(rows[mode, player])]
        + [f"{min(rows[mode, player]['frames_a_cpu_second'] for mode in modes):,}"]
        for player in players
    ]
    head = ["player", *(f"{mode}, {part}" for mode in modes for part in ("all", "core")), "frames a CPU second"]
    cores = "; ".join(
        f"{mode}: {row['core_levels']} that holding {row['best_constant']} fails"
        for mode in modes
        for row in [rows[mode, players[0]]]
    )
    about = (
        f"CoinRun levels solved, % [95 %]: the first {results['rows'][0]['levels']:,} {results['level_set']} levels, "
        f"and their core ({cores}), each played once {describe_run(results)}."
    )
    return f"{about}\n\n{write_table(head, cells)}"


def _write_player(row: dict[str, Any]) -> list[str]:
    """Return the cells of all levels and of the core."""
    return [
        write_interval({"value": row[solved] / row[levels], "interval": row[interval]}, "value", digits=1, scale=100)
        for solved, levels, interval in (
            ("solved", "levels", "interval"),
            ("core_solved", "core_levels", "core_interval"),
        )
    ]


def tabulate_agents(results: dict[str, Any]) -> str:
    """Return README.md's short table of figure 15."""
    scores = Scores(results["rows"], CLONING_METHODS, results["seed"])
    known = _find_papers_keys(scores)
    keys: dict[str, _KeyByMode] = {
        title: dict.fromkeys(scores.modes, known[name]) for name, title in _README_ROWS.items() if name in known
    }
    blind = {mode: scores.find_best_blind(mode) for mode in scores.modes}
    rows = [
        [title, *(cell for mode in scores.modes for cell in _write_scores(scores, mode, by_mode[mode]))]
        for title, by_mode in {**keys, "blind: the best that holds no action": blind}.items()
    ]
    cores = " and ".join(f"{_count_core(results, mode)} {mode}" for mode in scores.modes)
    head = f"{results['levels']} test levels, {cores} of the core, {count_seeds(results)}: % solved [95 %]"
    return write_table([head, *_head_modes(scores)], rows)


def _find_papers_keys(scores: Scores) -> dict[str, MethodKey]:
    """Return each method's row without labels, or with as many as the paper's."""
    return {name: (name, labels) for name, labels in scores.keys if labels in (None, PAPERS_LABELS)}


def _describe_levels(results: dict[str, Any], about: str) -> str:
    """Return the caption of a table of levels solved."""
    cores = "; ".join(
        f"{mode}: {_count_core(results, mode)} of {len(core['seeds'])} that holding {core['best_constant']} fails "
        f"among {core['among']:,}"
        for mode, core in results["cores"].items()
    )
    title = "CoinRun" if {"easy", "hard"} & set(results["cores"]) else " and ".join(results["cores"]).capitalize()
    commits = Counter(row["commit"] for row in results["rows"])
    played = ", ".join(f"{rows} at `{commit}`" for commit, rows in commits.items())
    return (
        f"{title} levels solved, % [95 %]: the first {results['levels']} {results['level_set']} levels, and their core "
        f"({cores}); on the core also normalised, 0 for the best blind method that holds no action and 100 for the "
        f"videos' player. {count_seeds(results)}, {about}. Rows by commit: {played}."
    )


def _count_core(results: dict[str, Any], mode: str) -> int:
    return min(results["core_levels"], len(results["cores"][mode]["seeds"]))


def _tabulate_scores(scores: Scores, methods: Mapping[str, Method[Any]]) -> str:
    rows = [
        [methods[key[0]].title, "-" if key[1] is None else f"{key[1]:,}"]
        + [cell for mode in scores.modes for cell in _write_scores(scores, mode, key)]
        for key in scores.keys
    ]
    return write_table(["method", "labels", *_head_modes(scores)], rows)


def _tabulate_pairs(
    scores: Scores, known: Mapping[str, MethodKey], pairs: Iterable[tuple[str, str]], not_blind: Iterable[str]
) -> str:
    """Return the table of differences on the core, of methods paired on the same levels and seeds.

    Args:
        scores: Levels solved.
        known: The row of each method, by its name.
        pairs: Methods that are compared, left out where one has no row.
        not_blind: Methods that are compared with the best blind one.
    """
    blind = {mode: scores.find_best_blind(mode) for mode in scores.modes}
    others: dict[str, tuple[MethodKey, _KeyByMode]] = {
        f"{a} - {b}": (known[a], dict.fromkeys(scores.modes, known[b])) for a, b in pairs if {a, b} <= set(known)
    }
    others |= {f"{a} - best blind": (known[a], blind) for a in not_blind if a in known}
    rows = [
        [title, *(_write_percent(scores.compare(mode, key, other[mode])) for mode in scores.modes)]
        for title, (key, other) in others.items()
    ]
    names = ", ".join(f"{mode}: `{key[0]}`" for mode, key in blind.items() if key)
    return write_table([f"core, difference in points [95 %]; best blind method of {names}", *scores.modes], rows)


def _head_modes(scores: Scores) -> list[str]:
    return [f"{mode}{part}" for mode in scores.modes for part in (", all", ", core", ", core normalised")]


def _write_scores(scores: Scores, mode: str, key: MethodKey | None) -> list[str]:
    """Return the cells of all levels, of the core and of the normalised score."""
    if key is None:
        return ["-"] * 3
    found = scores.estimate(mode, key, "all"), scores.estimate(mode, key), scores.normalise(mode, key)
    return [_write_percent(each) for each in found]


def _write_percent(estimate: Estimate | None) -> str:
    """Return a share and its interval in percent, the interval as a dash where it is unbounded."""
    if estimate is None:
        return "-"
    if not np.isfinite(estimate["interval"]).all():
        return f"{100 * estimate['value']:.1f} [-]"
    return write_interval(dict(estimate), "value", digits=1, scale=100)


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


def tabulate_transfer(results: dict[str, Any]) -> str:
    """Return the table of attempts to learn CoinRun's latent actions from other games, in the order of their bits."""
    cells: dict[str, dict[tuple[str, str], float]] = {}
    for row in results["rows"]:
        told = cells.setdefault(row["attempt"], {})
        told |= {(row["mode"], name): row[name] for name in ("bits", "code_bits")}
    entropies = {row["mode"]: row["move_bits"] for row in results["rows"]}
    counts = {row["attempt"]: (row["actions"], row["codes"]) for row in results["rows"]}
    columns = [(mode, name) for name in ("bits", "code_bits") for mode in entropies]
    seen = cells[SEEN]
    rows = [
        [
            "CoinRun itself: the checkpoint" if name == SEEN else name,
            str(counts[name][0]),
            *(f"{told[each]:.3f} ({100 * told[each] / seen[each]:.0f} %)" for each in columns),
        ]
        for name, told in sorted(cells.items(), key=lambda item: -sum(item[1][mode, "bits"] for mode in entropies))
    ]
    moves = ", ".join(f"{mode} {entropy:.2f}" for mode, entropy in entropies.items())
    head = (
        f"Bits about the true move that are told by the latent actions, and by the {counts[SEEN][1]} codes before "
        f"merging (share of what the model that learned from CoinRun tells), {results['frames']:,} frames by "
        f"`{results['player']}` on {results['level_set']} levels; entropy of moves: {moves} {describe_run(results)}:"
    )
    titles = [mode if name == "bits" else f"codes, {mode}" for mode, name in columns]
    return f"{head}\n\n{write_table(['learned from', 'latent actions', *titles], rows)}"


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
