"""Time other implementations of Genie beside this one, at equal sizes, tokens and MaskGIT steps.

    python -m experiments.peers.time_peers --preset full --checkouts tinyworlds ~/tinyworlds jafar ~/jafar

The projects are yours to clone and install: https://github.com/AlmondGod/tinyworlds (PyTorch),
https://github.com/p-doom/jasmine and https://github.com/FLAIROx/jafar (both JAX). Their models are built in the sizes
of a world of ours, with random weights, and asked for the next frame from a full context, as their own sampling scripts
do.
"""

import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from experiments.ablations.against import AGAINST_PLAYER
from experiments.lib.processes import PlayingProcess, ask_in_turn, open_player, take_medians
from genie_gym.models.loading import find_checkpoint
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.results.experiment import WorldExperiment
from genie_gym.results.files import ROOT
from genie_gym.serving import load_world

_PEERS = {"tinyworlds": "models/dynamics.py", "jasmine": "jasmine/models/genie.py", "jafar": "genie.py"}
"""Name of each project, and a file by which its checkout is known."""
_OWN = "genie-gym"
_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"rows": (1,), "rounds": 2, "seconds": 0.02},
    "full": {"rows": (1, 16), "rounds": 5, "seconds": 3.0},
}
"""By preset: batch sizes, rounds, and seconds of each run of a round."""


@dataclass(frozen=True, kw_only=True)
class PeersComparison(WorldExperiment):
    """Compare the time of a frame with that of other projects."""

    name = "peers"
    by_machine = True
    checkouts: dict[str, Path] = field(default_factory=dict)
    """folder of a checkout by name of its project: tinyworlds, jasmine, jafar"""
    interpreters: dict[str, str] = field(default_factory=dict)
    """Python in which a project is installed, by its name; this one by default"""
    threads: int = 1
    """number of threads of PyTorch in each process; JAX uses all cores: limit it with taskset"""

    def run(self) -> None:
        """Compare, print and write the results.

        Raises:
            ValueError: If a project is unknown, its folder is no checkout of it, or it cannot play.
        """
        require_checkouts(self.checkouts)
        size, world = dict(_SIZES[self.preset]), load_world(self.checkpoint, self.device)
        sizes = read_sizes(world)
        rows = [{"rows": count, **self._compare(count, world, sizes, size)} for count in size["rows"]]
        self.write({"checkpoint": self.checkpoint, "sizes": sizes, "threads": self.threads, "by_rows": rows})
        Console().print(_tabulate(rows))

    def _compare(
        self, count: int, world: GenieWorldModel, sizes: dict[str, Any], size: dict[str, Any]
    ) -> dict[str, Any]:
        with ExitStack() as stack:
            own = {
                "checkpoint": str(find_checkpoint(self.checkpoint).absolute()),
                "num_envs": count,
                "precision": str(world.dynamics.precision).removeprefix("torch."),
                "seed": self.seed,
            }
            command = [sys.executable, str(AGAINST_PLAYER), json.dumps(own)]
            players: dict[str, PlayingProcess] = {
                _OWN: stack.enter_context(open_player(_OWN, command, ROOT, self.threads))
            }
            for name, checkout in self.checkouts.items():
                program = str(Path(__file__).with_name("peer_player.py"))
                command = [
                    self.interpreters.get(name, sys.executable),
                    program,
                    name,
                    json.dumps({**sizes, "rows": count}),
                ]
                players[name] = stack.enter_context(open_player(name, command, checkout, self.threads))
            parameters = {name: player.ask({}).get("parameters") for name, player in players.items()}
            rounds = [ask_in_turn(players, size["seconds"], number) for number in range(size["rounds"])]
        by_project = {name: take_medians([each[name] for each in rounds]) for name in players}
        return {"parameters": parameters, "by_project": by_project}


def require_checkouts(checkouts: dict[str, Path]) -> None:
    """Raise a ValueError unless there are checkouts, each of a project that is known."""
    if not checkouts or not set(checkouts) <= set(_PEERS):
        raise ValueError(f"checkouts must name one or more of {', '.join(_PEERS)}, got {sorted(checkouts)}")
    for name, folder in checkouts.items():
        if not (folder / _PEERS[name]).is_file():
            raise ValueError(f"checkouts: {name} must be a folder with {_PEERS[name]}, got {str(folder)!r}")


def read_sizes(world: GenieWorldModel) -> dict[str, int]:
    """Return the sizes of a world that the other projects are given.

    They have a position for every token, where ``fold`` of ours puts a square of tokens on one.
    """
    config = world.config
    stack, tokenizer = config.dynamics.transformer, config.tokenizer
    return {
        "side": config.height,
        "patch_size": tokenizer.patch_size,
        "codes": tokenizer.quantizer.codes,
        "context": config.context_length,
        "latent_actions": config.num_latent_actions,
        "maskgit_steps": world.sampling().maskgit_steps,
        "width": stack.width,
        "feed_forward_width": stack.feed_forward_width,
        "layers": stack.layers,
        "heads": stack.heads,
        "tokenizer_width": tokenizer.decoder.width,
        "tokenizer_feed_forward_width": tokenizer.decoder.feed_forward_width,
        "tokenizer_layers": tokenizer.decoder.layers,
        "tokenizer_heads": tokenizer.decoder.heads,
    }


def _tabulate(rows: list[dict[str, Any]]) -> Table:
    table = Table("frames/s (CPU ms a frame)", *(f"{row['rows']} rows" for row in rows))
    for name in rows[0]["by_project"]:
        each = (row["by_project"][name] for row in rows)
        table.add_row(name, *(f"{figures['fps']:.2f} ({figures['cpu_ms']:.1f})" for figures in each))
    return table


if __name__ == "__main__":
    tyro.cli(PeersComparison).run()
