"""How fast worlds are played and trained."""

from typing import Any

from experiments.readme.markdown import write_table


def tabulate_speed(bench: dict[str, Any]) -> str:
    """All of ``genie-gym bench``."""
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
    return write_table(heads, rows)


def _cache(bench: dict[str, Any]) -> str:
    heads = ["rows of the world itself", "frames/s with the cache", "without", "times as fast"]
    without, gains = bench["uncached_fps"], bench["cached_over_uncached_by_rows"]
    rows = [
        [count, f"{fps:.1f}", f"{without[count]:.1f}", f"{gains[count]:.1f}"]
        for count, fps in bench["cached_fps"].items()
    ]
    return write_table(heads, rows)


def _passes(bench: dict[str, Any]) -> str:
    heads = ["MaskGIT steps", *(f"frames/s, rows: {count}" for count in bench["cached_fps"])]
    rows = [
        [passes, *(f"{fps:.1f}" for fps in by_rows.values())] for passes, by_rows in bench["by_maskgit_steps"].items()
    ]
    return write_table(heads, rows)


def _training(bench: dict[str, Any]) -> str:
    heads = ["trained in bfloat16", "width", "parameters", "frames/s", "share of the bfloat16 matrix rate"]
    rows = []
    for model, by_width in bench["training_fps"].items():
        for width, fps in by_width.items():
            parameters, share = bench["training_parameters"][model][width], bench["training_share"][model][width]
            name = model.replace("_model_", " model, ").replace("_", " ")
            rows.append([name, width, f"{parameters / 1e6:.1f}M", f"{fps:.0f}", f"{share:.0%}"])
    return write_table(heads, rows)


def _others(bench: dict[str, Any]) -> str:
    memory, gymnasium = bench["peak_memory_mb"], bench["gymnasium"]
    return (
        f"Labelling: {bench['labelling_fps']:.0f} frames/s. Peak memory of the process: {memory['loaded']:.0f} MB with "
        f"the world loaded, {memory['playing']:.0f} MB once {list(bench['env_fps'])[-1]} environments have played. "
        f"Gymnasium's own `benchmark_step`: {gymnasium['benchmark_step']:.1f} steps/s, `benchmark_vector_step` of "
        f"{gymnasium['num_envs']}: {gymnasium['benchmark_vector_step']:.1f}."
    )


def tell_memory(results: dict[str, Any]) -> str:
    """Memory of one long session."""
    sizes = ", ".join(f"{size:.0f} MB after {int(steps):,} steps" for steps, size in results["resident_mb"].items())
    return f"Resident memory of one session: {sizes} (`{results['command']}`, commit `{results['commit']}`)."


def tell_play(results: dict[str, Any]) -> str:
    """Frames a second on the page."""
    told = []
    for row in results["rows"]:
        rates = row["frames_per_second"]
        rate = f"{rates[0]:.1f}" if len(rates) == 1 else f"{min(rates):.1f} to {max(rates):.1f} each"
        told.append(f"{row['pages']} at once: {rate} ({row['latency_ms']:.0f} ms from key to frame)")
    return (
        f"On its page, frames/s in headless Chromium {results['chromium'].split('.')[0]} on the same machine, "
        f"{results['machine']['cpu']}, {results['machine']['threads']} threads: {'; '.join(told)} "
        f"(`{results['command']}`, commit `{results['commit']}`)."
    )


def tell_agents(results: dict[str, Any]) -> str:
    """A sentence."""
    machine, dreamt = results["machine"], results["dreamt_steps_per_second"]
    return (
        f"Speed of the agents' tools on {machine['cpu']}, {machine['threads']} threads (`{results['command']}`, commit "
        f"`{results['commit']}`): {results['labelled_frames_per_second']:,.0f} frames labelled a second; "
        f"{results['env_steps_per_second']:,.0f} steps of a policy `{results['policy']}` that plays "
        f"{results['levels']} levels at once; {dreamt:.1f} dreamt steps of {results['dreamers']} environments in "
        f"`make_sb3_vec_env`, of which {100 * results['adapter_share']:.2f} % are not the world's own; "
        f"{results['peak_memory_mb']:.0f} MB at most while dreaming."
    )
