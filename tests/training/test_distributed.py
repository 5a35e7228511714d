"""Training by two processes: the same losses as by one, whatever is random or a batch's statistic."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.rank_helpers import WORLDS, Pair, curve, train


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Return two processes that serve all tests of this file."""
    made = Pair()
    yield made
    made.end()


def train_both(pair: Pair, kind: str, folder: Path, changes: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Return the losses of one process and of two."""
    train(kind, folder / "one", changes)
    pair.check(train, kind, folder / "two", changes)
    return curve(folder / "one"), curve(folder / "two")


@pytest.mark.parametrize("kind", WORLDS)
def test_two_processes_have_the_losses_of_one(pair: Pair, tmp_path: Path, kind: str) -> None:
    one, two = train_both(pair, kind, tmp_path, {"train_steps": 20})
    print(kind, max(abs(a - b) / abs(a) for a, b in zip(one, two)), one[0], one[-1])
    assert len(one) == 20
    assert two == pytest.approx(one, rel=1e-5)
