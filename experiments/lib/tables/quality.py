"""Tables of a world's quality, from results of ``genie-gym evaluate`` and of experiments."""

from typing import Any

from experiments.lib.tables.markdown import write_command, write_interval, write_table
from experiments.lib.tables.speed import summarize_speed
from genie_gym.metrics.control import CONTROL_NAMES, CONTROLLED
from genie_gym.metrics.report import arrange_labels, format_ratio, list_sessions

_GROUPS = {"direction": "left / still / right", "up": "up / none", "effective": "the nine moves"}
"""Groups of true actions, by JSON key, that are predicted from labels."""
_DISTANCES_BESIDE = {
    "other_real": "other real clips",
    "rollout_to_others": "other real clips to the roll-outs",
    "rebuilt": "real clips, rebuilt",
    "copy_last": "the prompt, frozen",
    "random_actions": "random latent actions",
}
"""Baselines of video distances, by JSON key."""
_RATIOS = ("of the game's [95 %]", "the same from rest")
_SHARES = (("starts", "d"), ("ended", ".0%"))
"""JSON keys of control that its table tells in words, and their formats."""


def describe_clips(test: dict[str, Any]) -> str:
    """Return a line on the number and origin of the clips, and the command that scored them."""
    return (
        f"CoinRun, {test['levels']} levels, {test['clips']} clips of 16 frames, as many of each mode and player, seed "
        f"{test['seed']}, commit `{test['commit']}`, {test['maskgit_steps']} MaskGIT steps: {write_command(test)}"
    )


def tabulate_world(test: dict[str, Any], bench: dict[str, Any]) -> str:
    """Return README.md's short table: the most important scores by mode, from four frames."""
    names, parts = ["all", *test["by_mode"]], [test, *test["by_mode"].values()]
    rows = [["tokenizer PSNR, dB", *(f"{part['tokenizer']['psnr']:.1f}" for part in parts)]]
    for t in (1, 4, 10):
        steps = [next(row for row in part["continued"]["rollout"] if row["t"] == t) for part in parts]
        cells = (f"{step['psnr']:.1f} ({step['copy_last_psnr']:.1f})" for step in steps)
        rows.append([f"roll-out from four frames, dB at t = {t} (copying the last frame)", *cells])
    deltas = [next(row for row in part["continued"]["delta_psnr"] if row["t"] == 4) for part in parts]
    rows.append(["delta PSNR from four frames, dB at t = 4 [95 %]", *(write_interval(delta) for delta in deltas)])
    for key, name in _GROUPS.items():
        scores = [part["lam"][key] for part in parts]
        cells = (f"{score['accuracy']:.2f} ({score['ceiling']:.2f})" for score in scores)
        rows.append([f"{name} from the label (supervised ceiling; chance {scores[0]['chance']:.2f})", *cells])
    name, speed = summarize_speed(bench)
    rows.append([name, speed, "", ""])
    return write_table(["", *names], rows)


def tabulate_scores(test: dict[str, Any]) -> str:
    """Return the table of all scores except PSNR of roll-outs, by mode and player."""
    rows, names, parts = [], list(_split(test)), _split(test).values()
    measures = {"psnr": ("PSNR, dB", 2), "moving_psnr": ("PSNR of moving pixels, dB", 2), "ssim": ("SSIM", 3)}
    for key, (words, digits) in measures.items():
        rows.append([f"tokenizer {words}", *(f"{part['tokenizer'][key]:.{digits}f}" for part in parts)])
        kmeans = (f"{part['tokenizer'][f'kmeans_{key}']:.{digits}f}" for part in parts)
        rows.append(["- k-means, as many tokens and codes", *kmeans])
    codes = f"codes used of {test['tokenizer']['codes']:,}"
    rows.append([codes, *(str(part["tokenizer"]["codes_used"]) for part in parts)])
    actions = len(test["lam"]["shares"])
    rows.append([f"latent actions used >= 2 % of {actions}", *(str(part["lam"]["used"]) for part in parts)])
    rows.append(["their perplexity", *(f"{part['lam']['perplexity']:.2f}" for part in parts)])
    for index, row in enumerate(test["delta_psnr"]):
        cells = (write_interval(part["delta_psnr"][index]) for part in parts)
        rows.append([f"delta PSNR, t = {row['t']} [95 %]", *cells])
        cells = (write_interval(part["continued"]["delta_psnr"][index]) for part in parts)
        rows.append([f"- from {test['continued']['prompt_frames']} frames", *cells])
    for distance in ("fvd_procgen", "fvd"):
        if distance in test:
            rows += _list_distances(distance, list(parts))
    return write_table(["", *names], rows)


