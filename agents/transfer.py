"""The benchmark with a latent action model that has never seen CoinRun (Genie, sec. 3.3).

    python -m agents.transfer --preset full

The model learns from random play of other Procgen games; then it is frozen and labels CoinRun's videos.
``agents.transfer_labels`` compares several ways to learn it.
"""

from dataclasses import dataclass, replace

from agents.benchmark import Benchmark
from agents.other_games import OtherGames
from genie_gym.failures import run_command


@dataclass(frozen=True, kw_only=True)
class Transfer(Benchmark):
    """Train a latent action model on other games, then run the benchmark with it."""

    name = "figure15_transfer"
    attempt: str = "ninja, codes not merged"
    """name of the way to learn latent actions from other games, as in ``agents.transfer_labels``"""

    def run(self) -> None:
        """Train the latent action model if it is missing, then run the benchmark.

        Raises:
            ValueError: If the attempt is unknown.
        """
        training = OtherGames.of(self, self.attempt)
        with self.costs.measure("latent actions"):
            checkpoint = training.make(self.checkpoint)
        Benchmark.run(replace(self, checkpoint=str(checkpoint)))


if __name__ == "__main__":
    run_command(Transfer)
