"""Frechet distances against closed forms, the input of I3D, and distortions measured by our own network."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.release.video_features import DISTORTIONS, add_noise, blur, freeze, shuffle
from genie_gym.metrics.fvd import frechet_distance, load_i3d, prepare_for_i3d, procgen_features
from genie_gym.metrics.video_features import VideoFeatures, load_features
from genie_gym.nn.weights import save_half


def gaussian(rows: int, mean: Tensor, root: Tensor, seed: int) -> Tensor:
    """Rows whose sample mean and covariance are exactly ``mean`` and ``root @ root.T``."""
    noise = torch.randn(rows, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    noise = noise - noise.mean(dim=0)
    whitened = noise @ torch.linalg.inv(torch.linalg.cholesky(noise.T.cov())).T
    return mean + whitened @ root.T


def test_distance_of_two_gaussians_with_diagonal_spread() -> None:
    deviations, others = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 2.0, 1.5]).double()
    mean = torch.tensor([1.0, -2.0, 2.0]).double()
    first = gaussian(50, torch.zeros(3).double(), torch.diag(deviations), seed=0)
    second = gaussian(80, mean, torch.diag(others), seed=1)
    expected = float(mean.square().sum() + (deviations - others).square().sum())  # for covariances that commute
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_distance_of_two_gaussians_with_covariances_that_do_not_commute() -> None:
    """In two dimensions Tr (S1 S2)^1/2 = sqrt(Tr(S1 S2) + 2 sqrt(det S1 det S2))."""
    roots = [torch.tensor([[1.0, 0.0], [0.8, 0.6]]).double(), torch.tensor([[2.0, 0.3], [-1.0, 0.7]]).double()]
    first, second = (gaussian(40, torch.zeros(2).double(), root, seed) for seed, root in enumerate(roots))
    one, two = (root @ root.T for root in roots)
    crossed = torch.sqrt((one @ two).trace() + 2 * torch.sqrt(torch.linalg.det(one) * torch.linalg.det(two)))
    expected = float(one.trace() + two.trace() - 2 * crossed)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_distance_to_itself_is_zero_and_distance_is_symmetric() -> None:
    first, second = torch.randn(10, 30), torch.randn(12, 30) + 1  # fewer rows than features
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-4)
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first), rel=1e-6)


@pytest.mark.parametrize("wrong", [torch.zeros(1, 3), torch.zeros(4, 2), torch.full((4, 3), torch.nan)])
def test_wrong_features_are_refused(wrong: Tensor) -> None:
    with pytest.raises(ValueError, match="others must be"):
        frechet_distance(torch.randn(4, 3), wrong)


def test_frames_are_scaled_and_cropped_for_i3d(random_videos) -> None:
    prepared = prepare_for_i3d(random_videos(2, 10, 48, 80))
    assert prepared.shape == (2, 3, 10, 224, 224)
    assert prepared.min() >= -1
    assert prepared.max() <= 1
    halves = torch.zeros(1, 10, 3, 64, 128)
    halves[..., 64:] = 1
    cropped = prepare_for_i3d(halves)  # the centre: half dark, half light
    torch.testing.assert_close(cropped[..., :100], torch.full((1, 3, 10, 224, 100), -1.0))
    torch.testing.assert_close(cropped[..., -100:], torch.ones(1, 3, 10, 224, 100))
    with pytest.raises(ValueError, match="at least 10 frames"):
        prepare_for_i3d(random_videos(1, 9))


@pytest.mark.skipif("GENIE_GYM_I3D" not in os.environ, reason="GENIE_GYM_I3D names no file of genie-gym convert-i3d")
def test_i3d_gives_the_known_distance_of_zeros_and_ones() -> None:
    extract = load_i3d(Path(os.environ["GENIE_GYM_I3D"]))
    shape = (2, 30, 3, 64, 64)  # clips that are all alike: more of them would not change the distance
    assert frechet_distance(extract(torch.zeros(shape)), extract(torch.ones(shape))) == pytest.approx(151.39, abs=0.01)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_our_distance_grows_with_every_distortion(name: str, coinrun_clips: Tensor) -> None:
    distort, sizes = DISTORTIONS[name]
    real = procgen_features(coinrun_clips)
    distances = [frechet_distance(real, procgen_features(distort(coinrun_clips, size))) for size in sizes]
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-3)
    assert distances[0] > 0.01
    assert distances == sorted(distances), distances


def test_distortions_on_videos_made_by_hand() -> None:
    videos = torch.arange(16.0).view(1, 16, 1, 1, 1).expand(1, 16, 3, 4, 4) / 16
    order = shuffle(videos, 1.0)[0, :, 0, 0, 0]
    assert not order.equal(videos[0, :, 0, 0, 0])
    assert order.sort().values.equal(videos[0, :, 0, 0, 0])
    frozen = freeze(videos, 5)[0, :, 0, 0, 0]
    assert frozen[:11].equal(videos[0, :11, 0, 0, 0])
    assert (frozen[10:] == frozen[10]).all()
    dot = torch.zeros(1, 1, 1, 9, 9)
    dot[..., 4, 4] = 9.0
    assert (blur(dot, 3)[..., 3:6, 3:6] == 1).all()
    assert add_noise(torch.full((1, 2, 3, 64, 64), 0.5), 0.1).std().item() == pytest.approx(0.1, rel=0.05)


def test_features_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "features.safetensors"
    save_half(VideoFeatures(), path)
    assert path.stat().st_size < 2 * 2**20
    assert isinstance(load_features(path), VideoFeatures)
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"other\.safetensors"):
        load_features(other)


def test_features_take_videos_of_any_size(random_videos) -> None:
    assert procgen_features(random_videos(3, 16, 48, 80)).shape == (3, 64)
    with pytest.raises(ValueError, match="at least 2 frames"):
        procgen_features(random_videos(1, 1))
