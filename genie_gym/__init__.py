"""genie-gym: learn a world from videos and play it as a Gymnasium environment.

Importing the package only registers ``Genie-v0``; torch is imported when a world is loaded. ``gym.make`` and
``gym.make_vec`` truncate episodes after ``MAX_EPISODE_STEPS``, as CoinRun does, because generated frames drift and
most RL libraries log returns by episode. ``max_episode_steps=N`` sets another limit, -1 removes it.
"""

from typing import TYPE_CHECKING, Any

import gymnasium

from genie_gym.system import guard_forks

if TYPE_CHECKING:
    from os import PathLike

    import numpy as np

    from genie_gym.models.world_model import GenieWorldModel
    from genie_gym.players.pretrained import PretrainedAgent

__version__ = "0.1.0"

MAX_EPISODE_STEPS = 1000

guard_forks()
gymnasium.register(
    id="Genie-v0",
    entry_point="genie_gym.envs.genie_env:GenieEnv",
    vector_entry_point="genie_gym.envs.genie_vector_env:GenieVectorEnv",
    max_episode_steps=MAX_EPISODE_STEPS,
)


def load(
    name_or_path: "str | PathLike[str]" = "coinrun", device: str = "cpu", precision: str | None = None
) -> "GenieWorldModel":
    """Load a world in eval mode, from the process-wide cache if it was loaded before.

    Args:
        name_or_path: Name of a shipped checkpoint, folder of one you trained, or ``hf://USER/REPO`` on the Hugging Face
            hub (``@REVISION`` may follow), of which only weights, config and card are fetched.
        device: Torch device to compute on.
        precision: ``float32``, ``bfloat16`` or ``auto``; None for the checkpoint's.

    Raises:
        ValueError: If there is no such checkpoint, device or precision, or the checkpoint is damaged.
    """
    from genie_gym.serving import load_world

    return load_world(name_or_path, device, precision)


def label(
    video: "str | PathLike[str] | np.ndarray",
    checkpoint: "str | PathLike[str]" = "coinrun",
    device: str = "cpu",
    **settings: Any,
) -> "np.ndarray":
    """Infer the latent action of each transition of a video, with frames brought to the world's size.

    Args:
        video: Video file, or (T, H, W, 3) uint8 frames.
        checkpoint: Name of a shipped checkpoint, folder of one you trained, or ``hf://USER/REPO``.
        device: Torch device to compute on.
        **settings: ``fps``, frames a second to read of a file, by default the world's rate, or each frame if it has
            none; ``fit``, ``crop`` or ``pad`` for frames of another aspect ratio.

    Returns:
        (T - 1,) int64; entry t leads from frame t to t + 1.

    Raises:
        ValueError: If the video is no video, is broken or has fewer than two frames, or another argument is invalid.
    """
    from genie_gym.serving.labelling import label_video

    return label_video(load(checkpoint, device), video, **settings)


def load_agent(name: str, seed: int = 0, temperature: float | None = None) -> "PretrainedAgent":
    """Load a shipped player of CoinRun as an agent with the ``predict`` of Stable-Baselines3's models.

    Args:
        name: ``skilled`` or ``expert``; ``genie_gym.list_agents`` says what each is.
        seed: Seed of the sampling.
        temperature: Divisor of the logits that it samples from; by default its own.

    Raises:
        ValueError: If there is no such agent, or the temperature is negative.
    """
    from genie_gym.players.pretrained import load_pretrained

    return load_pretrained(name, seed, temperature)


def list_agents() -> dict[str, str]:
    """Return the names of the shipped agents, and what each is."""
    from genie_gym.players.pretrained import describe_pretrained

    return describe_pretrained()


def push_to_hub(
    checkpoint: "str | PathLike[str] | GenieWorldModel",
    repository: str,
    private: bool = False,
    token: str | None = None,
) -> str:
    """Upload a world to the Hugging Face hub in one commit, and return the address to load it by.

    Args:
        checkpoint: World that was trained or loaded, a checkpoint's folder, or the name of a shipped one. A folder's
            README.md is the card; without one, a short card says how to load the world.
        repository: USER/REPO, created if it does not exist.
        private: Whether a repository that is created is private.
        token: Access token; by default the one that ``hf auth login`` or the variable HF_TOKEN set.

    Raises:
        ValueError: If there is no such checkpoint, the repository is no USER/REPO, or it cannot be written.
    """
    from genie_gym.serving.loading import push_world

    return push_world(checkpoint, repository, private, token)
