"""How good the shipped world is."""

from typing import Any

from experiments.readme.markdown import write_interval, write_table
from genie_gym.metrics.report import describe_long_play


def tell_clips(test: dict[str, Any]) -> str:
    """What was scored, and how."""
    return (
        f"CoinRun, {test['levels']} levels, {test['clips']} clips of 16 frames, as many of each mode and player, seed "
        f"{test['seed']}, commit `{test['commit']}`, {test['maskgit_steps']} MaskGIT steps: `{test['command']}`"
    )


def tabulate_figures(test: dict[str, Any]) -> str:
    """Single figures, by mode and player."""
    parts, longer = _split(test), test.get("continued")
    rows = []
    measures = {"psnr": ("PSNR, dB", 2), "moving_psnr": ("PSNR of moving pixels, dB", 2), "ssim": ("SSIM", 3)}
    for key, (words, digits) in measures.items():
        rows.append([f"tokenizer {words}", *(f"{part['tokenizer'][key]:.{digits}f}" for part in parts.values())])
        clustered = (f"{part['tokenizer'][f'kmeans_{key}']:.{digits}f}" for part in parts.values())
        rows.append(["- k-means, as many tokens and codes", *clustered])
    rows.append(
        [
            f"codes used of {test['tokenizer']['codes']:,}",
            *(str(part["tokenizer"]["codes_used"]) for part in parts.values()),
        ]
    )
    shares = len(test["lam"]["shares"])
    rows.append([f"latent actions used >= 2 % of {shares}", *(str(part["lam"]["used"]) for part in parts.values())])
    rows.append(["their perplexity", *(f"{part['lam']['perplexity']:.2f}" for part in parts.values())])
    for index, row in enumerate(test["delta_psnr"]):
        cells = (write_interval(part["delta_psnr"][index]) for part in parts.values())
        rows.append([f"delta PSNR, t = {row['t']} [95 %]", *cells])
        if longer:
            cells = (write_interval(part["continued"]["delta_psnr"][index]) for part in parts.values())
            rows.append([f"- from {longer['prompt_frames']} frames", *cells])
    rows.append(["fvd_procgen of roll-outs", *(f"{part['fvd_procgen']:.1f}" for part in parts.values())])
    beside = {
        "rebuilt": "real clips, rebuilt",
        "copy_last": "the prompt, frozen",
        "random_actions": "random latent actions",
    }
    for key, name in beside.items():
        rows.append([f"- {name}", *(f"{part['fvd_procgen_beside'][key]:.1f}" for part in parts.values())])
    return write_table(["", *parts], rows)


def tabulate_rollout(test: dict[str, Any]) -> str:
    """Roll-outs by t beside their baselines, from one frame and from some."""
    rivals = {
        "": "world",
        "copy_last_": "copy the prompt",
        "shuffled_": "another clip's latent actions",
        "random_": "random latent actions",
    }
    modes = test.get("by_mode", {})
    apart = {f"{mode}: {words}": (mode, name) for mode in modes for name, words in list(rivals.items())[:2]}
    tables: list[str] = []
    prompts: dict[str | None, str] = {None: "one frame"}
    if "continued" in test:
        prompts["continued"] = f"{test['continued']['prompt_frames']} frames"
    for key, prompt in prompts.items():
        parts = {mode: part[key] if key else part for mode, part in _split(test).items()}
        rows = []
        for index, row in enumerate(parts["all"]["rollout"]):
            cells = [f"{row[f'{name}psnr']:.2f} ({row[f'{name}ssim']:.3f})" for name in rivals]
            cells += [f"{parts[mode]['rollout'][index][f'{name}psnr']:.2f}" for mode, name in apart.values()]
            rows.append([str(row["t"]), *cells])
        tables.append(write_table([f"roll-out from {prompt}, dB (SSIM) at t", *rivals.values(), *apart], rows))
    return "\n\n".join(tables)


def tabulate_actions(test: dict[str, Any]) -> str:
    """Latent against true actions."""
    kinds, parts = {"direction": "left / still / right", "up": "up / none", "effective": "the nine moves"}, _split(test)
    heads = [
        "balanced accuracy of true actions",
        *(f"{name}: {which}" for name in parts for which in ("label", "ceiling")),
    ]
    rows = []
    for key, name in kinds.items():
        cells = [f"{part['lam'][key][which]:.3f}" for part in parts.values() for which in ("accuracy", "ceiling")]
        rows.append([f"{name} (chance {test['lam'][key]['chance']:.3f})", *cells])
    consistency = test["consistency"]
    return (
        f"{write_table(heads, rows)}\n\n"
        f"The ceiling is a supervised model with the same frames, trained on training levels; "
        f"the map from latent to real actions is fitted there too. Normalised mutual information with the nine moves: "
        f"{test['lam']['nmi']:.3f}. Each latent action held for {consistency['frames']} frames from "
        f"{consistency['starts']} starts: it explains {consistency['explained']:.0%} of the motion, and "
        f"{consistency['agreement']:.0%} of starts move alike ({consistency['chance']:.0%} whatever the action)"
        f"{_tell_real_moves(consistency)}. "
        f"{describe_long_play(test['session'])}"
    )


def _tell_real_moves(consistency: dict[str, Any]) -> str:
    real = consistency.get("real")
    if real is None:
        return ""
    return (
        f"; the game's own nine moves, held as long from {real['starts']} of its states, explain "
        f"{real['explained']:.0%}, and {real['agreement']:.0%} move alike ({real['chance']:.0%})"
    )


def tabulate_passes(results: dict[str, Any]) -> str:
    """Quality and speed by MaskGIT passes."""
    about = (
        f"MaskGIT steps, on {results['clips']} clips of {results['levels']} levels (`{results['command']}`, commit "
        f"`{results['commit']}`): mean PSNR over clips and delta PSNR in dB, and in brackets the 95 % interval of what "
        f"is lost against the most, clip by clip:"
    )
    first = results["rows"][0]
    heads = ["MaskGIT steps", "frames/s", "fvd_procgen", *(f"PSNR, t = {part['t']}" for part in first["rollout"])]
    heads += [f"delta PSNR, t = {part['t']}" for part in first["delta_psnr"]]
    rows = []
    for row in results["rows"]:
        passes = str(row["maskgit_steps"])
        cells = [passes, f"{results['speed'][passes]:.0f}", f"{row['fvd_procgen']:.1f}"]
        for part in (*row["rollout"], *row["delta_psnr"]):
            value = part["delta_psnr"] if "delta_psnr" in part else part["clip_psnr"]
            cells.append(f"{value:.2f} [{part['interval'][0]:.2f}, {part['interval'][1]:.2f}]")
        rows.append(cells)
    return f"{about}\n\n{write_table(heads, rows)}"


def tell_beyond_context(results: dict[str, Any]) -> str:
    """Roll-outs longer than the context."""
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


def _split(test: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Scores of all clips, and apart; results of before the modes were scored by themselves have none of those."""
    return {"all": test, **test.get("by_mode", {}), **test["sets"]}
