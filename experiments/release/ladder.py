"""The ladder: short runs of equal compute that the release's recipe is climbed by, scored on validation levels.

    python -m experiments.release.ladder --preset full --rungs tokens span

Each rung asks one question of one model and tries its answers on the preset ``study``, CoinRun hard. Tokenizer and
latent action model train alone; a dynamics trains on the shipped world's tokens and latent actions. Resumable.
"""

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import tyro

from experiments.release.parts import CLIMBS, SCORES, Climb
from experiments.release.rungs import RUNGS
from experiments.shipped_rivals import digest_shipped
from genie_gym.results.experiment import Row, VariantExperiment

SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"frames": 4_096, "clips": 8, "train_steps": 3, "inverse_steps": 3, "seeds": 1},
    "full": {"frames": 122_880, "clips": 128, "train_steps": 500, "inverse_steps": 250, "seeds": 3},
}
"""Frames recorded, clips scored, training steps of each rung's usual answer, those of the ceiling, and seeds."""
OF_A_ROW = ("rung", "variant", "minutes", "cpu", "same_as")
"""What rows of one run that answers two rungs do not share."""
SMOKE_RUNGS = ("tokens", "history", "corruption")
"""One of each part."""


@dataclass(frozen=True, kw_only=True)
class Ladder(VariantExperiment):
    """Climb rungs."""

    rungs: tuple[str, ...] | None = None
    """Those to climb now; all, or at ``smoke`` one of each model, where not given."""

    @property
    def name(self) -> str:
        return "release_ladder"

    def run(self) -> None:
        """Train what is missing, write, draw."""
        size = SIZES[self.preset]
        names = self.rungs or (SMOKE_RUNGS if self.preset == "smoke" else tuple(RUNGS))
        unknown = set(names) - set(RUNGS)
        if unknown:
            raise ValueError(f"rungs must be of {list(RUNGS)}, got {sorted(unknown)}")
        cells = [{"rung": rung, "variant": variant} for rung in names for variant in RUNGS[rung].variants]
        cells = self.repeat_over_seeds(cells, size["seeds"])
        settings = {"shipped": digest_shipped(), **size}
        rows = self.finish_rows(cells, settings, functools.partial(self._climb, settings))
        draw_rungs(rows, self.picture)

    def _climb(self, settings: Row, cell: Row) -> Row:
        size, rung = SIZES[self.preset], RUNGS[cell["rung"]]
        variant = rung.variants[cell["variant"]]
        asked = json.loads(json.dumps({"part": rung.part, **variant._asdict(), "seed": cell["seed"]}))
        for row in self._read_rows(settings):
            if asked.items() <= row.items():  # the usual answer of another rung, say
                return {name: value for name, value in row.items() if name not in OF_A_ROW} | {"same_as": row["rung"]}
        climb = Climb(
            work=self.work / self.preset,
            folder=self.run_folder / "-".join(str(value).replace(" ", "_") for value in cell.values()),
            variant=variant,
            usual=next(iter(rung.variants.values())),
            train_steps=size["train_steps"],
            frames=size["frames"],
            clips=size["clips"],
            inverse_steps=size["inverse_steps"],
            data_seed=self.seed,
            seed=cell["seed"],
            device=self.device,
        )
        return {"part": rung.part, **variant._asdict(), **CLIMBS[rung.part](climb)}


def draw_rungs(rows: list[Row], path: Path) -> None:
    """A panel for each rung and each of its scores: a dot for every run."""
    panels = [(rung, score, label) for rung in dict.fromkeys(row["rung"] for row in rows)
              for score, label in SCORES[RUNGS[rung].part].items()]  # fmt: skip
    columns = 4
    figure, axes = plt.subplots(
        math.ceil(len(panels) / columns), columns, figsize=(3.4 * columns, 2.6 * math.ceil(len(panels) / columns)),
        squeeze=False,
    )  # fmt: skip
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (rung, score, label) in zip(axes.flat, panels, strict=False):
        variants = list(RUNGS[rung].variants)
        own = [row for row in rows if row["rung"] == rung]
        axis.plot([variants.index(row["variant"]) for row in own], [row[score] for row in own], "o")
        axis.set(xticks=range(len(variants)), title=rung, ylabel=label, xlim=(-0.5, len(variants) - 0.5))
        axis.set_xticklabels(variants, fontsize=7, rotation=20, ha="right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    tyro.cli(Ladder).run()
