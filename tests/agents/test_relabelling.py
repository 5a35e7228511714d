"""Real actions decoded from few samples: what decoders see, what they return, and policies cloned from it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents import clone_store, relabelling
from agents.clone_store import RELABELLINGS, CloneStore, Relabelling
from agents.cloning import Cloning, shift_windows
from agents.config import CloningConfig
from agents.demonstrations import DemonstrationFolders, Demonstrations
from agents.game import COINRUN
from agents.inverse_decoder import InverseDecoder
from agents.labelling import NO_LABEL, describe_dataset, describe_transitions, label_dataset
from agents.policy import LatentPolicy
from agents.regression import choose_penalty, fit_logistic
from agents.relabelling import FeatureDecoder, FeatureResiduals, draw_relabels
from agents.windows import Footage, Windows, read_footage, read_real_actions
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.data.frames import to_float
from genie_gym.models.world_model import GenieWorldModel
from tests.agents.small import SMALL, random_frames, small_cloning

LABELS = 40


@pytest.fixture
def store(
    demonstrations: DemonstrationFolders, make_world: Callable[[str], GenieWorldModel], tmp_path: Path
) -> CloneStore:
    """A store on recordings whose files hold no oracle, with decoders of few samples and steps."""
    for name in ("videos", "labelled"):
        shutil.copytree(getattr(demonstrations, name), tmp_path / name)

    class Recorded(Demonstrations):
        def record_videos(self) -> Path:
            return self.folders.videos

        def record_labelled(self) -> Path:
            return self.folders.labelled

    config = small_cloning(3)
    return CloneStore(
        Recorded(out=tmp_path),
        make_world("moving"),
        config,
        config,
        tmp_path / "work",
        relabel_samples=LABELS,
        inverse_steps=3,
    )


@pytest.mark.parametrize("variant", ["additive", "moving", "token-lam"])
def test_features_are_those_of_whole_episodes(
    demonstrations: DemonstrationFolders, make_world: Callable[[str], GenieWorldModel], variant: str
) -> None:
    world, dataset = make_world(variant), ClipDataset(demonstrations.labelled, clip_length=2)
    features, footage = describe_dataset(world, dataset), read_footage(dataset)
    has_label = label_dataset(world, dataset) != NO_LABEL
    assert np.array_equal(np.isnan(features).all(axis=1), ~has_label)
    assert not np.isnan(features[has_label]).any()
    assert features[has_label].std(axis=0).max() > 0
    if world.config.latent_action_model.backbone != "st":  # else features depend on more past than a stretch holds
        end = int(np.flatnonzero(~has_label)[0])
        whole = describe_transitions(world, to_float(footage.frames[: end + 1])[None])[0].half().numpy()
        np.testing.assert_allclose(whole, features[:end], atol=0.01, rtol=0.01)


def test_latents_are_linear_in_the_features_of_a_moving_model(make_world: Callable[[str], GenieWorldModel]) -> None:
    model = make_world("moving").latent_action_model
    videos = torch.rand(2, 5, 3, model.config.height, model.config.width)
    latents = model.backbone.encode(videos, torch.float32).latents
    torch.testing.assert_close(model.backbone.latent_out(model.features(videos)), latents)  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("name", RELABELLINGS)
def test_videos_are_relabelled_and_cloned_without_their_real_actions(
    store: CloneStore, name: Relabelling, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(clone_store, "read_real_actions", lambda path: read.append(path) or read_real_actions(path))
    assert store.lacks(name, 0)
    store.make_shared(name, 0)
    assert not store.lacks(name, 0)
    assert read == [store.recordings.folders.labelled]
    assert not store.recordings.folders.oracle.exists()
    policy = store.relabelled(name, 0)
    assert policy.num_actions == COINRUN.num_actions
    assert policy.label_source.startswith(name)
    distributions = store.relabel(name, 0)
    has_next = ~np.append(store.footage.episode_starts[1:], True)
    assert distributions.sum(axis=1) == pytest.approx(has_next.astype(float), abs=0.01)
    assert (distributions[:, 9:] == 0).all()  # special keys make move 4


def test_latent_actions_are_learned_beside_those_decoded_from_their_features_alone(
    store: CloneStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the world has, also if the videos lack the last ones."""
    label, number = store._label, store.world.config.num_latent_actions
    monkeypatch.setattr(store, "_label", lambda dataset: np.minimum(label(dataset), number - 3))
    assert store._open_relabelled_windows("lam_relabel", 0).num_latents == number
    assert store._open_relabelled_windows("idm_relabel", 0).num_latents == 0


