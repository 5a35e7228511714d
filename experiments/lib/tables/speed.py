"""Tables of speed by kind of machine, from files that ``write_by_machine`` keeps."""

from typing import Any

from experiments.lib.tables.markdown import write_command, write_table

_Row = dict[str, Any]


def summarize_speed(bench: _Row) -> tuple[str, str]:
    """Return name and value of the README's row of speed, from the newest row of ``genie-gym bench``."""
    newest = bench["rows"][-1]
    speed = " / ".join(f"{newest['cached_fps'][count]:.0f}" for count in ("1", "16"))
    machine = newest["machine"]
    return f"frames/s alone / 16 at once, {machine['kind']}, {machine['precision']}", speed


def tabulate_speed(bench: _Row) -> str:
    """Return the tables of ``genie-gym bench``: machines, environments, engines, and parts of a frame."""
    writers = (_tabulate_machines, _tabulate_environments, _tabulate_engines, _tabulate_steps, _tabulate_parts)
    return "\n\n".join(write(bench["rows"]) for write in writers)


def describe_play(results: _Row) -> str:
    """Return a sentence for each kind of machine on the frames per second of the web page."""
    return "\n\n".join(_describe_page(row) for row in results["rows"])


def tabulate_against(results: _Row) -> str:
    """Return the table of this code beside an older commit, by kind of machine and number of environments."""
    rows = []
    for run in results["rows"]:
        for row in run["by_envs"]:
            old, new = (f"{row[which]['cpu_ms']:.2f} ({row[which]['fps']:.1f})" for which in ("other", "own"))
            equal = f"{row['different_frames']} of {row['frames']} frames, {row['different_pixels']} pixels"
            cells = [str(row["num_envs"]), run["precision"], old, new, f"{row['ratio']:.2f}"]
            machine = run["machine"]["kind"]
            rate = f"{row['matmul_tflops']:.2f}"
            rows.append([machine, *cells, rate, equal, f"`{run['other_commit']}`, `{run['commit']}`"])
    heads = ["machine", "environments", "precision", "older: CPU ms a frame (frames/s)", "this", "times"]
    commands = "; ".join(dict.fromkeys(write_command(run) for run in results["rows"]))
    return (
        f"This code beside an older commit, in turn, each on {results['rows'][0]['threads']} thread ({commands}). "
        f"*Times* is the median over rounds of the ratio of the processor's time:\n\n"
        f"{write_table([*heads, 'matrix products, TFLOP/s', 'different', 'commits'], rows)}"
    )


def _tabulate_machines(rows: list[_Row]) -> str:
    cells = []
    for row in rows:
        rates = (f"{row['matmul_tflops'][precision]:.2f}" for precision in ("bfloat16", "float32"))
        made = f"{write_command(row)}, commit `{row['commit']}`"
        cells.append([row["machine"]["kind"], row["date"][:10], row["machine"]["precision"], *rates, made])
    heads = ["machine", "date", "plays in", "matrix products, bfloat16, TFLOP/s", "float32", "measured by"]
    return write_table(heads, cells)


def _tabulate_environments(rows: list[_Row]) -> str:
    counts = list(rows[0]["environments"])
    lines = {
        "frames/s": "fps .0f",
        "- beside one busy process": "busy_fps .0f",
        "CPU milliseconds a frame": "cpu_ms .2f",
        "of the matrix rate of the same rounds": "share .0%",
    }
    cells = []
    for row in rows:
        for name, (key, form) in ((name, line.split()) for name, line in lines.items()):
            values = (row["environments"].get(count) for count in counts)
            cells.append([row["machine"]["kind"], name, *("-" if v is None else f"{v[key]:{form}}" for v in values)])
    return write_table(["machine", "environments", *counts], cells)


def _tabulate_engines(rows: list[_Row]) -> str:
    cells = []
    for row in rows:
        for engine in dict.fromkeys(name for each in row.get("engines", {}).values() for name in each["by_engine"]):
            figures = (each["by_engine"][engine] for each in row["engines"].values())
            speeds = (f"{figure['fps']:.1f} ({figure['cpu_ms']:.2f})" for figure in figures)
            cells.append([row["machine"]["kind"], engine, *speeds])
    counts = list(rows[0]["cached_fps"])
    return write_table(["machine", "engine: frames/s (CPU ms a frame), rows at once", *counts], cells)


def _tabulate_steps(rows: list[_Row]) -> str:
    cells = []
    for row in rows:
        lines = {"without the KV cache": row["uncached_fps"]}
        lines |= {f"{steps} MaskGIT steps": fps for steps, fps in row["by_maskgit_steps"].items()}
        cells += [[row["machine"]["kind"], name, *(f"{v:.1f}" for v in fps.values())] for name, fps in lines.items()]
    return write_table(["machine", "frames/s, rows at once", *rows[0]["cached_fps"]], cells)


def _tabulate_parts(rows: list[_Row]) -> str:
    counts = list(rows[0]["parts"])
    cells = []
    for row in rows:
        rate = row["matmul_tflops"][row["machine"]["precision"]]
        for part in row["parts"][counts[0]]:
            times = [_describe_part(row, part, count, rate) for count in counts]
            cells.append([row["machine"]["kind"], part, *times])
        spent = (f"{row['encode_ms'][count]:.3f}" for count in counts)
        cells.append([row["machine"]["kind"], "a frame of a prompt, encoded", *spent])
    heads = [f"{count} environments" if count != "1" else "1 environment" for count in counts]
    return write_table(["machine", "ms of a frame (share; of the matrix rate)", *heads], cells)


def _describe_part(row: _Row, part: str, count: str, rate: float) -> str:
    spent, whole = row["parts"][count][part], sum(row["parts"][count].values())
    gflop = row["part_gflop"].get(part, 0)
    reached = f"; {gflop / spent / rate:.0%}" if gflop and spent else ""
    return f"{spent:.3f} ({spent / whole:.0%}{reached})"


def _describe_page(row: _Row) -> str:
    parts = []
    for each in row["rows"]:
        rates = each["frames_per_second"]
        rate = f"{rates[0]:.1f}" if len(rates) == 1 else f"{min(rates):.1f} to {max(rates):.1f} each"
        parts.append(f"{each['pages']} at once: {rate} ({each['latency_ms']:.0f} ms from key to frame)")
    return (
        f"Frames/s on the page, in headless Chromium {row['chromium'].split('.')[0]} on the same machine, "
        f"{row['machine']['kind']}: {'; '.join(parts)} ({write_command(row)}, commit `{row['commit']}`)."
    )
