"""Upper bounds on what visitors of the page may ask for."""

from dataclasses import dataclass

from genie_gym.configs import WorldConfig
from genie_gym.envs.prompts import MAX_PROMPT_FRAMES

POLICY_VIOLATION, TOO_BUSY = 1008, 1013
"""WebSocket close codes."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Upper bounds on what visitors may ask for."""

    visitors: int = 16
    """largest number of visitors at once"""
    waiting: int = 64
    """largest number of connections at once that do not play, such as those that fetch the page's files"""
    waiting_seconds: float = 20.0
    """seconds after which a connection that does not play is closed"""
    message_bytes: int = 8 * 2**20
    """largest size of a message or picture in bytes"""
    command_bytes: int = 1_000
    """largest size in bytes of a command, except a replay's, which is ``replay_bytes``"""
    frames: int = 10_000
    """largest number of steps of an episode, 12 kB each at 64 x 64"""
    undo_steps: int = 8
    """largest number of successive steps undone, each at most 0.8 MB in the shipped world"""
    maskgit_steps: int = 64
    """largest number of MaskGIT steps per frame in a replayed trajectory"""
    idle_seconds: float = 300.0
    """seconds without a message after which a visitor is disconnected"""
    send_seconds: float = 10.0
    """seconds that a visitor may take to read an answer"""
    pause_seconds: float = 0.02
    """seconds after the answer to anything but a step, in which nothing more is read"""
    error_pause_seconds: float = 0.1
    """seconds after an error, in which nothing more is read"""
    request_seconds: float = 0.005
    """least seconds from one request for a file to the next, of all visitors together"""
    entry_seconds: float = 0.05
    """least seconds from one request for a WebSocket to the next"""

    def replay_bytes(self, config: WorldConfig) -> int:
        """Return the largest size of the command of a replay: of its prompt, its latent actions and the rest."""
        picture = 1.1 * 3 * config.height * config.width + 1_000  # noise makes a PNG slightly larger than its pixels
        digits = len(str(config.num_latent_actions - 1)) + len(", ")
        return int(MAX_PROMPT_FRAMES * picture * 4 / 3) + self.frames * digits + 4_000


DEFAULT_LIMITS = Limits()
