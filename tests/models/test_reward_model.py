"""The reward model: the frames it sees, what it learns, and saving and loading."""

import json
from pathlib import Path

import pytest
import torch

from genie_gym.models.reward_model import RewardModel, load_reward_model, save_reward_model


@pytest.fixture
def model() -> RewardModel:
    torch.manual_seed(0)
    return RewardModel(("reward", "end"), 32, 48, channels=8).eval().requires_grad_(False)


def test_logits_depend_on_the_two_frames_of_a_transition(model: RewardModel) -> None:
    videos = torch.rand(2, 4, 3, 32, 48)
    logits = model(videos)
    assert logits.shape == (2, 3, 2)
    changed = videos.clone()
    changed[0, 3] = 0.5
    differs = (model(changed) - logits).abs().amax(dim=-1) > 1e-4
    assert differs.tolist() == [[False, False, True], [False, False, False]]
    torch.testing.assert_close(model(videos[:, 1:3]), logits[:, 1:2])


def test_it_learns_to_detect_a_flash(model: RewardModel) -> None:
    model.requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(60):
        is_bright = torch.rand(16, 1, generator=generator) < 0.5
        videos = 0.5 * torch.rand(16, 2, 3, 32, 48, generator=generator)
        videos[:, 1] += 0.5 * is_bright[..., None, None].float()
        target = torch.cat([is_bright, ~is_bright], dim=1).float()
        logits = model(videos)[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ((logits > 0) == target.bool()).all()


def test_loading_returns_what_was_saved(model: RewardModel, tmp_path: Path) -> None:
    again = load_reward_model(save_reward_model(model, tmp_path / "model"))
    videos = torch.rand(1, 2, 3, 32, 48)
    assert torch.equal(again(videos), model(videos))
    assert again.outputs == ("reward", "end")
    assert not any(weight.requires_grad for weight in again.parameters())


def test_damaged_folders_and_wrong_sizes_are_refused(model: RewardModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"reward model .* has no config"):
        load_reward_model(tmp_path)
    folder = save_reward_model(model, tmp_path / "model")
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**about, "channels": 16}))
    with pytest.raises(ValueError, match=r"weights of reward model .* do not fit"):
        load_reward_model(folder)
    (folder / "config.json").write_text(json.dumps({**about, "format": 7}))
    with pytest.raises(ValueError, match="must have format 1, got 7"):
        load_reward_model(folder)
    with pytest.raises(ValueError, match="videos must be"):
        model(torch.rand(1, 2, 3, 32, 32))
    with pytest.raises(ValueError, match="multiples of 16, got 32 and 40"):
        RewardModel(("end",), 32, 40)
    with pytest.raises(ValueError, match="outputs must be one or more different names"):
        RewardModel(("end", "end"), 32, 32)
