"""Make the shipped player: a small network that imitates a trained player (DAgger, arXiv 1011.0686).

    python -m experiments.release.player --teacher "players.py:load_player(name)+velocity"

The student plays half of the games and the teacher the others, on easy and hard training levels; the target is always
the teacher's action. Resumable; a resumed run plays new games.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro

from genie_gym.data.clips import Batch
from genie_gym.data.config import RecordConfig
from genie_gym.data.frames import to_float
from genie_gym.data.procgen import Games, open_games
from genie_gym.metrics.held_out import restrict
from genie_gym.models.base import LossOutput
from genie_gym.nn.weights import save_half
from genie_gym.players.expert import Expert, ExpertPolicy
from genie_gym.players.specs import VELOCITY, Player, load_player
from genie_gym.presets import SMALL_NETWORK_TRAINING
from genie_gym.results.files import write_results
from genie_gym.training.loop import Phase, Trainee

_MODES = ("easy", "hard")
_STEPS_A_BATCH = 4
"""Number of steps of every game between two batches."""


class Lesson:
    """Games of both modes, with a memory of the latest frames and of ``advice``, the teacher's action in each."""

    def __init__(self, student: ExpertPolicy, teacher: Player, games_a_mode: int, memory: int, seed: int) -> None:
        self._student, self._teacher = student, teacher
        self._games = [
            open_painted("training", mode, games_a_mode, seed + number) for number, mode in enumerate(_MODES)
        ]
        self._rng = np.random.default_rng(seed)
        self._frames = np.empty((memory, 64, 64, 3), dtype=np.uint8)
        self.advice = np.empty(memory, dtype=np.int64)
        self._seen = 0

    def batches(self, batch_size: int, number: int) -> Iterator[Batch]:
        """Yield ``number`` batches drawn from the memory; before each, all games are played some steps."""
        self._play(32)
        for _ in range(number):
            self._play(_STEPS_A_BATCH)
            rows = self._rng.integers(min(self._seen, len(self.advice)), size=batch_size)
            yield Batch(to_float(self._frames[rows])[:, None], torch.from_numpy(rows))

    @torch.no_grad()
    def _play(self, steps: int) -> None:
        for _ in range(steps):
            for games in self._games:
                frames = games.observe().frames
                advice = self._teacher(frames)
                choices = torch.multinomial(self._student(to_float(frames)).softmax(dim=-1), 1)[:, 0].numpy()
                rows = (self._seen + np.arange(len(frames))) % len(self.advice)
                self._frames[rows], self.advice[rows] = frames, advice
                self._seen += len(frames)
                is_students = np.arange(len(frames)) % 2 == 0
                games.act(np.where(is_students, choices, advice).astype(np.int32))


class Student(Trainee):
    """The policy with its imitation loss, as the training loop trains it."""

    def __init__(self, policy: ExpertPolicy, advice: np.ndarray) -> None:
        super().__init__()
        self.policy, self._advice = policy, advice

    def loss(self, batch: Batch) -> LossOutput:
        """Return the cross-entropy of the teacher's actions, and the share predicted."""
        advice, logits = torch.from_numpy(self._advice[batch.numbers.numpy()]), self.policy(batch.videos[:, 0])
        agreement = (logits.argmax(dim=-1) == advice).float().mean()
        return LossOutput(F.cross_entropy(logits, advice), {"agreement": agreement})


@dataclass(frozen=True, kw_only=True)
class PlayerRelease:
    """Train a player, save it and score it."""

    teacher: str
    """spec of a trained player that sees the velocity: path/to/file.py:factory(argument)+velocity"""
    out: Path = Path("runs/player")
    """folder of the training run and of expert.safetensors"""
    train_steps: int = 3000
    """number of training batches"""
    batch_size: int = 1024
    """number of frames a batch"""
    games_a_mode: int = 64
    """number of games of each mode"""
    memory: int = 200_000
    """number of latest frames that batches are drawn from"""
    minutes: float | None = None
    """minutes after which this call stops; a second call resumes"""
    episodes: int = 256
    """number of episodes of each mode, on validation levels, that each player is scored by"""
    seed: int = 0
    """seed of games, weights and batches"""
    json: Path | None = None
    """JSON file of results to write"""

    def run(self) -> None:
        """Train until the last step or minute; after the last step, score random play, teacher and student."""
        if not self.teacher.endswith(VELOCITY):
            raise ValueError(f"teacher must see the velocity, as in SPEC{VELOCITY}, got {self.teacher!r}")
        config = replace(
            SMALL_NETWORK_TRAINING, train_steps=self.train_steps, batch_size=self.batch_size, seed=self.seed
        )
        torch.manual_seed(self.seed)
        policy, path = ExpertPolicy(), self.out / "expert.safetensors"
        lesson = Lesson(policy, load_player(self.teacher, self.seed), self.games_a_mode, self.memory, self.seed)
        phase = Phase(lambda _, number: lesson.batches(self.batch_size, number), config, self.out, self.minutes)
        done = phase.run(Student(policy, lesson.advice))
        save_half(policy.eval(), path)
        if done < self.train_steps:
            print(f"{done} of {self.train_steps} steps done; run again to resume")
            return
        players: dict[str, str | Path] = {"random": "random", "teacher": self.teacher, "student": path}
        solved = {name: {mode: self._score(spec, mode) for mode in _MODES} for name, spec in players.items()}
        print(solved)
        if self.json is not None:
            write_results(self.json, {"seed": self.seed, "episodes": self.episodes, "solved": solved})

    def _score(self, player: str | Path, mode: str) -> float:
        built = Expert(player, self.seed) if isinstance(player, Path) else load_player(player, self.seed)
        return score_player(built, mode, self.episodes, self.seed)


def open_painted(levels: str, mode: str, number: int, seed: int) -> Games:
    """Open games that paint the player's velocity into the frame."""
    config = RecordConfig(mode=mode)  # type: ignore[arg-type]  # one of _MODES
    return open_games(restrict(config, levels), seed=seed, num_envs=number, paint_velocity=True)


def score_player(player: Player, mode: str, episodes: int, seed: int, num_envs: int = 64) -> float:
    """Return the share of validation levels solved, over the first episodes of each game, whatever their length."""
    games = open_painted("validation", mode, num_envs, seed)
    each, done, solved = max(1, episodes // num_envs), np.zeros(num_envs, dtype=int), 0
    while (done < each).any():
        games.act(player(games.observe().frames))
        now = games.observe()
        is_counted = now.episode_starts & (done < each)
        solved += int((is_counted & (now.rewards > 0)).sum())
        done += is_counted
    games.close()
    return solved / (num_envs * each)


if __name__ == "__main__":
    tyro.cli(PlayerRelease).run()
