"""Make the shipped player ``skilled``: a small network that imitates a trained player (DAgger, arXiv 1011.0686).

    python -m experiments.release.player --teacher "teachers.py:load_teacher(name)"

The teacher maps frames to probabilities of real actions, and the student is trained towards them in the states of games
that it plays itself, on easy and hard training levels. Resumable; a resumed run plays new games. The student then plays
better than its teacher by ``python -m agents.player --start``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro

from agents.game import JoinedGames
from agents.mapping import draw_from
from genie_gym.configs import OptimizerConfig
from genie_gym.data.clips import Batch
from genie_gym.data.config import RecordConfig
from genie_gym.data.frames import to_float
from genie_gym.data.procgen import FRAME_SIZE, NUM_REAL_ACTIONS, Games, open_games
from genie_gym.metrics.held_out import restrict
from genie_gym.models.base import LossOutput
from genie_gym.nn.weights import save_half
from genie_gym.players.networks import SkilledPolicy
from genie_gym.plugins import build_from_spec
from genie_gym.presets import SMALL_NETWORK_TRAINING
from genie_gym.serving import native_precision
from genie_gym.training.loop import Phase, Trainee

_MODES = ("easy", "hard")
_FIRST_STEPS = 64
"""Number of steps of every game before the first batch; the teacher plays them."""

Teacher = Callable[[np.ndarray], np.ndarray]
"""Maps frames with painted velocity (B, 64, 64, 3) uint8 to probabilities (B, 15) of the real actions."""


class Lesson:
    """Games of both modes, with a memory of the latest frames and of ``advice``, the teacher's probabilities there."""

    def __init__(self, student: SkilledPolicy, teacher: Teacher, games_a_mode: int, memory: int, seed: int) -> None:
        self._student, self._teacher = student, teacher
        self._games = JoinedGames(
            [open_painted("training", mode, games_a_mode, seed + number) for number, mode in enumerate(_MODES)]
        )
        self._rng = np.random.default_rng(seed)
        self._frames = np.empty((memory, FRAME_SIZE, FRAME_SIZE, 3), dtype=np.uint8)
        self.advice = np.empty((memory, NUM_REAL_ACTIONS), dtype=np.float32)
        self._seen = 0

    def batches(self, batch_size: int, number: int) -> Iterator[Batch]:
        """Yield ``number`` batches drawn from the memory; all games are played one step before each."""
        for _ in range(_FIRST_STEPS):
            self._play(self._teacher)
        for _ in range(number):
            self._play(self._ask_student)
            rows = self._rng.integers(min(self._seen, len(self.advice)), size=batch_size)
            yield Batch(to_float(self._frames[rows])[:, None], torch.from_numpy(rows))

    def _play(self, choose: Teacher) -> None:
        """Play every game one step by probabilities that ``choose`` gives, and remember the teacher's advice."""
        frames = self._games.observe().frames
        rows = (self._seen + np.arange(len(frames))) % len(self.advice)
        self._frames[rows], self.advice[rows] = frames, self._teacher(frames)
        self._seen += len(frames)
        self._games.act(draw_from(choose(frames).cumsum(axis=1), self._rng))

    @torch.no_grad()
    def _ask_student(self, frames: np.ndarray) -> np.ndarray:
        return self._student(to_float(frames).to(_precision())).float().softmax(dim=-1).numpy()


class Student(Trainee):
    """The policy with its imitation loss, as the training loop trains it."""

    def __init__(self, policy: SkilledPolicy, advice: np.ndarray) -> None:
        super().__init__()
        self.policy, self._advice = policy, advice

    def loss(self, batch: Batch) -> LossOutput:
        """Return the cross-entropy from the teacher's probabilities, and the divergence that is left of it."""
        advice = torch.from_numpy(self._advice[batch.numbers.numpy()])
        logits = self.policy(batch.videos[:, 0].to(_precision())).float()
        loss = F.cross_entropy(logits, advice)
        return LossOutput(loss, {"divergence": loss.detach() - torch.special.entr(advice).sum(dim=1).mean()})


def _precision() -> torch.dtype:
    """Return the format in which this machine's processor is fast."""
    return getattr(torch, native_precision(torch.device("cpu")))


@dataclass(frozen=True, kw_only=True)
class PlayerRelease:
    """Train a player and save it."""

    teacher: str
    """teacher as FILE.py:FACTORY(ARGUMENTS): a function from frames that show the velocity to probabilities (B, 15)"""
    out: Path = Path("runs/player")
    """folder of the training run and of skilled.safetensors"""
    train_steps: int = 6000
    """number of training batches"""
    batch_size: int = 512
    """number of frames a batch"""
    games_a_mode: int = 64
    """number of games of each mode"""
    memory: int = 400_000
    """number of latest frames that batches are drawn from"""
    minutes: float | None = None
    """minutes after which this call stops; a second call resumes"""
    seed: int = 0
    """seed of games, weights and batches"""

    def run(self) -> None:
        """Train until the last step or minute, and save the student; ``agents.score_players`` scores it."""
        optimizer = OptimizerConfig(
            kind="muon-conv", learning_rate=2e-3, final_learning_rate=4e-5, schedule="cosine", warmup_steps=100
        )
        config = replace(
            SMALL_NETWORK_TRAINING,
            train_steps=self.train_steps,
            batch_size=self.batch_size,
            seed=self.seed,
            optimizer=optimizer,
        )
        torch.manual_seed(self.seed)
        policy, path = SkilledPolicy(), self.out / "skilled.safetensors"
        teacher: Teacher = build_from_spec("teacher", self.teacher, {})
        lesson = Lesson(policy, teacher, self.games_a_mode, self.memory, self.seed)
        phase = Phase(lambda _, number: lesson.batches(self.batch_size, number), config, self.out, self.minutes)
        done = phase.run(Student(policy, lesson.advice))
        save_half(policy.eval(), path)
        print(f"{done} of {self.train_steps} steps done: {path}")


def open_painted(levels: str, mode: str, number: int, seed: int) -> Games:
    """Open games that paint the player's velocity into the frame."""
    config = RecordConfig(mode=mode)  # type: ignore[arg-type]  # one of _MODES
    return open_games(restrict(config, levels), seed=seed, num_envs=number, paint_velocity=True)


if __name__ == "__main__":
    tyro.cli(PlayerRelease).run()