@pytest.mark.parametrize("name", RELABELLINGS)
def test_a_relabelling_is_read_once_it_is_made(
    store: CloneStore, name: Relabelling, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store.relabel(name, 0)
    monkeypatch.setattr(CloneStore, "_decode", None)
    assert np.array_equal(store.relabel(name, 0), made)
    store.relabel_samples = LABELS + 1  # other samples, another file
    with pytest.raises(TypeError):
        store.relabel(name, 0)


@pytest.mark.parametrize("name", RELABELLINGS)
def test_decoders_see_the_actions_of_their_samples_alone(store: CloneStore, name: Relabelling) -> None:
    decoded, numbers = store._decode(name, 0), store._draw(LABELS, 0)
    actions = store._labelled_actions
    others = np.setdiff1d(np.flatnonzero(actions != NO_LABEL), numbers)
    store.__dict__["_labelled_actions"] = changed = actions.copy()
    changed[others] = (actions[others] + 1) % COINRUN.num_actions
    assert np.array_equal(store._decode(name, 0), decoded)
    changed[numbers] = (actions[numbers] + 1) % COINRUN.num_actions
    assert not np.array_equal(store._decode(name, 0), decoded)


def test_an_inverse_decoder_sees_no_frame_far_from_its_samples(demonstrations: DemonstrationFolders) -> None:
    footage = read_footage(ClipDataset(demonstrations.labelled, clip_length=2))
    actions = read_real_actions(demonstrations.labelled)
    numbers = np.flatnonzero(actions != NO_LABEL)[:12:2]
    frames = footage.frames.copy()
    frames[numbers[-1] + 2 :] = 0
    some = Footage(footage.frames[:64], footage.episode_starts[:64])
    one, other = (
        InverseDecoder(each, numbers, actions[numbers], COINRUN, 0, most_steps=2).decode(some)
        for each in (footage, Footage(frames, footage.episode_starts))
    )
    assert np.array_equal(one, other)


def bright_changes(number: int) -> tuple[Footage, np.ndarray]:
    """Frames that grow brighter after action 7 and darker after action 1, in episodes of ten."""
    actions = np.random.default_rng(0).choice([1, 7], size=number)
    starts = np.arange(number) % 10 == 0
    frames = random_frames(number) // 4
    for t in range(1, number):
        if not starts[t]:
            frames[t] = np.clip(frames[t - 1].astype(int) + np.where(actions[t - 1] == 7, 20, -20), 0, 255)
        else:
            frames[t] = frames[t] // 2 + 90
    return Footage(frames, starts), np.where(np.append(starts[1:], True), NO_LABEL, actions)


def test_an_inverse_decoder_learns_from_few_samples() -> None:
    footage, actions = bright_changes(400)
    known = np.flatnonzero(actions != NO_LABEL)
    decoder = InverseDecoder(footage, known[:40], actions[known[:40]], COINRUN, 0, most_steps=60)
    decoded = decoder.decode(footage)
    assert (decoded[known[40:]].argmax(axis=1) == actions[known[40:]]).mean() > 0.9
    assert decoded.sum(axis=1) == pytest.approx((actions != NO_LABEL).astype(float), abs=0.01)


def test_a_perfect_decoder_gives_the_oracles_labels() -> None:
    """Features that tell the action: relabelled videos have the real moves, and so do the windows cloned from."""
    rng = np.random.default_rng(0)
    actions = rng.integers(15, size=3000)
    actions[::50] = NO_LABEL
    features = np.eye(15, dtype=np.float16)[COINRUN.moves[actions]] * 10 + rng.normal(size=(3000, 15)) * 0.01
    features[actions == NO_LABEL] = np.nan
    samples = np.flatnonzero(actions != NO_LABEL)[:200]
    decoded = FeatureDecoder(features[samples], actions[samples], COINRUN).decode(features.astype(np.float16))
    oracle = np.where(actions == NO_LABEL, NO_LABEL, COINRUN.moves[actions])
    assert np.array_equal(np.where(decoded.sum(axis=1) > 0, decoded.argmax(axis=1), NO_LABEL), oracle)
    drawn = draw_relabels(decoded, 0)
    assert np.array_equal(drawn == NO_LABEL, actions == NO_LABEL)
    assert (drawn == oracle).mean() > 0.95  # the rest is the share of the one unknown sample


def test_the_penalty_suits_the_samples() -> None:
    """Noise is penalised more than what tells the class."""
    rng, targets = np.random.default_rng(0), torch.arange(60) % 2
    noise = torch.from_numpy(rng.normal(size=(60, 30))).float()
    noise[:, -1] = 1
    telling = noise.clone()
    telling[:, 0] = targets * 2.0 - 1
    assert choose_penalty(telling, targets, 2) < choose_penalty(noise, targets, 2)
    weights = fit_logistic(telling, targets, 2, 1e-3)
    assert torch.equal((telling @ weights).argmax(dim=1), targets)


@pytest.mark.parametrize(
    ("actions", "message"),
    [([3], "two samples or more"), ([3, 4, 5], "two samples or more"), ([3, 15], r"in \[0, 15\), got 15")],
)
def test_bad_samples_of_decoders_are_rejected(actions: list[int], message: str) -> None:
    features = np.zeros((1 if len(actions) == 1 else 2, 4), dtype=np.float16)
    with pytest.raises(ValueError, match=message):
        FeatureDecoder(features, np.array(actions), COINRUN)


def trainee(
    distributions: np.ndarray | None, latents: np.ndarray | None = None, **changes: Any
) -> tuple[Cloning, Batch]:
    """A cloning on sixteen frames with five actions and, if any, four latent ones, and a batch of them."""
    footage = Footage(random_frames(16), np.arange(16) % 8 == 0)
    windows = Windows(footage, np.arange(16) % 5, 5, 4, distributions, latents, 0 if latents is None else 4)
    torch.manual_seed(0)
    policy = LatentPolicy(SMALL, 5)
    torch.nn.init.normal_(policy.head.weight)
    numbers, config = np.arange(16), replace(small_cloning(3), **changes)
    return Cloning(policy, windows, config), Batch(windows.videos_at(numbers), torch.from_numpy(numbers))


def test_soft_targets_of_one_action_equal_hard_ones() -> None:
    one_hot = np.eye(5, dtype=np.float16)[np.arange(16) % 5]
    (hard, batch), (soft, _) = trainee(None), trainee(one_hot)
    (hard_loss, hard_metrics), (soft_loss, soft_metrics) = hard.loss(batch), soft.loss(batch)
    torch.testing.assert_close(soft_loss, hard_loss)
    assert soft_metrics == hard_metrics
    mixed, _ = trainee(np.full((16, 5), 0.2))
    assert not torch.isclose(mixed.loss(batch).loss, hard_loss)


@pytest.mark.parametrize(("decoder_share", "true_share"), [(1.0, 0.58), (1 / 3, 0.67), (0.1, 0.79)])
def test_posteriors_sharpen_what_a_blurred_decoder_tells(decoder_share: float, true_share: float) -> None:
    """Dark frames mean action 0 and bright ones action 1; the decoder knows each transition's action in 7 of 10.

    What it tells of one kind of frame is, on average, .7 x .7 + .3 x .3 = .58. The other shares are the fixed points of
    the mixture with posteriors.
    """
    frames = 40
    is_bright, says_other = np.arange(frames) % 2 > 0, np.arange(frames) % 20 < 6
    videos = np.broadcast_to(np.where(is_bright, 200, 50).astype(np.uint8)[:, None, None, None], (frames, 64, 64, 3))
    distributions = np.where((is_bright ^ says_other)[:, None], [0.3, 0.7, 0], [0.7, 0.3, 0]).astype(np.float16)
    windows = Windows(
        Footage(np.ascontiguousarray(videos), np.ones(frames, dtype=bool)), is_bright + 0, 3, 4, distributions
    )
    policy = replace(SMALL, widths=(16, 16, 16), features=64)  # smaller ones learn too slowly
    config = replace(small_cloning(100, policy), decoder_share=decoder_share, posterior_after=0.2)
    torch.manual_seed(0)
    cloning = Cloning(LatentPolicy(config.policy, 3), windows, config).train()
    optimizer, numbers = torch.optim.Adam(cloning.parameters(), 3e-3), np.arange(frames)
    batch = Batch(windows.videos_at(numbers), torch.from_numpy(numbers))
    for _ in range(config.training.train_steps):
        optimizer.zero_grad()
        cloning.loss(batch).loss.backward()
        optimizer.step()
    with torch.no_grad():
        shares = cloning.policy(batch.videos, windows.past_at(numbers)).softmax(dim=1).numpy()
    told = shares[numbers, is_bright + 0].mean()
    assert told == pytest.approx(true_share, abs=0.02)
    assert shares[:, 2].max() < 0.01  # no transition was decoded as it


def test_an_action_that_is_never_decoded_is_not_lifted() -> None:
    windows = Windows(
        Footage(random_frames(2), np.zeros(2, dtype=bool)), np.array([0, NO_LABEL]), 3, 4, np.array([[0.2, 0.8, 0]] * 2)
    )
    lifts = windows.lifts(torch.tensor([[0.4, 0.4, 0.2]]))
    torch.testing.assert_close(lifts, torch.tensor([[2.0, 0.5, 0.0]]))


def test_residuals_leave_out_what_the_transition_before_tells() -> None:
    """A speed that an action of -1, 0 or 1 changes a little, in episodes of ten frames."""
    rng, frames = np.random.default_rng(0), 4000
    starts, ends = np.arange(frames) % 10 == 0, np.arange(frames) % 10 == 9
    actions, speeds = rng.integers(-1, 2, size=frames), np.zeros(frames)
    for t in range(frames):
        speeds[t] = rng.normal() if starts[t] else 0.9 * speeds[t - 1] + 0.3 * actions[t]
    features = np.stack([speeds, rng.normal(size=frames)], axis=1)
    features[ends] = np.nan
    residuals = FeatureResiduals(features, starts)
    found, inside = residuals.find(features, starts), ~starts & ~ends
    assert np.array_equal(np.isnan(found).any(axis=1), ends)
    assert abs(np.corrcoef(found[inside, 0], actions[inside])[0, 1]) > 0.95
    assert abs(np.corrcoef(features[inside, 0], actions[inside])[0, 1]) < 0.6
    assert abs(np.corrcoef(found[inside, 0], np.roll(speeds, 1)[inside])[0, 1]) < 0.1
    other = residuals.find(features[:20], starts[:20])
    np.testing.assert_array_equal(other, found[:20])  # each transition by itself and the one before


def test_latent_actions_add_a_weighted_loss() -> None:
    latents = np.arange(16) % 3
    trainees = [trainee(None, latents, auxiliary_weight=weight) for weight in (0.0, 0.5, 2.0)]
    losses = [cloning.loss(batch).loss.item() for cloning, batch in trainees]
    assert np.diff(losses) / np.log(4) == pytest.approx([0.5, 1.5])  # the new layer predicts them alike, all four


def test_residuals_do_not_depend_on_the_parts_that_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, frames = np.random.default_rng(0), 300
    features, starts = rng.normal(size=(frames, 4)).cumsum(axis=0).astype(np.float16), np.arange(frames) % 25 == 0
    features[np.arange(frames) % 25 == 24] = np.nan
    whole = FeatureResiduals(features, starts).find(features, starts)
    monkeypatch.setattr(relabelling, "_PART", 7)
    np.testing.assert_allclose(FeatureResiduals(features, starts).find(features, starts), whole, rtol=1e-3, atol=1e-4)


def test_distributions_of_another_size_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"distributions must be \(16, 5\), one a frame, got \(16, 4\)"):
        trainee(np.full((16, 4), 0.25))


