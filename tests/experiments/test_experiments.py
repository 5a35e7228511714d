"""Every artefact of the paper at the preset ``smoke``; and what they share, by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.ablations.actions import ActionsAblation
from experiments.ablations.precision import PrecisionAblation
from experiments.ablations.steps import StepsAblation
from experiments.lib.variants import build_variant, count_memory, count_step
from experiments.paper.figure9_scaling import ScalingFigure, fit_power_law, frontier
from experiments.paper.figure10_prompts import PromptsFigure
from experiments.paper.table2_lam_input import InputTable
from experiments.paper.table3_tokenizer import TokenizerTable
from experiments.release.figure_actions import ActionsFigure
from genie_gym.data.clips import Batch
from genie_gym.results.experiment import Experiment

EXPERIMENTS = (
    InputTable,
    TokenizerTable,
    ScalingFigure,
    PromptsFigure,
    ActionsAblation,
    StepsAblation,
    PrecisionAblation,
)
TRAINED = (InputTable, TokenizerTable, ScalingFigure, ActionsAblation, PrecisionAblation)


def read(experiment: Experiment) -> dict[str, Any]:
    return json.loads(experiment.json.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXPERIMENTS, ids=lambda kind: kind.__name__)
def test_smoke(kind: type[Experiment], tmp_path: Path) -> None:
    experiment = kind(out=tmp_path / "out", work=tmp_path / "work")
    experiment.run()
    results = read(experiment)
    assert {"command", "commit", "preset", "seed", "machine", "rows"} <= set(results)
    assert results["rows"]
    assert experiment.picture.stat().st_size > 0
    if kind in TRAINED:
        before = experiment.json.read_text()
        experiment.run()
        assert json.loads(experiment.json.read_text())["rows"] == json.loads(before)["rows"], "rows there stand"


@pytest.mark.slow
def test_sheets_with_and_without_names_for_each_start(tmp_path: Path) -> None:
    """A row for each action, the start and two frames each; four of them again, larger, in the order of the results."""
    four = ("left", "slow right", "jump", "rest")
    figure = ActionsFigure(out=tmp_path / "out", work=tmp_path / "work", unnamed=four)
    figure.run()
    with Image.open(figure.picture.with_name("actions.gif")) as animation:
        assert (animation.n_frames, animation.size) == (25, (4 * 198, 2 * 224))
    paths, results = sorted(figure.picture.parent.glob("*.png")), read(figure)
    stems = [f"figure_actions-hard-{start}{kind}" for start in range(2) for kind in ("-unnamed", "")]
    assert [path.stem for path in paths] == stems
    unnamed, first, _, second = (np.asarray(Image.open(path)) for path in paths)
    assert first.shape == second.shape == (8 * 66 - 2, 64 + 3 * 66 - 2, 3)
    assert not np.array_equal(first, second)
    assert [row["start"] for row in results["rows"]] == [0, 1]
    assert set(results["rows"][0]["order"]) == set(four)
    places = [results["names"].index(name) for name in results["rows"][0]["order"]]
    gap = [(0, 2), (0, 0), (0, 0)]
    rows = (
        np.pad(first, gap, constant_values=255).reshape(8, 66, *first.shape[1:])[places, :, 64:].reshape(4 * 66, -1, 3)
    )
    assert np.array_equal(unnamed, rows[:-2].repeat(2, axis=0).repeat(2, axis=1))


def test_a_sheet_of_an_action_that_the_world_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unnamed must be among the world's actions, .*got \('fly',\)"):
        ActionsFigure(out=tmp_path, unnamed=("fly",)).run()


def test_a_number_of_sizes_that_makes_no_curve_is_refused() -> None:
    for sizes in (1, 6):
        with pytest.raises(ValueError, match=f"sizes must be in 2..5, got {sizes}"):
            ScalingFigure(sizes=sizes).run()


def test_a_power_law_is_found() -> None:
    compute = np.geomspace(1, 1000, 20)
    fit = fit_power_law(compute, 5 * compute**-0.1)
    assert fit["a"] == pytest.approx(5)
    assert fit["b"] == pytest.approx(0.1)
    assert fit["r2"] == pytest.approx(1)


def test_the_frontier_is_the_best_at_each_compute() -> None:
    rows = [
        {"curve": [{"tflop": 0, "loss": 9}, {"tflop": 1, "loss": 5}, {"tflop": 2, "loss": 4}]},
        {"curve": [{"tflop": 1.5, "loss": 6}, {"tflop": 3, "loss": 3}, {"tflop": 4, "loss": 3.5}]},
    ]
    tflop, losses = frontier(rows)
    assert tflop.tolist() == [1, 2, 3]
    assert losses.tolist() == [5, 4, 3]


class Product(torch.nn.Module):
    """A loss of one matrix product, (rows, 8) by (8, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 4, bias=False)

    def loss(self, batch: Batch) -> Any:
        from genie_gym.models.base import LossOutput

        return LossOutput(self.layer(batch.videos).square().sum(), {})


def test_operations_and_memory_of_a_step_by_hand() -> None:
    batch = Batch(torch.rand(16, 8), torch.arange(16))
    product = 2 * 16 * 8 * 4
    assert count_step(Product(), batch) == 2 * product, "forward and the weights' gradient; the input wants none"
    assert count_memory(Product(), batch) == 4 * (16 * 8 + 16 * 4), "the input, and what is squared"


def test_a_variant_shares_the_tokenizer_and_has_its_own_dynamics(random_videos: Any) -> None:
    first, second = build_variant({}, 0, "cpu"), build_variant({"action_conditioning": "film"}, 1, "cpu")
    videos = random_videos(1, 3)
    assert first.tokenizer.encode(videos).equal(second.tokenizer.encode(videos))
    assert first.label(videos).equal(second.label(videos))
    assert first.config.dynamics.action_conditioning == "additive"
    assert second.config.dynamics.action_conditioning == "film"
