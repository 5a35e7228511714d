"""Weaknesses of a world: its scores compared with the goals that a good world reaches."""

from typing import Any, NamedTuple

from genie_gym.metrics.control import CONTROL_NAMES

_CONTROL_GOALS = {
    "x_explained": 0.9,
    "y_explained": 0.8,
    "agreement_x": 0.9,
    "agreement_y": 0.5,
    "obedience_left": 0.95,
    "obedience_right": 0.95,
    "obedience_jump": 0.95,
}
"""Goals for the lower end of the interval of each score's ratio to the game's."""


class Goal(NamedTuple):
    """A measured score, the value it should reach, and a sentence about both."""

    measured: float
    wanted: float
    text: str


def find_weaknesses(scores: dict[str, Any]) -> list[str]:
    """Return a line of text for each missed goal, sorted by the share of the goal that is reached, the worst first.

    Goals: a tokenizer 3 dB above k-means; roll-outs from one and from several frames 1 dB above copies of the last
    prompt frame; a 95 % interval of delta PSNR above 0.5 dB; labels that keep half of the ceiling's gain over chance;
    control with the lower end of each score's interval at a share of the game's, or actions that explain half of the
    motion along x if there is no game;
    in long play, the player seen at every step in 97 % of the real rate, 3 points more frozen states than in the game
    at most, and 0.8 to 1.2 of the game's distance to the right.

    Args:
        scores: Scores from ``evaluate``.
    """
    missed = [goal for goal in _list_goals(scores) if goal.measured < goal.wanted]
    missed.sort(key=lambda goal: goal.measured / goal.wanted)
    return [goal.text for goal in missed]


def _list_goals(scores: dict[str, Any]) -> list[Goal]:
    gain = scores["tokenizer"]["psnr"] - scores["tokenizer"]["kmeans_psnr"]
    goals = [Goal(gain, 3.0, f"tokenizer: {gain:+.2f} dB over k-means, goal +3 dB")]
    continued = scores["continued"]
    for part, prompt in ((scores, "one frame"), (continued, f"{continued['prompt_frames']} frames")):
        for row in part["rollout"]:
            gain, name = row["psnr"] - row["copy_last_psnr"], f"roll-outs from {prompt} at t = {row['t']}"
            goals.append(Goal(gain, 1.0, f"{name}: {gain:+.2f} dB over copying the last prompt frame, goal +1 dB"))
        for row in part["delta_psnr"]:
            low, name = row["interval"][0], f"delta PSNR from {prompt} at t = {row['t']}"
            goals.append(Goal(low, 0.5, f"{name}: {low:.2f} dB at the lower end of its 95 % interval, goal 0.5 dB"))
    for group, name in scores["lam"].get("groups", {}).items():
        kept = scores["lam"][group]["kept"]
        if kept is not None:
            goals.append(Goal(kept, 0.5, f"labels: {kept:.0%} of the ceiling's gain over chance on {name}, goal 50%"))
    goals += [goal for mode, part in scores["control"]["by_mode"].items() for goal in _list_control(mode, part)]
    return goals + _list_session_goals(scores["sessions"]["by_mode"] if "sessions" in scores else {})


def _list_control(mode: str, part: dict[str, Any]) -> list[Goal]:
    if "ratio" not in part:
        share = part["world"]["x_explained"]
        return [Goal(share, 0.5, f"control, {mode}: actions explain {share:.0%} of the motion along x, goal 50%")]
    goals = []
    for key, wanted in _CONTROL_GOALS.items():
        interval = part["ratio"][key]["interval"]
        if interval is not None:
            text = f"{CONTROL_NAMES[key]}, {interval[0]:.0%} of the game's at the lower end of the 95 % interval"
            goals.append(Goal(interval[0], wanted, f"control, {mode}: {text}, goal {wanted:.0%}"))
    return goals


def _list_session_goals(by_mode: dict[str, Any]) -> list[Goal]:
    goals = []
    for mode, part in by_mode.items():
        ratio = part["distance_ratio"]["share"]
        text = f"long play, {mode}: right goes {ratio:.0%} of the game's distance, goal 80% to 120%"
        goals.append(Goal(min(ratio, 2 - ratio), 0.8, text))
        for policy, scores in part["policies"].items():
            name, wanted = f"long play, {mode}, {policy}", 0.97 * part["player_seen_real"]["share"]
            for row in scores["player_seen"]:
                text = f"{name}: a player in {row['share']:.0%} of games at step {row['t']}, goal {wanted:.0%}"
                goals.append(Goal(row["share"], wanted, text))
            frozen, most = scores["frozen"]["share"], part["frozen_real"]["share"] + 0.03
            goals.append(Goal(1 - frozen, 1 - most, f"{name}: {frozen:.0%} of states frozen, goal {most:.0%}"))
    return goals
