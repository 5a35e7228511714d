"""Score players of the recorder in the real game: levels solved, all and those of the core, and frames a second.

    python -m agents.score_players --players random skilled search --level-set validation

Each player plays each level once (``agents.evaluation``). The core holds the levels that the best constant action fails
(``agents.core_levels``).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.acting import PlayerAgent
from agents.core_levels import cache_core
from agents.evaluation import LevelSet, choose_levels, count_outcomes, play_levels
from agents.game import GameName, make_game
from agents.intervals import estimate_mean
from genie_gym.bench.machine import describe_machine
from genie_gym.failures import run_command
from genie_gym.results.files import write_results

_AT_ONCE = 250  # games open at the same time


@dataclass(frozen=True, kw_only=True)
class PlayerScoring:
    """Play levels with each player and print a row for each."""

    players: tuple[str, ...] = ("random", "expert", "skilled", "search")
    """specs of the players, as for ``genie-gym record``"""
    modes: tuple[GameName, ...] = ("easy", "hard")
    """games: CoinRun on easy or hard levels, or others by name"""
    level_set: LevelSet = "validation"
    """set of levels to play: ``validation`` to choose settings, ``test`` for published tables"""
    levels: int = 1000
    """number of levels, the first of the set; the core is searched among them"""
    seed: int = 0
    """seed of the players' choices"""
    out: Path = Path("runs/score-players")
    """folder in which the cores are kept"""
    json: Path | None = None
    """JSON file of results to write"""

    def run(self) -> list[dict[str, Any]]:
        """Play, print and write the rows, and return them.

        Raises:
            ValueError: If there is no such player, or there are fewer levels.
        """
        for game in map(make_game, self.modes):
            for player in self.players:
                game.find_player(player)
        torch.set_num_threads(1)  # frames a second are those of one core
        rows, machine = [], describe_machine(torch.device("cpu"))
        for row in self._play_all():
            rows.append(row)
            counts = f"{row['solved']} of {row['levels']}, core {row['core_solved']} of {row['core_levels']}"
            print(
                f"{row['mode']} {row['player']}: {counts}, {row['frames_a_cpu_second']} frames a CPU second", flush=True
            )
            if self.json is not None:
                about = {"seed": self.seed, "level_set": self.level_set, "machine": machine}
                write_results(self.json, {**about, "rows": rows})
        return rows

    def _play_all(self) -> Iterator[dict[str, Any]]:
        for mode in self.modes:
            game, path = make_game(mode), self.out / f"core-{mode}-{self.level_set}-{self.levels}.json"
            core = cache_core(game, self.level_set, self.levels, path)
            for player in self.players:
                counts = self._play(mode, player, core.seeds)
                yield {"mode": mode, "player": player, "best_constant": core.best_constant, **counts}

    def _play(self, mode: GameName, player: str, core: list[int]) -> dict[str, Any]:
        """Return the counts of a player on all levels and on the core, with intervals and its speed."""
        levels, game = choose_levels(self.level_set, self.levels), make_game(mode)
        share = game.find_player(player)
        rows, began = [], time.process_time()
        for first in range(0, len(levels), _AT_ONCE):
            part = levels[first : first + _AT_ONCE]
            outcome = play_levels(PlayerAgent(share.player(self.seed), share.sees_velocity), game, part)
            rows.append(count_outcomes(outcome, part, part, [level for level in core if level in part]))
        seconds = time.process_time() - began
        sums = ("levels", "solved", "core_levels", "core_solved", "deaths", "timeouts", "env_steps")
        counts: dict[str, Any] = {name: sum(row[name] for row in rows) for name in sums}
        for name, column in (("interval", "outcomes"), ("core_interval", "core_outcomes")):
            digits = "".join(row[column] for row in rows)
            if digits:
                solved = np.array([[float(each == "1") for each in digits]])
                counts[name] = estimate_mean(solved, self.seed)["interval"]
        counts["mean_return"] = float(
            np.average([row["mean_return"] for row in rows], weights=[row["levels"] for row in rows])
        )
        return {**counts, "frames_a_cpu_second": round(counts["env_steps"] / seconds)}


if __name__ == "__main__":
    run_command(PlayerScoring)
