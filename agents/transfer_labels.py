"""What latent actions learned from other games tell of CoinRun's, for several ways to learn them at equal cost.

    python -m agents.transfer_labels --preset full

Each row is a way to learn (``agents.other_games``) and a mode of CoinRun: the mutual information in bits of the latent
action (``bits``), or of the code before merging (``code_bits``), and the true move, over all transitions of the
benchmark's player on levels of CoinRun that no model has seen. In the row ``coinrun`` the labels are those of the
checkpoint, which has learned from CoinRun. The attempt of ``agents.transfer`` is chosen on validation levels
(``--level-set validation``).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.evaluation import LevelSet
from agents.experiment import AgentExperiment
from agents.game import ProcgenGame
from agents.labelling import NO_LABEL, label_and_encode_dataset
from agents.other_games import ATTEMPTS, MODES, OtherGames, find_attempt
from agents.windows import read_real_actions
from genie_gym.data.clips import ClipDataset
from genie_gym.failures import run_command
from genie_gym.metrics.latent_actions import count_pairs
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.results.experiment import Row
from genie_gym.serving import load_world
from genie_gym.training.merging import mutual_information

SEEN = "coinrun"
"""Name of the row of the checkpoint's own labels."""
_FRAMES = {"smoke": 512, "full": 20_000}
"""Frames of CoinRun that are labelled, by preset."""
_PLAYER = "skilled"


@dataclass(frozen=True, kw_only=True)
class TransferLabels(AgentExperiment):
    """Learn latent actions from other games in several ways, and ask them about CoinRun."""

    name = "transfer_labels"
    attempts: tuple[str, ...] = (SEEN, *ATTEMPTS)
    """rows to make now; others can follow in a later run"""
    level_set: LevelSet = "test"
    """set of CoinRun's levels that are labelled: ``validation`` to choose an attempt, ``test`` for published tables"""

    @property
    def file_name(self) -> str:
        """Return the file name, without extension, of the results: those of validation levels are apart."""
        return self.name if self.level_set == "test" else f"{self.name}_{self.level_set}"

    def run(self) -> None:
        """Finish the missing rows and print all of them.

        Raises:
            ValueError: If an attempt is unknown.
        """
        for name in self.attempts:
            if name != SEEN:
                find_attempt(name)
        cells = [{"attempt": name, "seed": self.seed, "mode": mode} for name in self.attempts for mode in MODES]
        settings = {"frames": _FRAMES[self.preset], "player": _PLAYER, "level_set": self.level_set}
        for row in self.finish_rows(cells, settings, self.measure):
            print({name: row[name] for name in ("attempt", "seed", "mode", "bits", "code_bits", "move_bits")})

    def measure(self, cell: Row) -> Row:
        """Return what the labels of a cell's attempt tell of the true moves of its mode."""
        world = self._load(cell["attempt"])
        part: Any = world.config.latent_action_model
        game, folder = ProcgenGame(mode=cell["mode"]), self.work / self.preset / self.name
        folder = folder / f"coinrun-{cell['mode']}-{self.level_set}"
        game.record(self.level_set, _PLAYER, folder, _FRAMES[self.preset], self.seed, 16, self.workers)
        found = torch.from_numpy(label_and_encode_dataset(world, ClipDataset(folder, clip_length=2)))
        moves = torch.from_numpy(game.moves[read_real_actions(folder)])
        labels, codes = found.unbind(dim=1)
        is_known = labels != NO_LABEL
        bits, move_bits = measure_bits(labels[is_known], moves[is_known])
        code_bits, _ = measure_bits(codes[is_known], moves[is_known])
        counts = {"actions": world.config.num_latent_actions, "codes": part.quantizer.codes}
        return {"found_box": part.agent_box, **counts, "bits": bits, "code_bits": code_bits, "move_bits": move_bits}

    def _load(self, attempt: str) -> GenieWorldModel:
        """Return the checkpoint's world, with a latent action model trained by the attempt if it is one."""
        checkpoint = self.checkpoint if attempt == SEEN else OtherGames.of(self, attempt).make(self.checkpoint)
        return load_world(str(checkpoint), self.device, "float32")


def measure_bits(labels: Tensor, moves: Tensor) -> tuple[float, float]:
    """Return the mutual information of (F,) labels and (F,) moves, and the entropy of the moves, both in bits."""
    counts = count_pairs(labels, moves, int(labels.max()) + 1, int(moves.max()) + 1)
    entropy = mutual_information(torch.diag(counts.sum(dim=0)))  # what the moves tell of themselves
    return mutual_information(counts) / math.log(2), entropy / math.log(2)


if __name__ == "__main__":
    run_command(TransferLabels)
