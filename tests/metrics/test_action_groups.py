"""Real actions of any game grouped by what their names tell, and latent actions compared with them."""

from pathlib import Path

import pytest
import torch

from genie_gym.data.config import RecordConfig
from genie_gym.data.env_games import find_action_space
from genie_gym.data.record import record
from genie_gym.metrics.action_groups import PROCGEN_GROUPS, find_groups, group_by_names
from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.gather import gather_data
from genie_gym.metrics.inverse_model import train_inverse_model
from genie_gym.metrics.latent_actions import fit_maps, score_labels
from genie_gym.players.specs import parse_shares


def test_directions_are_read_from_the_names_of_actions() -> None:
    names = ["NOOP", "FIRE", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "DOWNLEFTFIRE"]
    groups = group_by_names(8, names)
    kinds = groups.group(torch.arange(8))
    assert kinds["direction"].tolist() == [1, 1, 1, 2, 0, 1, 2, 0]
    assert kinds["vertical"].tolist() == [1, 1, 2, 1, 1, 0, 2, 0]
    assert kinds["all"].tolist() == list(range(8))
    assert groups.names == {
        "direction": "left / neither / right",
        "vertical": "down / neither / up",
        "all": "8 actions",
    }
    assert groups.finest == "all"


def test_sides_that_no_action_has_are_left_out() -> None:
    groups = group_by_names(3, ["NOOP", "UP", "DOWN"])
    assert list(groups.kinds) == ["vertical", "all"]
    assert list(group_by_names(2, ["NOOP", "RIGHT"]).sizes.values()) == [2, 2]
    assert list(group_by_names(3, []).kinds) == ["all"]


def test_actions_that_do_not_begin_at_zero_are_grouped_and_others_refused() -> None:
    groups = group_by_names(3, [], first=-1)
    assert groups.group(torch.tensor([-1, 0, 1]))["all"].tolist() == [0, 1, 2]
    for wrong in (-2, 2):
        with pytest.raises(ValueError, match=rf"real_actions must be in \[-1, 2\), got {wrong}"):
            groups.group(torch.tensor([0, wrong]))


def test_true_actions_keep_all_and_a_constant_label_nothing() -> None:
    groups = group_by_names(4, ["NOOP", "LEFT", "RIGHT", "FIRE"])
    actions = torch.randint(4, (8, 9), generator=torch.Generator().manual_seed(0))
    scores = score_labels(actions, actions, fit_maps(actions, actions, 4, groups), groups.group(actions), groups)
    assert all(scores[name]["kept"] == 1 for name in groups.kinds)
    still = torch.zeros_like(actions)
    scores = score_labels(still, actions, fit_maps(still, actions, 4, groups), groups.group(actions), groups)
    assert all(scores[name]["kept"] == pytest.approx(0) for name in groups.kinds)


@pytest.mark.parametrize(
    ("actions", "expected"), [("discrete", 3), ("shifted", 3), ("continuous", None), ("binary", None)]
)
def test_a_recording_tells_the_actions_of_its_environment(tmp_path: Path, actions: str, expected: int | None) -> None:
    config = RecordConfig(
        env="tests.data.square_env:Square-v0",
        env_arguments=(f"actions={actions}", "length=40"),
        frames=1600,
        num_envs=4,
        num_levels=20,
    )
    record(config, parse_shares(["random"], find_action_space(config)), tmp_path, progress=False)
    wanted = EvaluateConfig(data=tmp_path, clips=8, starts=2)
    data = gather_data(wanted, (64, 64), tmp_path, lambda stage, share: None)
    assert list(data.sets) == ["data/random"]
    groups = data.fitted.groups
    if expected is None:
        assert groups is None
        assert data.sets["data/random"].real_actions is None
        return
    assert groups is not None
    assert groups.sizes == {"all": expected}
    trained = train_inverse_model(data.fitted, 1, (64, 64), 2, seed=0)
    assert trained.model.heads["all"].out_features == expected


def test_recordings_of_procgen_keep_their_groupings() -> None:
    assert find_groups({"game": "ninja", "mode": "easy"}) is PROCGEN_GROUPS
    assert find_groups({}) is None