def tabulate_distances(results: dict[str, Any]) -> str:
    """Return the table of video distances over I3D and over our own network, of all clips and by mode and player."""
    parts = {"all": results, **results["sets"]}
    rows = [row for name in ("fvd", "fvd_procgen") for row in _list_distances(name, list(parts.values()))]
    clips = f"CoinRun, {results['levels']} levels, commit `{results['commit']}`: {write_command(results)}"
    return f"{clips}\n\n{write_table(['', *parts], rows)}"


def _list_distances(distance: str, parts: list[dict[str, Any]]) -> list[list[str]]:
    """Return a row of a video distance of roll-outs and one of each baseline that was measured."""
    clips = " / ".join(str(part["clips"]) for part in parts)
    title = f"fvd (I3D) of roll-outs, clips {clips}" if distance == "fvd" else f"{distance} of roll-outs"
    rows = [[title, *(f"{part[distance]:.1f}" for part in parts)]]
    for key, name in _DISTANCES_BESIDE.items():
        beside = [part[f"{distance}_beside"] for part in parts]
        if key in beside[0]:
            rows.append([f"- {name}", *(f"{each[key]:.1f}" for each in beside)])
    return rows


def tabulate_rollout(test: dict[str, Any]) -> str:
    """Return tables of roll-outs and their baselines by step t, from one frame and from several."""
    columns = {
        "": "world",
        "copy_last_": "copy the prompt",
        "shuffled_": "another clip's latent actions",
        "random_": "random latent actions",
    }
    modes = test["by_mode"]
    apart = {f"{mode}: {words}": (mode, name) for mode in modes for name, words in list(columns.items())[:2]}
    tables: list[str] = []
    prompts = {None: "one frame", "continued": f"{test['continued']['prompt_frames']} frames"}
    for key, prompt in prompts.items():
        parts = {mode: part[key] if key else part for mode, part in _split(test).items()}
        rows = []
        for index, row in enumerate(parts["all"]["rollout"]):
            cells = [f"{row[f'{name}psnr']:.2f} ({row[f'{name}ssim']:.3f})" for name in columns]
            cells += [f"{parts[mode]['rollout'][index][f'{name}psnr']:.2f}" for mode, name in apart.values()]
            rows.append([str(row["t"]), *cells])
        tables.append(write_table([f"roll-out from {prompt}, dB (SSIM) at t", *columns.values(), *apart], rows))
    return "\n\n".join(tables)


def tabulate_labels(test: dict[str, Any]) -> str:
    """Return a table of how well latent actions predict true ones, and a text on long play."""
    parts = _split(test)
    heads = [f"{name}: {which}" for name in parts for which in ("label", "ceiling")]
    rows = []
    for key, name in _GROUPS.items():
        cells = [f"{part['lam'][key][which]:.3f}" for part in parts.values() for which in ("accuracy", "ceiling")]
        rows.append([f"{name} (chance {test['lam'][key]['chance']:.3f})", *cells])
    return (
        f"{write_table(['balanced accuracy of true actions', *heads], rows)}\n\n"
        f"The ceiling is a supervised model of the same frames, trained on training levels; the map from latent to "
        f"real actions is fitted there too. Normalised mutual information with the nine moves: "
        f"{test['lam']['nmi']:.3f}."
    )


