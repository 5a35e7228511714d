"""What of a world fails most: the scores of ``evaluate`` against what a good world should reach."""

from typing import Any, NamedTuple

GROUP_NAMES = {"direction": "left / still / right", "up": "up / none", "effective": "nine moves"}
"""``latent_actions.GROUPS`` in words."""


class Goal(NamedTuple):
    """Something measured, and what is wanted of it."""

    measured: float
    wanted: float
    words: str


def find_weaknesses(scores: dict[str, Any]) -> list[str]:
    """What of a world falls short of what is wanted, in words; by the share that is missing, the worst first.

    Wanted: a tokenizer 3 dB above k-means; roll-outs, from one frame and from some, 1 dB above copying, and an interval
    of delta PSNR above 0.5 dB; labels that keep half of what a supervised model gains over chance; and latent actions
    that explain half as much of the motion they cause as the game's own moves do, half of it where there is no game.

    Args:
        scores: From ``evaluate``.

    Returns:
        Sentences; none where nothing is missing.
    """
    missed = [goal for goal in _set_goals(scores) if goal.measured < goal.wanted]
    missed.sort(key=lambda goal: goal.measured / goal.wanted)
    return [goal.words for goal in missed]


def _set_goals(scores: dict[str, Any]) -> list[Goal]:
    gain = scores["tokenizer"]["psnr"] - scores["tokenizer"]["kmeans_psnr"]
    goals = [Goal(gain, 3.0, f"tokenizer: {gain:+.2f} dB against k-means with as many tokens and codes")]
    continued = scores["continued"]
    for part, prompt in ((scores, "one frame"), (continued, f"{continued['prompt_frames']} frames")):
        for row in part["rollout"]:
            ahead, words = row["psnr"] - row["copy_last_psnr"], f"roll-outs from {prompt} at t = {row['t']}"
            goals.append(Goal(ahead, 1.0, f"{words}: {ahead:+.2f} dB against copying the prompt's last"))
        for row in part["delta_psnr"]:
            low, words = row["interval"][0], f"delta PSNR from {prompt} at t = {row['t']}"
            goals.append(Goal(low, 0.5, f"{words}: perhaps no more than {low:.2f} dB"))
    for name, words in GROUP_NAMES.items():
        kept = scores["lam"].get(name, {}).get("kept")
        if kept is not None:
            goals.append(Goal(kept, 0.5, f"labels: {kept:.0%} of what a supervised model gains on {words}"))
    consistency = scores["consistency"]
    explained, words = consistency["explained"], "latent actions: they explain {:.0%} of the motion they cause"
    reachable, beside = 1.0, ""
    if "real" in consistency:
        reachable, beside = consistency["real"]["explained"], " (the game's own moves {:.0%})"
    goals.append(Goal(explained, 0.5 * reachable, (words + beside).format(explained, reachable)))
    return goals
