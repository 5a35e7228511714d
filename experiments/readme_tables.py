"""Write the tables of README.md and of the model card from the JSON in ``results/``.

python -m experiments.readme_tables
"""

import json
from pathlib import Path
from typing import Any

from genie_gym.bench.results import ROOT

BEGIN, END = "<!-- results -->", "<!-- /results -->"
RESULTS = ROOT / "experiments" / "results"
DOCUMENTS = (ROOT / "README.md", ROOT / "genie_gym" / "weights" / "coinrun" / "README.md")


def render() -> str:
    """The tables as Markdown."""
    test = json.loads((RESULTS / "coinrun_test.json").read_text())
    names = ("bench", "maskgit_steps", "context", "memory")
    bench, passes, context, memory = (json.loads((RESULTS / f"{name}.json").read_text()) for name in names)
    quality = (_about(test), _figures(test), _rollout(test), _quality_by_passes(passes), _beyond_context(context))
    return "\n\n".join((*quality, _speed(bench), _long_session(memory)))


def fill(document: str, tables: str) -> str:
    """``document`` with the text between its markers replaced.

    Raises:
        ValueError: If it lacks the markers.
    """
    if BEGIN not in document or END not in document:
        raise ValueError(f"document must hold {BEGIN} and {END}")
    before, rest = document.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{tables}\n{END}{rest.split(END, 1)[1]}"


def _about(test: dict[str, Any]) -> str:
    players = " and ".join(test["players"])
    return (
        f"CoinRun {test['mode']}, {test['levels']} levels, {test['clips']} clips of 16 frames ({players}, "
        f"{' and '.join(str(part['clips']) for part in test['sets'].values())}), seed {test['seed']}, commit "
        f"`{test['commit']}`:\n`{test['command']}`"
    )


def _figures(test: dict[str, Any]) -> str:
    rows = {"all": test, **test["sets"]}
    lines = [
        "| | " + " | ".join(rows) + " |",
        "|---|" + "---|" * len(rows),
        _line("tokenizer PSNR, dB", rows, lambda part: f"{part['tokenizer']['psnr']:.2f}"),
        _line("- k-means, as many tokens and codes", rows, lambda part: f"{part['tokenizer']['kmeans_psnr']:.2f}"),
        _line("codes used of 1,024", rows, lambda part: part["tokenizer"]["codes_used"]),
        _line("latent actions used >= 2 % of 8", rows, lambda part: part["lam"]["used"]),
        _line("their perplexity", rows, lambda part: f"{part['lam']['perplexity']:.2f}"),
    ]
    for index, row in enumerate(test["delta_psnr"]):
        name = f"delta PSNR, t = {row['t']} [95 %]"
        lines.append(_line(name, rows, lambda part, index=index: _interval(part["delta_psnr"][index])))
    return "\n".join(lines)


def _rollout(test: dict[str, Any]) -> str:
    columns = {
        "psnr": "world",
        "copy_last_psnr": "copy the prompt",
        "shuffled_psnr": "another clip's latent actions",
        "random_psnr": "random latent actions",
    }
    lines = ["| roll-out from one frame, dB at t | " + " | ".join(columns.values()) + " |", "|---|---|---|---|---|"]
    lines += [f"| {row['t']} | " + " | ".join(f"{row[name]:.2f}" for name in columns) + " |" for row in test["rollout"]]
    return "\n".join(lines)


def _quality_by_passes(results: dict[str, Any]) -> str:
    about = (
        f"MaskGIT steps, on {results['clips']} clips of {results['levels']} levels (`{results['command']}`, commit "
        f"`{results['commit']}`): mean PSNR over clips and delta PSNR in dB, and in brackets the 95 % interval of what "
        f"is lost against the most, clip by clip:"
    )
    first = results["rows"][0]
    heads = ["MaskGIT steps", *(f"PSNR, t = {part['t']}" for part in first["rollout"])]
    heads += [f"delta PSNR, t = {part['t']}" for part in first["delta_psnr"]]
    rows = []
    for row in results["rows"]:
        cells = [str(row["maskgit_steps"])]
        for part in (*row["rollout"], *row["delta_psnr"]):
            value = part["delta_psnr"] if "delta_psnr" in part else part["clip_psnr"]
            cells.append(f"{value:.2f} [{part['interval'][0]:.2f}, {part['interval'][1]:.2f}]")
        rows.append(cells)
    return f"{about}\n\n{_table(heads, rows)}"


def _beyond_context(results: dict[str, Any]) -> str:
    beyond, context_length = results["beyond_the_context"], results["context_length"]

    def tell(name: str, words: str) -> str:
        (low, high), lost = beyond[name]["interval"], beyond[name]["clip_psnr_lost"]
        return f"{beyond[name]['psnr']:.2f} dB {words}, {lost:.2f} [{low:.2f}, {high:.2f}] lost"

    rebuilt = [
        tell(name, f"rebuilt every {name.split('_')[1]} frames") for name in beyond if name.startswith("rebuilt_")
    ]
    return (
        f"Beyond the context of {context_length} frames, up to frame {results['rows'][-1]['t']} ({results['clips']} "
        f"clips): {beyond['recomputed']['psnr']:.2f} dB where each frame recomputes its last {context_length}, at many "
        f"times the cost; {'; '.join([tell('cached', 'with the cache'), *rebuilt])} against that, a mean over clips "
        f"with its 95 % interval (`{results['command']}`, commit `{results['commit']}`)."
    )


