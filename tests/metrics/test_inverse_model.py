"""The supervised ceiling of latent actions: what it learns, when it stops, and what it is trained on."""

from typing import Any

import numpy as np
import pytest
import torch

from genie_gym.data.clips import Batch
from genie_gym.metrics import inverse_model
from genie_gym.metrics.action_groups import PROCGEN_GROUPS
from genie_gym.metrics.held_out import ClipPool
from genie_gym.metrics.inverse_model import InverseModel, predict_actions, predict_last_actions, train_inverse_model
from genie_gym.metrics.latent_actions import balanced_accuracy


def test_it_learns_actions_from_frames(coinrun_pool: ClipPool) -> None:
    play = coinrun_pool.draw(48, seed=0)
    trained = train_inverse_model(coinrun_pool, 3, (64, 64), 40, seed=0)
    assert play.real_actions is not None
    predicted, kinds = predict_actions(trained.model, play.videos), PROCGEN_GROUPS.group(play.real_actions)
    assert balanced_accuracy(predicted["up"], kinds["up"], 2) > 0.6
    assert (trained.steps, trained.has_converged) == (40, False)


def test_the_same_seed_gives_the_same_model(coinrun_pool: ClipPool) -> None:
    twins = [train_inverse_model(coinrun_pool, 2, (64, 64), 3, seed=0).model.state_dict() for _ in range(2)]
    assert all(torch.equal(twins[0][name], weights) for name, weights in twins[1].items())


def test_a_transition_is_seen_alike_alone_and_in_its_clip(coinrun_pool: ClipPool) -> None:
    """Also at the start of the clip, where frames before it are missing."""
    torch.manual_seed(0)
    model, training = InverseModel(3, (64, 64)), inverse_model._split_clips(coinrun_pool, seed=0)[0]
    batch = next(training.batches(3, seed=0)(0, 1))
    assert {int(place) for place in batch.numbers % 15} >= {0, 1, 2, 14}
    clips = training.videos[batch.numbers // 15].permute(0, 1, 4, 2, 3).float() / 255
    with torch.no_grad():
        whole, alone = model(clips), model.predict_last(batch.videos)
    for name, logits in alone.items():
        torch.testing.assert_close(logits, whole[name][torch.arange(len(logits)), batch.numbers % 15])
    for name, kinds in predict_last_actions(model, clips).items():
        assert torch.equal(kinds, whole[name][:, -1].argmax(dim=-1))


def test_it_stops_when_held_out_clips_gain_nothing_and_keeps_the_best(
    coinrun_pool: ClipPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gains: list[float] = []
    probe = inverse_model._Fitting.probe

    def watch(fitting: Any, batch: Batch) -> Any:
        metrics = probe(fitting, batch)
        gains.append(float(metrics["held_out_gain"]))
        return metrics

    monkeypatch.setattr(inverse_model._Fitting, "probe", watch)
    monkeypatch.setattr(inverse_model, "_CHECK_EVERY", 1)
    monkeypatch.setattr(inverse_model, "_PATIENCE", 2)
    few = ClipPool(coinrun_pool.dataset, coinrun_pool.numbers[:300])
    trained = train_inverse_model(few, 1, (64, 64), 100, seed=0)
    assert trained.has_converged
    assert trained.steps == len(gains) - 1 < 100
    assert max(gains[-3:]) <= max(gains[:-3])
    held_out = inverse_model._split_clips(few, seed=0)[1]
    best = inverse_model._Fitting(trained.model, held_out, held_out)
    assert probe(best, Batch(torch.empty(0), torch.empty(0)))["held_out_gain"] == pytest.approx(max(gains))


def test_no_transition_is_in_two_clips_and_held_out_levels_are_others(
    coinrun_pool: ClipPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inverse_model, "_read_transitions", lambda pool, numbers: numbers)
    halves: Any = inverse_model._split_clips(coinrun_pool, seed=0)
    training, held_out = halves
    firsts = np.sort(coinrun_pool.dataset.first_frames[np.concatenate(halves)])
    assert np.diff(firsts).min() == 15, "clips share their outer frames at most"
    assert len(held_out) == len(training) // 15 > 0
    levels = [{coinrun_pool.dataset.level(int(number)) for number in half} for half in halves]
    assert len(levels[0] & levels[1]) <= 1


def test_too_few_clips_are_refused(coinrun_pool: ClipPool) -> None:
    one = ClipPool(coinrun_pool.dataset, np.array([0, 1]))
    with pytest.raises(ValueError, match="clips must be two or more that share no transition"):
        train_inverse_model(one, 3, (64, 64), 2, seed=0)
