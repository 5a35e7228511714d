"""Tables about data on disk: formats of clips, and the conversion of many videos."""

from typing import Any

from experiments.lib.tables.markdown import write_command, write_table

_Row = dict[str, Any]


def tabulate_formats(results: _Row) -> str:
    """Return the table of formats on the machine that was measured last."""
    run = results["rows"][-1]
    rows = []
    for row in run["clip_formats"]:
        rates = [f"{row['cpu_ms_a_clip']:.2f}", *(f"{row['clips_per_second'][workers]:.0f}" for workers in ("1", "4"))]
        size, error = f"{row['bytes_a_frame']:,.0f}", f"{row['mean_error']:.2f}" if row["mean_error"] else "none"
        rows.append([row["frames"], row["size"].replace("x", " x "), row["format"], size, error, *rates])
    heads = [
        "frames",
        "size",
        "format",
        "bytes a frame",
        "mean error of 255",
        "CPU ms a clip",
        "clips/s, 1 thread",
        "4 threads",
    ]
    about = (
        f"Random clips of {run['clip_frames']} frames from {run['shards']} shards of {run['frames_a_shard']} frames "
        f"({write_command(run)}, commit `{run['commit']}`, {run['machine']['kind']}, other work beside it; medians of "
        "reading by turns):"
    )
    return f"{about}\n\n{write_table(heads, rows)}"


def describe_many(results: _Row) -> str:
    """Return the list of what the conversion of many videos took."""
    speeds, train, long = results["clips_per_second"], results["train"], results["long"]
    machine = results["machine"]
    convert = (
        f"{results['videos']:,} videos, {results['broken']} of them cut off, are {results['frames']:,} frames at "
        f"{results['fps']} a second and {results['bytes_a_frame']:,.0f} bytes each: {results['convert_seconds']:.0f} "
        f"seconds in {results['workers']} processes, {results['convert_peak_mb']:,.0f} MB at most in all. Killed after "
        f"{results['shards_before_kill']} of {results['shards']} shards, the command wrote none of these again."
    )
    small = f"{train['steps']} training steps a phase (preset `tiny`) on them: {train['peak_mb']:,.0f} MB at most."
    large = f"{long['steps']} steps a phase on {long['hours']} hours, {long['train_frames']:,} frames"
    large = f"{large} (many names of one file): {long['peak_mb']:,.0f} MB at most."
    reading = f"{speeds['shards']:.0f} from the shards, {speeds['videos']:.0f} from the videos"
    lines = [convert, small, large, f"Random clips a second in one thread: {reading}."]
    about = f"{write_command(results)}, commit `{results['commit']}`, {machine['cpu']}, other work beside it:"
    return "\n".join([about, "", *(f"- {line}" for line in lines)])
