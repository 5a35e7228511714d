"""The results of ``genie-gym bench`` as tables in a terminal."""

from typing import Any

from rich.console import Console
from rich.table import Column, Table


def print_results(console: Console, results: dict[str, Any]) -> None:
    """Print the results of ``run_bench`` as tables."""
    for table in (_environments(results), _parts(results), _rows(results), _training(results), _rest(results)):
        console.print(table)


def _environments(results: dict[str, Any]) -> Table:
    title = f"Genie-v0: {results['checkpoint']}, {results['maskgit_steps']} MaskGIT steps per frame"
    heads = ("frames/s", "beside a busy process", "CPU ms a frame", "matmul, TFLOP/s", "share of it")
    table = Table("environments", *heads, title=title)
    for count, row in results["environments"].items():
        cells = (f"{row[key]:.1f}" for key in ("fps", "busy_fps", "cpu_ms"))
        table.add_row(count, *cells, f"{row['matmul_tflops']:.3f}", f"{row['share']:.1%}")
    for count, fps in results.get("torch_env_fps", {}).items():
        share = results["torch_env_share"][count]
        table.add_row(f"{count}, GenieTorchEnv", f"{fps:.1f}", "", "", "", f"{share:.1%}")
    return table


def _parts(results: dict[str, Any]) -> Table:
    table = Table("milliseconds of a frame", *results["parts"], title="Parts of a frame by number of environments")
    for part in next(iter(results["parts"].values())):
        spent = ((parts[part], sum(parts.values())) for parts in results["parts"].values())
        table.add_row(part, *(f"{milliseconds:.3f} ({milliseconds / whole:.0%})" for milliseconds, whole in spent))
    table.add_row("a frame of a prompt, encoded", *(f"{spent:.3f}" for spent in results["encode_ms"].values()))
    return table


def _rows(results: dict[str, Any]) -> Table:
    cached, uncached, gains = (results[name] for name in ("cached_fps", "uncached_fps", "cached_over_uncached"))
    table = Table("frames/s by batch size", *cached, title="The world without an environment")
    table.add_row("with KV cache", *(f"{fps:.1f}" for fps in cached.values()))
    table.add_row("without KV cache", *(f"{fps:.1f}" for fps in uncached.values()))
    table.add_row("speed-up by the cache", *(f"{gains[count]:.1f}" for count in cached))
    for steps, by_rows in results["by_maskgit_steps"].items():
        table.add_row(f"{steps} MaskGIT steps", *(f"{fps:.1f}" for fps in by_rows.values()))
    by_rows = [each["by_engine"] for each in results.get("engines", {}).values()]
    for engine in by_rows[0] if by_rows else ():
        table.add_row(engine, *(f"{each[engine]['fps']:.1f}" for each in by_rows))
    return table


def _training(results: dict[str, Any]) -> Table:
    heads = ("parameters", "frames/s", "of bf16 matmul", "frames/s in float32")
    table = Table(Column("model", no_wrap=True), "width", *heads, title="Training in bfloat16")
    for model, by_width in results["training_fps"].items():
        for width, fps in by_width.items():
            parameters, share = (results[f"training_{name}"][model][width] for name in ("parameters", "share"))
            slow = results["training_fps_float32"][model][width]
            table.add_row(model, width, f"{parameters / 1e6:.1f}M", f"{fps:.1f}", f"{share:.1%}", f"{slow:.1f}")
            if "training_compiled_fps" in results:
                rate, share = (results[f"training_compiled_{name}"][model][width] for name in ("fps", "share"))
                table.add_row(f"{model}, compiled", width, "", f"{rate:.1f}", f"{share:.1%}")
    return table


def _rest(results: dict[str, Any]) -> Table:
    table = Table("", "", title="Machine and other figures", show_header=False)
    for name, value in results["machine"].items():
        table.add_row(name, str(value))
    for precision, rate in results["matmul_tflops"].items():
        table.add_row(f"{precision} matmul, TFLOP/s", f"{rate:.3f}")
    for when, megabytes in results["peak_memory_mb"].items():
        table.add_row(f"peak memory, {when}, MB", f"{megabytes:.0f}")
    for name, value in results["gymnasium"].items():
        table.add_row(f"gymnasium: {name}", str(round(value, 1)))
    if "labelling_fps" in results:
        table.add_row("labelling, frames/s", f"{results['labelling_fps']:.0f}")
    return table