def test_all_frames_of_a_window_are_shifted_alike() -> None:
    torch.manual_seed(0)
    frame = torch.rand(64, 1, 3, 32, 40)
    videos = torch.cat([frame, frame + 1], dim=1)
    shifted = shift_windows(videos, 3)
    assert shifted.shape == videos.shape
    torch.testing.assert_close(shifted[:, 1], shifted[:, 0] + 1)
    found = set()
    for before, after in zip(frame[:, 0], shifted[:, 0], strict=True):
        moves = [
            (y, x)
            for y in range(-3, 4)
            for x in range(-3, 4)
            if torch.equal(after[:, 3:-3, 3:-3], before[:, 3 + y : 29 + y, 3 + x : 37 + x])
        ]
        assert len(moves) == 1
        found.add(moves[0])
        y, x = moves[0]
        rows, columns = torch.arange(32).add(y).clamp(0, 31), torch.arange(40).add(x).clamp(0, 39)
        assert torch.equal(after, before[:, rows][:, :, columns])  # edges are repeated
    assert len(found) > 20


def test_windows_are_shifted_in_training_alone() -> None:
    cloning, batch = trainee(None, random_shift=4)
    plain, _ = trainee(None)
    torch.manual_seed(1)
    assert not torch.isclose(cloning.train().loss(batch).loss, plain.train().loss(batch).loss)
    assert torch.equal(cloning.eval().loss(batch).loss, plain.eval().loss(batch).loss)


def test_a_clone_of_another_shift_is_rejected(store: CloneStore) -> None:
    store.relabelled("lam_relabel", 0)
    other: CloningConfig = replace(small_cloning(3), random_shift=2)
    store.config = other
    with pytest.raises(ValueError, match="another config"):
        store.relabelled("lam_relabel", 0)
    with pytest.raises(ValueError, match=r"CloningConfig.random_shift must be 0 or more, got -1"):
        replace(other, random_shift=-1)
