"""The results of ``genie-gym evaluate`` as tables in a terminal, and as one picture."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from genie_gym.data.frames import contact_sheet, to_uint8, write_image
from genie_gym.metrics.control import CONTROL_NAMES, CONTROLLED
from genie_gym.metrics.evaluate import Evaluation
from genie_gym.metrics.outputs import Report

_PICTURE_CLIPS = 4


@contextmanager
def show_progress(console: Console) -> Iterator[Report]:
    """Show a progress bar for each stage, and yield the function that updates them."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, Any] = {}

        def finish() -> None:
            for task in tasks.values():
                progress.update(task, completed=1.0)
                progress.stop_task(task)

        def report(stage: str, share: float) -> None:
            if stage not in tasks:
                finish()
                tasks[stage] = progress.add_task(stage, total=1.0)
            progress.update(tasks[stage], completed=share)

        yield report
        finish()


def print_scores(console: Console, results: dict[str, Any]) -> None:
    """Print the results of ``run_evaluation``: tables, long play, and the weaknesses of the world."""
    parts = {"all": results, **results["by_mode"], **results["sets"]}
    title = f"{results['checkpoint']}, {results['levels']} levels, seed {results['seed']}"
    continued = results["continued"]
    console.print(_tabulate_scores(parts, title))
    console.print(_tabulate_rollouts(results, "one frame"))
    console.print(_tabulate_rollouts(continued, f"{continued['prompt_frames']} frames"))
    console.print(_tabulate_actions(results["lam"]))
    console.print(_tabulate_control(results["control"]))
    heads, rows = arrange_labels(results["control"])
    labels = Table("labels in play", *heads)
    for row in rows:
        labels.add_row(*row)
    if rows:
        console.print(labels)
    console.print(tabulate_maskgit_steps(results["passes"], results["speed"], results["passes_clips"]))
    if "sessions" in results:
        console.print(tabulate_sessions(results["sessions"]))
    console.print("Missed goals, worst first:", *(f"- {line}" for line in results["faults"] or ["none"]), sep="\n")


