"""Tables of docs/scale.md, from the plans of presets, and of docs/robot_video.md."""

from typing import Any

from experiments.lib.tables.markdown import write_command, write_interval, write_table

_Row = dict[str, Any]
_GB = 1e9


def tabulate_plans(results: _Row) -> str:
    """Return the table of presets: sizes, work, and what the last phase fills of a GPU."""
    rows = [_write_plan(row) for row in sorted(results["rows"], key=lambda row: sum(row["parameters"].values()))]
    heads = ["preset", "dynamics, tokenizer, latent actions: M weights", "GPUs", "M tokens a step", "B tokens in all"]
    heads += [
        "TFLOP a step",
        "fits with",
        "clips at once",
        "weights, gradients, moments: GB",
        "activations: GB",
        "all: GB",
    ]
    return f"{write_table([*heads, 'days'], rows)}\n\n{write_command(results)}"


def tabulate_measured(results: _Row) -> str:
    """Return the table of planned beside measured activations."""
    rows = []
    for row in results["measured"]:
        planned, measured = row["planned"], row["measured"]
        cells = [row["phase"], row["precision"], "yes" if row["checkpoint_blocks"] else "no"]
        rows.append([*cells, f"{planned / 1e6:.1f}", f"{measured / 1e6:.1f}", f"{planned / measured:.3f}"])
    heads = ["phase", "precision", "checkpoint_blocks", "planned, MB", "measured, MB", "ratio"]
    return f"{write_table(heads, rows)}\n\n{write_command(results)}"


def tabulate_robot(results: _Row) -> str:
    """Return the table of a world of robot video on a scene that it has not seen."""
    tokenizer, continued = results["tokenizer"], results["continued"]
    rows = [
        ["tokenizer PSNR, dB", f"{tokenizer['psnr']:.1f}", f"{tokenizer['kmeans_psnr']:.1f}, k-means"],
        ["- of moving pixels", f"{tokenizer['moving_psnr']:.1f}", f"{tokenizer['kmeans_moving_psnr']:.1f}, k-means"],
    ]
    for step in continued["rollout"]:
        name = f"roll-out from {continued['prompt_frames']} frames, PSNR at t = {step['t']}, dB"
        rows.append([name, f"{step['psnr']:.1f}", f"{step['copy_last_psnr']:.1f}, copying the last frame"])
    rows += [
        [f"delta PSNR at t = {delta['t']}, dB [95 %]", write_interval(delta), "0, no control"]
        for delta in continued["delta_psnr"]
    ]
    about = f"{results['clips']} clips ({write_command(results)}, commit `{results['commit']}`):"
    return f"{about}\n\n{write_table(['', 'world', 'baseline'], rows)}"


def _write_plan(row: _Row) -> list[str]:
    phase = row["phases"][-1]
    ways = phase["ways"]
    way = next((each for each in ways if each["fits"]), ways[-1])
    state = way["state"]
    held = sum(state[name] for name in ("parameters", "gradients", "moments"))
    again = ", blocks again" if way["checkpoint_blocks"] else ""
    models = (row["parameters"][name] for name in ("dynamics", "tokenizer", "latent_action_model"))
    return [
        f"`{row['name']}`",
        ", ".join(f"{count / 1e6:,.1f}" for count in models),
        str(phase["gpus"]),
        _format(phase["tokens_a_step"] / 1e6),
        _format(phase["tokens_a_step"] * phase["steps"] / 1e9),
        _format(phase["operations_a_step"] / 1e12),
        f"{way['sharding']}{again}" if way["fits"] else "nothing",
        str(way["clips"]),
        _format(held / _GB),
        _format(way["activations"] / _GB),
        _format((sum(state.values()) + way["activations"]) / _GB),
        _format(phase["days"]) if phase["days"] >= 0.01 else "< 0.01",
    ]


def _format(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
