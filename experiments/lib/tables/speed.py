"""Speed of the page and of the agents' tools."""

from typing import Any

from experiments.lib.tables.markdown import write_command


def describe_play(results: dict[str, Any]) -> str:
    """Return frames a second on the page, in a sentence."""
    parts = []
    for row in results["rows"]:
        rates = row["frames_per_second"]
        rate = f"{rates[0]:.1f}" if len(rates) == 1 else f"{min(rates):.1f} to {max(rates):.1f} each"
        parts.append(f"{row['pages']} at once: {rate} ({row['latency_ms']:.0f} ms from key to frame)")
    return (
        f"Frames/s on the page, in headless Chromium {results['chromium'].split('.')[0]} on the same machine, "
        f"{results['machine']['cpu']}, {results['machine']['threads']} threads: {'; '.join(parts)} "
        f"({write_command(results)}, commit `{results['commit']}`)."
    )


def describe_agents_speed(results: dict[str, Any]) -> str:
    """Return the speed of labelling, playing and dreaming, in a sentence."""
    machine, dreamt = results["machine"], results["dreamt_steps_per_second"]
    return (
        f"On {machine['cpu']}, {machine['threads']} threads ({write_command(results)}, commit `{results['commit']}`): "
        f"{results['labelled_frames_per_second']:,.0f} frames labelled a second; "
        f"{results['env_steps_per_second']:,.0f} steps a second of a policy `{results['policy']}` that plays "
        f"{results['levels']} levels at once; {dreamt:.1f} dreamt steps a second of {results['dreamers']} environments "
        f"in `make_sb3_vec_env`, {100 * results['adapter_share']:.2f} % of the time outside the world; "
        f"{results['peak_memory_mb']:.0f} MB peak memory while dreaming."
    )