def _long_session(results: dict[str, Any]) -> str:
    sizes = ", ".join(f"{size:.0f} MB after {int(steps):,} steps" for steps, size in results["resident_mb"].items())
    return f"Resident memory of one session: {sizes} (`{results['command']}`, commit `{results['commit']}`)."


def _speed(bench: dict[str, Any]) -> str:
    machine, rates = bench["machine"], bench["matmul_tflops"]
    where = machine["cpu"] if machine["device"] == "cpu" else f"{machine['device']} ({machine['cpu']})"
    commit = "" if bench["commit"] is None else f", commit `{bench['commit']}`"
    slow = (
        ""
        if rates["float32"] <= rates["bfloat16"]
        else (
            " This processor multiplies bfloat16 more slowly than float32, so that shares of the bfloat16 rate can be "
            f"above 100 %; of the float32 rate, 16 environments reach {bench['serving_share_of_fastest']:.0%}."
        )
    )
    about = (
        f"Speed on {where}, {machine['threads']} threads, torch {machine['torch']}: matrix products at "
        f"{rates['bfloat16']:.2f} TFLOP/s in bfloat16 and {rates['float32']:.2f} in float32. `{bench['checkpoint']}` "
        f"is served in {machine['precision']} at {bench['maskgit_steps']} MaskGIT steps, {bench['step_gflop']:.2f} "
        f"GFLOP a frame.{slow} All in one run, context full (`{bench['command']}`{commit}):"
    )
    return "\n\n".join((about, _environments(bench), _cache(bench), _passes(bench), _training(bench), _others(bench)))


def _environments(bench: dict[str, Any]) -> str:
    parts = list(bench["env_split"]["alone"])
    heads = ["`Genie-v0` environments", "frames/s", *parts, "share of the bfloat16 matrix rate"]
    rows = []
    for count, fps in bench["env_fps"].items():
        split = bench["env_split"][count]
        shares = [f"{split[part] / sum(split.values()):.1%}" for part in parts]
        rows.append(["1, `gym.make`" if count == "alone" else count, f"{fps:.1f}", *shares])
        rows[-1].append(f"{bench['serving_share_by_envs'][count]:.1%}")
    return _table(heads, rows)


def _cache(bench: dict[str, Any]) -> str:
    heads = ["rows of the world itself", "frames/s with the cache", "without", "times as fast"]
    without, gains = bench["uncached_fps"], bench["cached_over_uncached_by_rows"]
    rows = [
        [count, f"{fps:.1f}", f"{without[count]:.1f}", f"{gains[count]:.1f}"]
        for count, fps in bench["cached_fps"].items()
    ]
    return _table(heads, rows)


def _passes(bench: dict[str, Any]) -> str:
    heads = ["MaskGIT steps", *(f"frames/s, rows: {count}" for count in bench["cached_fps"])]
    rows = [
        [passes, *(f"{fps:.1f}" for fps in by_rows.values())] for passes, by_rows in bench["by_maskgit_steps"].items()
    ]
    return _table(heads, rows)


def _training(bench: dict[str, Any]) -> str:
    heads = ["trained in bfloat16", "width", "parameters", "frames/s", "share of the bfloat16 matrix rate"]
    rows = []
    for model, by_width in bench["training_fps"].items():
        for width, fps in by_width.items():
            parameters, share = bench["training_parameters"][model][width], bench["training_share"][model][width]
            name = model.replace("_model_", " model, ").replace("_", " ")
            rows.append([name, width, f"{parameters / 1e6:.1f}M", f"{fps:.0f}", f"{share:.0%}"])
    return _table(heads, rows)


def _others(bench: dict[str, Any]) -> str:
    memory, gymnasium = bench["peak_memory_mb"], bench["gymnasium"]
    return (
        f"Labelling: {bench['labelling_fps']:.0f} frames/s. Peak memory of the process: {memory['loaded']:.0f} MB with "
        f"the world loaded, {memory['playing']:.0f} MB once {list(bench['env_fps'])[-1]} environments have played. "
        f"Gymnasium's own `benchmark_step`: {gymnasium['benchmark_step']:.1f} steps/s, `benchmark_vector_step` of "
        f"{gymnasium['num_envs']}: {gymnasium['benchmark_vector_step']:.1f}."
    )


def _table(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows))


def _line(name: str, rows: dict[str, Any], cell: Any) -> str:  # a function of a part
    return f"| {name} | " + " | ".join(str(cell(part)) for part in rows.values()) + " |"


def _interval(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['delta_psnr']:.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Fill every document."""
    for path in DOCUMENTS:
        path.write_text(fill(Path(path).read_text(), render()))


if __name__ == "__main__":
    main()
