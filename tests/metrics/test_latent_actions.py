"""Latent actions compared with true actions: perfect, constant, noisy and random labels."""

import numpy as np
import pytest
import torch
from torchmetrics.clustering import NormalizedMutualInfoScore

from genie_gym.metrics.action_groups import PROCGEN_GROUPS
from genie_gym.metrics.latent_actions import (
    balanced_accuracy,
    count_pairs,
    fit_map,
    fit_maps,
    normalized_mutual_information,
    score_labels,
    score_use,
)


@pytest.fixture
def real_actions() -> torch.Tensor:
    """(40, 15) of all fifteen, some rarer than others."""
    shares = np.linspace(1, 3, 15)
    actions = np.random.default_rng(0).choice(15, size=(40, 15), p=shares / shares.sum())
    return torch.from_numpy(actions)


def test_actions_are_grouped_by_what_they_do() -> None:
    kinds = PROCGEN_GROUPS.group(torch.arange(15))
    assert kinds["direction"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1]
    assert kinds["up"].tolist() == [0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert kinds["effective"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 4, 4, 4, 4, 4, 4]
    with pytest.raises(ValueError, match=r"in \[0, 15\)"):
        PROCGEN_GROUPS.group(torch.tensor([15]))


def test_a_model_that_returns_the_true_action_scores_one(real_actions: torch.Tensor) -> None:
    labels, kinds = real_actions, PROCGEN_GROUPS.group(real_actions)
    scores = score_labels(labels, real_actions, fit_maps(labels, real_actions, 15), kinds)
    assert all(scores[name]["accuracy"] == 1 for name in PROCGEN_GROUPS.kinds)
    assert all(scores[name]["ceiling"] == 1 for name in PROCGEN_GROUPS.kinds)
    assert all(scores[name]["kept"] == 1 for name in PROCGEN_GROUPS.kinds)
    moves = score_labels(kinds["effective"], real_actions, fit_maps(kinds["effective"], real_actions, 9))
    assert moves["nmi"] == pytest.approx(1)
    assert "ceiling" not in moves["up"]


def test_a_constant_model_scores_zero(real_actions: torch.Tensor) -> None:
    labels = torch.zeros_like(real_actions)
    scores = score_labels(labels, real_actions, fit_maps(labels, real_actions, 8), PROCGEN_GROUPS.group(real_actions))
    assert scores["nmi"] == 0
    assert all(scores[name]["kept"] == pytest.approx(0) for name in PROCGEN_GROUPS.kinds)
    assert [scores[name]["chance"] for name in PROCGEN_GROUPS.kinds] == [
        pytest.approx(1 / size) for size in PROCGEN_GROUPS.sizes.values()
    ]


def test_nmi_equals_torchmetrics(real_actions: torch.Tensor) -> None:
    noisy = torch.where(torch.rand(real_actions.shape) < 0.5, real_actions, torch.randint(15, real_actions.shape))
    ours = normalized_mutual_information(count_pairs(noisy, real_actions, 15, 15))
    theirs = NormalizedMutualInfoScore("arithmetic")(noisy.flatten(), real_actions.flatten())
    assert 0.1 < ours < 0.9
    assert ours == pytest.approx(float(theirs), abs=1e-5)


def test_the_map_has_the_best_balanced_accuracy() -> None:
    """Label 0 covers 9 of 10 of kind 0 but 2 of 2 of kind 1, so balanced accuracy maps it to kind 1."""
    kinds = torch.tensor([0] * 10 + [1] * 2)
    labels = torch.tensor([0] * 9 + [1] + [0] * 2)
    chosen = fit_map(count_pairs(labels, kinds, 2, 2))
    assert chosen.tolist() == [1, 0]
    assert balanced_accuracy(chosen[labels], kinds, 2) == pytest.approx((0.1 + 1) / 2)
    every = [torch.tensor([first, second]) for first in (0, 1) for second in (0, 1)]
    assert max(balanced_accuracy(each[labels], kinds, 2) for each in every) == pytest.approx(0.55)


def test_kinds_that_do_not_occur_do_not_count() -> None:
    kinds = torch.tensor([0, 0, 2, 2])
    assert balanced_accuracy(torch.tensor([0, 1, 2, 2]), kinds, 3) == pytest.approx(0.75)


def test_maps_fitted_on_other_clips_do_not_flatter() -> None:
    """Random labels stay at chance, however many there are."""
    generator = torch.Generator().manual_seed(0)
    actions, others = (torch.randint(9, (60, 15), generator=generator) for _ in range(2))
    labels, other_labels = (torch.randint(64, (60, 15), generator=generator) for _ in range(2))
    maps = fit_maps(other_labels, others, 64)
    honest = score_labels(labels, actions, maps)["effective"]
    flattered = score_labels(labels, actions, fit_maps(labels, actions, 64))["effective"]
    assert honest["accuracy"] == pytest.approx(honest["chance"], abs=0.05)
    assert flattered["accuracy"] > honest["accuracy"] + 0.05


def test_shares_and_use_of_latent_actions() -> None:
    labels = torch.tensor([[0] * 50 + [1] * 49 + [2]])
    scores = score_use(labels, 4)
    assert scores["shares"] == [0.5, 0.49, 0.01, 0.0]
    assert scores["used"] == 2
    assert scores["transitions"] == 100
    assert score_use(torch.arange(8)[None], 8)["perplexity"] == pytest.approx(8, rel=1e-4)
