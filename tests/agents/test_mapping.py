"""The dictionary from latent to real actions, and its alternatives."""

import numpy as np
import pytest
import torch

from agents.acting import RandomLatents
from agents.mapping import ActionMapping

NOTHING = torch.zeros(3000, 0)


def test_actions_are_drawn_as_often_as_they_were_seen() -> None:
    mapping = ActionMapping.fit(np.array([0, 0, 0, 0, 1, 1]), np.array([7, 7, 7, 1, 4, 4]), 2)
    chosen = mapping.choose(np.zeros(3000, dtype=int), NOTHING, np.random.default_rng(0))
    assert set(chosen) == {1, 7}
    assert (chosen == 7).mean() == pytest.approx(0.75, abs=0.03)
    assert set(mapping.choose(np.ones(100, dtype=int), NOTHING, np.random.default_rng(0))) == {4}
    assert chosen.dtype == np.int32


def test_latent_actions_without_samples_draw_from_all_and_are_counted() -> None:
    mapping = ActionMapping.fit(np.array([0, 0, 1, 1]), np.array([7, 7, 7, 2]), 3)
    assert list(mapping.unseen) == [2]
    chosen = mapping.choose(np.array([2] * 2000 + [0] * 1000), NOTHING, np.random.default_rng(0))
    assert mapping.fallbacks == 2000
    assert (chosen[:2000] == 7).mean() == pytest.approx(0.75, abs=0.04)
    assert set(chosen[2000:]) == {7}


def test_entropies_by_hand() -> None:
    whole = ActionMapping.fit(np.array([0, 0, 1, 1]), np.array([7, 7, 1, 1]), 3)
    assert whole.entropies() == pytest.approx((1, 0))
    half = ActionMapping.fit(np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([7, 7, 1, 1, 4, 4, 12, 9]), 2)
    assert half.entropies() == pytest.approx((1.5, 0.5))  # 9 and 12 are special keys: they stay, as 4 does


def test_random_latent_actions_are_worth_what_their_samples_are() -> None:
    mapping = ActionMapping.fit(np.array([0, 0, 1, 1]), np.array([1, 1, 4, 7]), 2)
    rows = np.arange(4000)
    acted = RandomLatents(mapping, seed=0).act(rows, np.zeros((4000, 64, 64, 3), np.uint8), np.zeros(4000, bool))
    assert acted.dtype == np.int32
    assert [(acted == action).mean() for action in (1, 4, 7)] == pytest.approx([0.5, 0.25, 0.25], abs=0.03)


@pytest.mark.parametrize(
    ("latents", "actions", "message"),
    [
        ([], [], "one sample or more"),
        ([0, 1], [3], "one sample or more"),
        ([0, 8], [3, 3], r"in \[0, 8\), got 8"),
        ([-1, 0], [3, 3], r"in \[0, 8\), got -1"),
        ([0, 1], [3, 15], "real_actions"),
    ],
)
def test_bad_samples_are_rejected(latents: list[int], actions: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ActionMapping.fit(np.array(latents, dtype=int), np.array(actions, dtype=int), 8)
