"""``genie-gym evaluate``: gather clips, score, print, draw."""

import tempfile
from pathlib import Path
from typing import Any

from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.evaluate import Evaluated, evaluate
from genie_gym.metrics.gather import gather
from genie_gym.metrics.motion import score_consistency
from genie_gym.metrics.observe import Report
from genie_gym.metrics.verdict import find_faults
from genie_gym.serving import load_world


def run_evaluation(
    config: EvaluateConfig, report: Report = lambda stage, share: None
) -> tuple[dict[str, Any], Evaluated]:
    """Score a checkpoint.

    Args:
        config: Which, on what, and how much of it.
        report: Hears of each stage, and how much of it is done.

    Returns:
        JSON-able results, and what they and a picture come from.

    Raises:
        ValueError: If the checkpoint or the data are missing, damaged, or do not fit each other.
    """
    world = load_world(config.checkpoint, config.device)
    size = (world.config.height, world.config.width)
    with tempfile.TemporaryDirectory() as folder:
        gathered = gather(config, size, Path(folder), report)
        evaluated = evaluate(world, gathered.sets, gathered.fitted, config, report)
    if gathered.moves is not None:
        evaluated.scores["consistency"]["real"] = score_consistency(gathered.moves)
    sampling = world.config.sampling
    about = {
        "checkpoint": config.checkpoint,
        **gathered.about,
        "maskgit_steps": sampling.maskgit_steps,
        "temperature": sampling.temperature,
        "precision": str(world.dynamics.precision).removeprefix("torch."),
        "inverse_steps": config.inverse_steps,
    }
    return {**about, **evaluated.scores, "faults": find_faults(evaluated.scores)}, evaluated