def tabulate_control(test: dict[str, Any]) -> str:
    """Return the table of how the player moves under each latent action, beside the game's keys."""
    control = test["control"]
    by_mode = control["by_mode"]
    heads = [f"{mode}: {name}" for mode in by_mode for name in (*CONTROLLED, *_RATIOS)]
    rows = []
    for key, words in CONTROL_NAMES.items():
        cells = []
        for part in by_mode.values():
            cells += [f"{part[name][key]:.2f}" for name in CONTROLLED]
            cells.append(format_ratio(part["ratio"][key]))
            cells.append(format_ratio(part["at_rest"]["ratio"][key]) if part["at_rest"]["starts"] > 1 else "-")
        rows.append([words, *cells])
    blind = "; ".join(
        f"{mode} {part['blind']['agreement_x']:.2f} along x, {part['blind']['agreement_y']:.2f} along y"
        for mode, part in by_mode.items()
    )
    starts, ended = (", ".join(f"{mode} {part[key]:{form}}" for mode, part in by_mode.items()) for key, form in _SHARES)
    return (
        f"Each latent action, and each of five keys in the game, held for {control['steps']} steps from equal states "
        f"on the ground (starts: {starts}; up to the end of the game, which comes first in {ended} of cases):\n\n"
        f"{write_table(['control', *heads], rows)}\n\n"
        f"*Shuffled* permutes the latent actions at every start. R squared of a world in which a key always causes its "
        f"mean motion: {blind}."
    )


def tabulate_long_play(test: dict[str, Any]) -> str:
    """Return the table of long play, beside the game's own shares."""
    sessions = test["sessions"]
    heads = [f"{mode}{beside}" for mode in sessions["by_mode"] for beside in ("", ", game")]
    about = (
        f"Long play from starts in the middle of levels, {sessions['games']} games of {sessions['steps']} steps each, "
        f"with 95 % bootstrap intervals over games. *Frozen*: none of the latent actions, held for 16 steps, moves the "
        f"level; beside it the same for keys of the game. The detector of players: `genie_gym/weights/metrics`."
    )
    return f"{about}\n\n{write_table(['', *heads], [[name, *cells] for name, cells in list_sessions(sessions)])}"


def tabulate_separability(test: dict[str, Any]) -> str:
    """Return the table of how labels tell keys apart in the same state, and how long they persist."""
    heads, rows = arrange_labels(test["control"])
    states = ", ".join(f"{mode} {part['states']:,}" for mode, part in test["control"]["separability"].items())
    return (
        f"Keys pressed in the same states of the shipped player's play (states: {states}). A pair *shows* where it "
        f"moves the player differently by a pixel; of these, the share in which the labels of *both* keys are mapped "
        f"to the right kinds, beside the supervised model and random labels as frequent as the world's:\n\n"
        f"{write_table(['labels in play', *heads], rows)}"
    )


_CARD_TABLES = (
    describe_clips,
    tabulate_scores,
    tabulate_rollout,
    tabulate_labels,
    tabulate_control,
    tabulate_separability,
)


def write_card_tables(test: dict[str, Any]) -> str:
    """Return the model card's sections of scores."""
    writers = [*_CARD_TABLES, *([tabulate_long_play] if "sessions" in test else [])]
    return "\n\n".join(write(test) for write in writers)


def tabulate_steps(results: dict[str, Any]) -> str:
    """Return the table of quality and speed by number of MaskGIT steps."""
    about = (
        f"{results['clips']} clips of {results['levels']} levels ({write_command(results)}, commit "
        f"`{results['commit']}`): mean PSNR over clips and delta PSNR in dB, with the 95 % interval of the loss "
        f"against the largest number of steps, paired by clip:"
    )
    first = results["rows"][0]
    heads = ["MaskGIT steps", "frames/s", "fvd_procgen", *(f"PSNR, t = {part['t']}" for part in first["rollout"])]
    heads += [f"delta PSNR, t = {part['t']}" for part in first["delta_psnr"]]
    rows = []
    for row in results["rows"]:
        steps = str(row["maskgit_steps"])
        cells = [steps, f"{results['speed'][steps]:.0f}", f"{row['fvd_procgen']:.1f}"]
        cells += [write_interval(part, "clip_psnr") for part in row["rollout"]]
        rows.append(cells + [write_interval(part) for part in row["delta_psnr"]])
    return f"{about}\n\n{write_table(heads, rows)}"


def _split(test: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the scores of all clips, by mode, and by mode and player."""
    return {"all": test, **test["by_mode"], **test["sets"]}
