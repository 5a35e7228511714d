"""The work of ``genie-gym evaluate``: load the world, gather clips, score them."""

import tempfile
from pathlib import Path
from typing import Any

from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.evaluate import Evaluation, evaluate
from genie_gym.metrics.gather import gather_data
from genie_gym.metrics.outputs import Report
from genie_gym.metrics.separability import separate_keys
from genie_gym.metrics.sessions import Policy, RandomLatentPolicy, repeat_probability, score_sessions
from genie_gym.metrics.weaknesses import find_weaknesses
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.plugins import build_from_spec
from genie_gym.serving import load_world

_STICKY = 0.9
"""Probability with which sticky random play repeats its latent action, as in recordings."""


def run_evaluation(
    config: EvaluateConfig, report: Report = lambda stage, share: None
) -> tuple[dict[str, Any], Evaluation]:
    """Score a checkpoint.

    Args:
        config: The world, the data, and the sizes of all measurements.
        report: Called with each stage and the share of it done.

    Returns:
        JSON-able results, and the ``Evaluation`` they come from.

    Raises:
        ValueError: If the checkpoint or the data are missing, damaged, or do not match.
    """
    world = load_world(config.checkpoint, config.device)
    size = (world.config.height, world.config.width)
    with tempfile.TemporaryDirectory() as folder:
        data = gather_data(config, size, Path(folder), report, world.config.fps)
        evaluated = evaluate(world, data.sets, data.fitted, data.control, config, report)
    if config.sessions:
        evaluated.scores["sessions"] = _play_sessions(world, evaluated, config, report)
    actions = evaluated.outputs.actions
    if config.data is None and actions is not None:
        evaluated.scores["control"]["separability"] = separate_keys(world, actions, config, report)
    sampling = world.config.sampling
    settings = {
        "checkpoint": config.checkpoint,
        **data.source,
        "maskgit_steps": sampling.maskgit_steps,
        "temperature": sampling.temperature,
        "precision": str(world.dynamics.precision).removeprefix("torch."),
        "inverse_steps": config.inverse_steps,
    }
    return {**settings, **evaluated.scores, "faults": find_weaknesses(evaluated.scores)}, evaluated


def _play_sessions(
    world: GenieWorldModel, evaluated: Evaluation, config: EvaluateConfig, report: Report
) -> dict[str, Any]:
    """Score long play under held right, two random policies and the one of the config, if any."""
    actions, seed = world.config.num_latent_actions, config.seed
    right = evaluated.scores["control"]["chosen"]["right"]
    repeat = repeat_probability(evaluated.outputs.encoded.labels, actions)
    policies: dict[str, Policy] = {
        "held right": lambda frames, latent_actions: right,
        "sticky": RandomLatentPolicy(actions, _STICKY, seed),
        "as labels persist": RandomLatentPolicy(actions, repeat, seed),
    }
    if config.policy:
        policies[config.policy] = build_from_spec("policy", config.policy, {}, seed=seed)
    return {"repeat": repeat, **score_sessions(world, config, policies, right, report)}
