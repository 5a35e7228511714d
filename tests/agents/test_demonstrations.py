"""Videos without actions, their labels, and policies cloned from them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from agents import demonstrations as module
from agents.acting import PolicyMemory
from agents.cloning import REAL, Cloning, LatentCloning, clone, find_clone
from agents.config import POLICIES
from agents.demonstrations import DemonstrationFolders, require_levels
from agents.labelling import NO_LABEL, cut_stretches, digest_labels, label_dataset
from agents.policy import LatentPolicy, load_policy
from agents.windows import Footage, VideoWindows, Windows, read_footage, read_real_actions
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.data.frames import to_float
from genie_gym.data.shards import Shard
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import load_world
from tests.agents.small import random_frames, small_cloning


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.h5"))


def test_videos_hold_frames_and_no_actions(demonstrations: DemonstrationFolders) -> None:
    for path, twin in zip(shards(demonstrations.videos), shards(demonstrations.oracle), strict=True):
        names: list[str] = []
        with h5py.File(path) as file:
            file.visit(names.append)
        assert sorted(names) == ["episode_starts", "frames", "level_seeds", "player"]
        video, whole = Shard(path), Shard(twin)
        assert np.array_equal(video.read(0, video.num_frames), whole.read(0, whole.num_frames))
        with pytest.raises(ValueError, match="holds no real actions"):
            video.private(0, 1)
    with pytest.raises(ValueError, match="holds no real actions"):
        read_real_actions(demonstrations.videos)


def test_labelled_games_are_others(demonstrations: DemonstrationFolders) -> None:
    one, other = Shard(shards(demonstrations.oracle)[0]), Shard(shards(demonstrations.labelled)[0])
    number = other.num_frames
    assert not np.array_equal(one.level_seeds[:number], other.level_seeds)
    for folder in demonstrations:
        require_levels(shards(folder)[0], "training")
        with pytest.raises(ValueError, match=r"test levels must be 20000..20999"):
            require_levels(shards(folder)[0], "test")


def test_recording_resumes(demonstrations: DemonstrationFolders) -> None:
    again = module.Demonstrations(out=demonstrations.videos.parent, frames=2048, labelled_frames=1024, num_envs=8)
    missing = shards(demonstrations.videos)[-1]
    before, others = missing.read_bytes(), shards(demonstrations.oracle)[0].stat().st_mtime_ns
    missing.unlink()
    assert again.run() == demonstrations
    assert missing.read_bytes() == before
    assert shards(demonstrations.oracle)[0].stat().st_mtime_ns == others


def test_a_longer_recording_replaces_its_videos(tmp_path: Path) -> None:
    for frames in (128, 256):
        folders = module.Demonstrations(
            out=tmp_path, player="random", frames=frames, labelled_frames=128, num_envs=2
        ).run()
        assert Shard(shards(folders.videos)[0]).num_frames == frames


def test_stretches_hold_every_transition_once() -> None:
    starts = np.zeros(300, dtype=bool)
    starts[[0, 1, 2, 150, 299]] = True
    kept = [t for each in cut_stretches(starts, 3) for t in range(each.start, each.stop)]
    assert kept == [t for t in range(300) if t not in {0, 1, 149, 298, 299}]
    begins = {t: max(begin for begin in np.flatnonzero(starts) if begin <= t) for t in kept}
    for each in cut_stretches(starts, 3):
        assert each.first == max(begins[each.start], each.start - 2)


@pytest.mark.parametrize("variant", ["additive", "moving", "token-lam"])
def test_labels_are_those_of_whole_episodes(
    demonstrations: DemonstrationFolders, make_world: Callable[[str], GenieWorldModel], variant: str
) -> None:
    world, dataset = make_world(variant), ClipDataset(demonstrations.labelled, clip_length=2)
    labels, footage = label_dataset(world, dataset), read_footage(dataset)
    bounds = [*np.flatnonzero(footage.episode_starts), len(labels)]
    assert (labels[[end - 1 for end in bounds[1:]]] == NO_LABEL).all()
    assert len(np.unique(labels)) > 3
    longest = int(np.argmax(np.diff(bounds)))
    begin, end = bounds[longest], min(bounds[longest + 1], bounds[longest] + 200)
    whole = world.label(to_float(footage.frames[begin:end])[None])[0].numpy()
    agreement = (whole == labels[begin : end - 1]).mean()
    is_local = (
        world.config.latent_action_model.backbone == "conv"
    )  # else a label depends on more past than its stretch holds
    assert agreement >= (1 if is_local else 0.8)


def test_labels_are_cached_and_damaged_ones_rejected(
    demonstrations: DemonstrationFolders, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, dataset = load_world(tiny_checkpoint), ClipDataset(demonstrations.labelled, clip_length=2)
    labels = label_dataset(world, dataset, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(GenieWorldModel, "label", None)
        assert np.array_equal(label_dataset(world, dataset, tmp_path), labels)
    path = next(tmp_path.glob("*.safetensors"))
    path.write_bytes(b"cut")
    with pytest.raises(ValueError, match="damaged"):
        label_dataset(world, dataset, tmp_path)


def test_unpacked_frames_are_kept(
    demonstrations: DemonstrationFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos, labelled = (ClipDataset(each, clip_length=2) for each in (demonstrations.videos, demonstrations.labelled))
    wanted = read_footage(labelled)
    for _ in range(2):
        kept = read_footage(labelled, tmp_path)
        assert np.array_equal(kept.frames, wanted.frames)
        assert np.array_equal(kept.episode_starts, wanted.episode_starts)
        monkeypatch.setattr(ClipDataset, "read_all", None)  # read once
    monkeypatch.undo()
    assert len(read_footage(videos, tmp_path).frames) == videos.num_frames != labelled.num_frames
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_windows_on_a_gpu_are_the_same() -> None:
    here = bright_footage()
    there = VideoWindows(Footage(here.frames, np.arange(200) % 20 == 0).upload("cuda"), 4)
    numbers = np.arange(200)
    assert torch.equal(there.videos_at(numbers).cpu(), here.videos_at(numbers))


def test_windows_stay_in_their_episode() -> None:
    starts = np.zeros(10, dtype=bool)
    starts[[0, 6]] = True
    frames, actions = random_frames(10), np.array([0, 1, 2, 3, 4, NO_LABEL, 1, 2, 3, NO_LABEL])
    windows = Windows(Footage(frames, starts), actions, 5, 4)
    assert list(windows.targets) == [0, 1, 2, 3, 4, 6, 7, 8]
    videos = windows.videos_at(np.array([1, 4, 7]))
    wanted = [[0, 0, 0, 1], [1, 2, 3, 4], [6, 6, 6, 7]]
    assert torch.equal(videos, to_float(frames[np.array(wanted)]))
    assert windows.past_at(np.array([1, 4, 7])).tolist() == [[5, 5, 0], [1, 2, 3], [5, 5, 1]]
    ahead = windows.ahead_at(np.array([1, 4, 7, 9]), 2).tolist()
    assert ahead == [[2, 3], [NO_LABEL, NO_LABEL], [3, NO_LABEL], [NO_LABEL, NO_LABEL]]
    with pytest.raises(ValueError, match=r"actions must be \(10,\)"):
        Windows(Footage(frames, starts), actions[:-1], 5, 4)
    with pytest.raises(ValueError, match=r"in \[0, 4\), got 4"):
        Windows(Footage(frames, starts), actions, 4, 4)
    with pytest.raises(ValueError, match=r"latents must be \(10,\), one a frame, got \(9,\)"):
        Windows(Footage(frames, starts), actions, 5, 4, latents=actions[:-1], num_latents=5)
    with pytest.raises(ValueError, match=r"latents must be in \[0, 4\), got 4"):
        Windows(Footage(frames, starts), actions, 5, 4, latents=actions, num_latents=4)
    with pytest.raises(ValueError, match="num_latents must be 0 without latents, got 5"):
        Windows(Footage(frames, starts), actions, 5, 4, num_latents=5)


def bright_footage(has_latents: bool = False) -> Windows:
    """Windows whose action, and latent action if they have one, is whether the frame is bright."""
    is_bright = np.random.default_rng(0).integers(2, size=200)
    frames = (random_frames(200) // 4 + 190 * is_bright[:, None, None, None]).astype(np.uint8)
    footage = Footage(frames, np.arange(200) % 20 == 0)
    return Windows(
        footage, is_bright, 2, 4, latents=is_bright if has_latents else None, num_latents=2 if has_latents else 0
    )


@pytest.mark.parametrize(("has_latents", "ahead"), [(False, 0), (True, 0), (False, 3)])
def test_cloning_learns_and_resumes(tmp_path: Path, has_latents: bool, ahead: int) -> None:
    windows, config = bright_footage(has_latents), replace(small_cloning(40), actions_ahead=ahead)
    whole = clone(windows, config, "test", tmp_path / "whole", progress=False)
    assert whole is not None
    numbers = np.arange(200)
    agreement = whole(windows.videos_at(numbers), windows.past_at(numbers)).argmax(dim=1).numpy()
    assert (agreement == windows.labels_at(numbers).numpy()).mean() > 0.95
    assert clone(windows, config, "test", tmp_path / "cut", minutes=0, progress=False) is None
    resumed = clone(windows, config, "test", tmp_path / "cut", progress=False)
    assert resumed is not None
    for name, weight in resumed.state_dict().items():
        assert torch.equal(weight, whole.state_dict()[name]), name
    with pytest.raises(ValueError, match="cloned from labels of 'test'"):
        clone(windows, config, REAL, tmp_path / "whole", progress=False)
    with pytest.raises(ValueError, match="another config"):
        clone(windows, small_cloning(50), "test", tmp_path / "whole", progress=False)
    assert find_clone(config, "test", tmp_path / "nowhere") is None
    found = find_clone(config, "test", tmp_path / "whole")
    assert found is not None
    assert torch.equal(found.head.weight, whole.head.weight)
    for other in (small_cloning(50), replace(config, policy=replace(config.policy, sees_actions=False))):
        with pytest.raises(ValueError, match="another config"):
            find_clone(other, "test", tmp_path / "whole")
    with pytest.raises(ValueError, match="one or more frames"):
        clone(windows, config, REAL, tmp_path / "none", progress=False, among=np.empty(0, dtype=int))


def test_next_actions_are_predicted_up_to_the_end_of_the_episode() -> None:
    frames, starts = random_frames(40), np.arange(40) % 20 == 0
    actions = np.where(np.arange(40) % 20 == 19, NO_LABEL, np.arange(40) % 2)
    windows = Windows(Footage(frames, starts), actions, 2, 4)
    numbers = np.array([4, 17, 18, 25])  # followed by actions 1 0, 0, none, 0 1
    batch = Batch(windows.videos_at(numbers), torch.from_numpy(numbers))
    config = replace(small_cloning(1), actions_ahead=2, ahead_weight=3.0)
    trainee = Cloning(LatentPolicy(config.policy, 2), windows, config)
    with torch.no_grad():
        trainee.ahead_head.bias.copy_(torch.tensor([9.0, 0.0, 0.0, 9.0]))  # predicts 0 1
    right, wrong = np.log1p(np.exp(-9)), 9 + np.log1p(np.exp(-9))
    loss = np.log(2) + 3 * (2 * wrong + 3 * right) / 5  # the policy itself is new and knows nothing
    assert trainee.loss(batch).loss.item() == pytest.approx(loss, rel=1e-4)
    ended = Batch(batch.videos[2:3], batch.numbers[2:3])
    assert trainee.loss(ended).loss.item() == pytest.approx(np.log(2), rel=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_policy_cloned_on_a_gpu_plays_the_same_there_and_here(tmp_path: Path) -> None:
    windows, numbers = bright_footage(), np.arange(200)
    there = clone(windows, small_cloning(10), "test", tmp_path, progress=False, device="cuda")
    assert there is not None
    here, videos, past = load_policy(tmp_path / "policy"), windows.videos_at(numbers), windows.past_at(numbers)
    torch.testing.assert_close(there(videos.cuda(), past.cuda()).cpu(), here(videos, past), atol=0.01, rtol=0.01)
    chosen, features = PolicyMemory(there, 200, np.random.default_rng(0)).choose(
        numbers, random_frames(200), np.ones(200, dtype=np.bool_)
    )
    assert chosen.shape == (200,)
    assert features.device.type == "cpu"


def test_latent_cloning_by_command(
    demonstrations: DemonstrationFolders, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(POLICIES, "compact", small_cloning(3))
    command = LatentCloning(videos=demonstrations.videos, checkpoint=str(tiny_checkpoint), out=tmp_path, train_steps=2)
    command.run()
    policy = load_policy(tmp_path / "policy")
    world = load_world(tiny_checkpoint)
    assert (policy.num_actions, policy.label_source) == (world.config.num_latent_actions, digest_labels(world))
