"""Time of training by one process in this checkout beside an older one: many processes must cost one process nothing.

    git worktree add /tmp/older COMMIT
    python -m experiments.scale.one_process --preset full --other /tmp/older

Each checkout trains the three models of ``coinrun`` for some steps in a process of its own, through its own loop, from
an empty folder to a saved state. The two train in turn, so that whatever slows the machine for a while slows both.
"""

import json
import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from tqdm import tqdm

from experiments.ablations.against import find_commit
from experiments.lib.processes import PlayingProcess, open_player
from genie_gym.results.experiment import Experiment
from genie_gym.results.files import ROOT

_PLAYER = Path(__file__).with_name("one_process_player.py")
_KINDS = ("tokenizer", "actions", "world")
_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"preset": "tiny", "rounds": 2, "steps": 1, "clips": 1, "frames": 4},
    "full": {"preset": "coinrun", "rounds": 24, "steps": 4, "clips": 2, "frames": 8},
}
"""By preset of the experiment: preset of the world, rounds, steps of a run, and size of a batch."""


@dataclass(frozen=True, kw_only=True)
class OneProcess(Experiment):
    """Compare the processor time of training in this checkout with that in another one."""

    name = "one_process"
    other: Path
    """folder of the other checkout"""

    def run(self) -> None:
        """Compare, print and write the results.

        Raises:
            ValueError: If ``other`` is no checkout, or a checkout cannot train.
        """
        if not (self.other / "genie_gym" / "__init__.py").is_file():
            raise ValueError(f"other must be the folder of a checkout with genie_gym in it, got {str(self.other)!r}")
        size = dict(_SIZES[self.preset])
        rounds, settings = size.pop("rounds"), {**size, "seed": self.seed}
        command = [sys.executable, str(_PLAYER), json.dumps(settings)]
        with ExitStack() as stack:
            own, other = (stack.enter_context(open_player(str(c), command, c, 1)) for c in (ROOT, self.other))
            for checkout, player in ((ROOT, own), (self.other, other)):
                package = player.ask({})["package"]
                if not Path(package).is_relative_to(checkout.resolve()):
                    raise ValueError(f"{str(checkout)!r} must train its own package, got {package!r}")
            rows = [self._compare(kind, own, other, rounds) for kind in _KINDS]
        self.write({"other_commit": find_commit(self.other), **size, "rounds": rounds, "threads": 1, "by_kind": rows})

    def _compare(self, kind: str, own: PlayingProcess, other: PlayingProcess, rounds: int) -> dict[str, Any]:
        """Train one phase in both checkouts in turn, after a run of each that is not counted."""
        times = {"own": list[float](), "other": list[float]()}
        for number in tqdm(range(-1, rounds), desc=kind):
            pair = [("own", own), ("other", other)][:: 1 - 2 * (number % 2)]
            answers = {name: player.ask({"kind": kind})["cpu_s"] for name, player in pair}
            for name, spent in answers.items() if number >= 0 else ():
                times[name].append(spent)
        ratios = np.array(times["own"]) / np.array(times["other"])
        draws = np.random.default_rng(self.seed).choice(ratios, (2000, rounds))
        low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
        row = {
            "kind": kind,
            **{f"{name}_cpu_s": round(statistics.median(each), 3) for name, each in times.items()},
            "ratio": round(float(np.median(ratios)), 4),
            "interval": [round(float(low), 4), round(float(high), 4)],
        }
        Console().print(row)
        return row


if __name__ == "__main__":
    tyro.cli(OneProcess).run()