def draw_picture(path: Path, evaluated: Evaluation) -> None:
    """Draw some clips as rows (real, rebuilt, played), and below them a row for each latent action held."""
    encoded, rollouts = evaluated.outputs.encoded, evaluated.outputs.rollouts
    some = torch.linspace(0, len(rollouts.real) - 1, _PICTURE_CLIPS).round().long()
    clips = {"real": rollouts.real, "rebuilt": encoded.rebuilt, "played": rollouts.inferred}
    rows = [videos[clip] for clip in some.tolist() for videos in clips.values()]
    titles = list(clips) * _PICTURE_CLIPS
    frames = rows[0].shape[0]
    for action, videos in enumerate(evaluated.held):
        starts = len(videos)  # side by side, each as long as fits
        rows.append(videos[:, : frames // starts].flatten(0, 1))
        titles.append(f"action {action}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, contact_sheet(to_uint8(torch.stack(rows)), titles))


def _tabulate_scores(parts: dict[str, dict[str, Any]], title: str) -> Table:
    table = Table("", *parts, title=title)

    def line(name: str, cells: list[str]) -> None:
        table.add_row(name, *cells)

    line("clips", [str(part["clips"]) for part in parts.values()])
    for name, words in (("psnr", "PSNR, dB"), ("moving_psnr", "PSNR of moving pixels, dB"), ("ssim", "SSIM")):
        digits = 3 if name == "ssim" else 2
        line(f"tokenizer {words}", [f"{part['tokenizer'][name]:.{digits}f}" for part in parts.values()])
        line("  k-means", [f"{part['tokenizer'][f'kmeans_{name}']:.{digits}f}" for part in parts.values()])
    line("codes used", [str(part["tokenizer"]["codes_used"]) for part in parts.values()])
    line("perplexity of codes", [f"{part['tokenizer']['perplexity']:.0f}" for part in parts.values()])
    for index, row in enumerate(parts["all"]["delta_psnr"]):
        cells = [part["delta_psnr"][index] for part in parts.values()]
        line(f"delta PSNR t = {row['t']}, dB [95 %]", [_format_interval(cell) for cell in cells])
        cells = [part["continued"]["delta_psnr"][index] for part in parts.values()]
        line(f"  from {parts['all']['continued']['prompt_frames']} frames", [_format_interval(cell) for cell in cells])
    for key in ("fvd_procgen", "fvd"):
        if key in parts["all"]:
            line(f"{key} of roll-outs", [f"{part[key]:.1f}" for part in parts.values()])
            for name in parts["all"][f"{key}_beside"]:
                line(f"  {name.replace('_', ' ')}", [f"{part[f'{key}_beside'][name]:.1f}" for part in parts.values()])
    return table


def _format_interval(cell: dict[str, Any]) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(cell["delta_psnr"], *cell["interval"])


def _tabulate_rollouts(results: dict[str, Any], prompt: str) -> Table:
    names = {"": "world", "copy_last_": "copy last", "shuffled_": "shuffled", "random_": "random"}
    heads = [*(f"{name}, dB" for name in names.values()), *(f"{name}, SSIM" for name in names.values())]
    table = Table("t", *heads, title=f"roll-outs from {prompt}, beside baselines")
    for row in results["rollout"]:
        cells = [f"{row[f'{key}psnr']:.2f}" for key in names] + [f"{row[f'{key}ssim']:.3f}" for key in names]
        table.add_row(str(row["t"]), *cells)
    return table


def _tabulate_actions(lam: dict[str, Any]) -> Table:
    kind = lam.get("kind", "latent")
    title = f"{kind} actions: {lam['used']} used, perplexity {lam['perplexity']:.2f}"
    table = Table("balanced accuracy", "chance", "label", "ceiling", "kept", title=title)
    if "nmi" in lam:
        for name, words in lam["groups"].items():
            kept = lam[name]["kept"]
            cells = [f"{lam[name][key]:.3f}" for key in ("chance", "accuracy", "ceiling")]
            table.add_row(words, *cells, "-" if kept is None else f"{kept:.0%}")
        table.add_row(f"NMI with the {list(lam['groups'].values())[-1]}", "", f"{lam['nmi']:.3f}", "", "")
    elif kind == "real":
        table.add_row("nothing to compare: the world learned from real actions, and has no latent ones")
    else:
        table.add_row("no real actions to compare with: the data name no integers, or those of several games")
    return table


def _tabulate_control(control: dict[str, Any]) -> Table:
    by_mode = control["by_mode"]
    parts = {f"{mode}: {name}": part[name] for mode, part in by_mode.items() for name in CONTROLLED if name in part}
    heads = [f"{mode}: of the game's [95 %]" for mode, part in by_mode.items() if "ratio" in part]
    title = f"each action held for {control['steps']} steps"
    table = Table("", *parts, *heads, title=title)
    for key, words in CONTROL_NAMES.items():
        if all(key in part for part in parts.values()):
            ratios = [part["ratio"][key] for part in by_mode.values() if "ratio" in part]
            table.add_row(words, *(f"{part[key]:.2f}" for part in parts.values()), *map(format_ratio, ratios))
    return table


def format_ratio(cell: dict[str, Any]) -> str:
    """Return a ``ratio`` of ``measure_control`` with its interval; a dash if there is none."""
    return "-" if cell["ratio"] is None else "{:.2f} [{:.2f}, {:.2f}]".format(cell["ratio"], *cell["interval"])


def tabulate_sessions(sessions: dict[str, Any]) -> Table:
    """Return a table of long play, from ``score_sessions``."""
    heads = [f"{mode}{beside}" for mode in sessions["by_mode"] for beside in ("", ", game")]
    table = Table("share [95 %]", *heads, title=f"long play: {sessions['games']} games of {sessions['steps']} steps")
    for name, cells in list_sessions(sessions):
        table.add_row(name, *cells)
    return table


def list_sessions(sessions: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Return name and cells of each row on long play: for each mode the world's share [95 %] and the game's."""
    modes = list(sessions["by_mode"].values())

    def cells(pairs: list[tuple[dict[str, Any], dict[str, Any] | None]]) -> list[str]:
        return [text for pair in pairs for text in (_format_share(pair[0]), _format_share(pair[1]) if pair[1] else "1")]

    rows = [("distance to the right, of the game's", cells([(each["distance_ratio"], None) for each in modes]))]
    for policy, scores in modes[0]["policies"].items():
        for index, row in enumerate(scores["player_seen"]):
            seen = [(each["policies"][policy]["player_seen"][index], each["player_seen_real"]) for each in modes]
            rows.append((f"player seen at step {row['t']}, {policy}", cells(seen)))
        frozen = [(each["policies"][policy]["frozen"], each["frozen_real"]) for each in modes]
        rows.append((f"frozen, {policy}", cells(frozen)))
    return rows


def _format_share(cell: dict[str, Any]) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(cell["share"], *cell["interval"])


def arrange_labels(control: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the heads, but for the first, and the rows of a table of separability and persistence, by mode.

    What was not measured has no row.
    """
    separability, persistence = control.get("separability", {}), control.get("persistence", {})
    modes = list(separability or persistence)
    heads = [f"{mode}: {name}" for mode in modes for name in ("shows", "label [95 %]", "supervised", "random")]
    rows = []
    if separability:
        for pair in separability[modes[0]]["pairs"]:
            cells = [_write_pair(separability[mode]["pairs"][pair]) for mode in modes]
            rows.append([f"both keys named, {pair}", *(cell for each in cells for cell in each)])
        cells = [_write_share(separability[mode]["equal"], separability[mode]["equal_random"]) for mode in modes]
        rows.append(["equal keys next to each other, equal labels", *(cell for each in cells for cell in each)])
    if persistence:
        for key, words in {"key_stays": "stays", "key_changes": "changes"}.items():
            cells = [_write_share(persistence[mode][key], persistence[mode]["chance"]) for mode in modes]
            rows.append([f"label persists while the key {words}", *(cell for each in cells for cell in each)])
    return heads, rows


def _write_pair(pair: dict[str, Any]) -> list[str]:
    if pair["told_apart"] is None:
        return ["0 %", "-", "-", "-"]
    told = "{:.2f} [{:.2f}, {:.2f}]".format(pair["told_apart"], *pair["interval"])
    return [f"{pair['shows']:.0%}", told, f"{pair['ceiling']:.2f}", f"{pair['random']:.2f}"]


def _write_share(share: float | None, random: float) -> list[str]:
    return ["", "-" if share is None else f"{share:.2f}", "", f"{random:.2f}"]


def tabulate_maskgit_steps(rows: list[dict[str, Any]], speed: dict[str, float], clips: int) -> Table:
    """Return a table of quality and speed by MaskGIT steps, from ``compare_maskgit_steps``."""
    heads = ["steps", "frames/s", *(["fvd_procgen"] if "fvd_procgen" in rows[0] else [])]
    heads += [f"PSNR t={part['t']}" for part in rows[0]["rollout"]]
    heads += [f"delta t={part['t']}" for part in rows[0]["delta_psnr"]]
    table = Table(*heads, title=f"MaskGIT steps compared on {clips} clips: means over clips, dB")
    for row in rows:
        steps = str(row["maskgit_steps"])
        cells = [steps, f"{speed[steps]:.0f}"]
        cells += [f"{row['fvd_procgen']:.1f}"] if "fvd_procgen" in row else []
        cells += [f"{part['clip_psnr']:.2f}" for part in row["rollout"]]
        cells += [f"{part['delta_psnr']:.2f}" for part in row["delta_psnr"]]
        table.add_row(*cells)
    return table
