"""Policies: their inputs, how they are saved, and that games stay separate."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.acting import ClonedAgent, PolicyMemory
from agents.config import CloningConfig, Playing, PolicyConfig
from agents.mapping import ActionMapping
from agents.policy import LatentPolicy, load_policy, save_policy
from genie_gym.configs import TrainConfig
from genie_gym.data.frames import to_float
from tests.agents.small import SMALL, SMALL_IMPALA, SMALL_TRANSFORMER, random_frames

NETWORKS = pytest.mark.parametrize(
    "config", [SMALL, SMALL_IMPALA, SMALL_TRANSFORMER], ids=["compact", "impala", "st-vivit"]
)


def build(config: PolicyConfig = SMALL, num_actions: int = 5) -> LatentPolicy:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy = LatentPolicy(config, num_actions, "test")
        torch.nn.init.normal_(policy.head.weight)  # zero at first
    return policy.eval().requires_grad_(False)


def inputs(batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    videos = torch.rand(batch, 4, 3, 64, 64, generator=generator)
    return videos, torch.randint(6, (batch, 3), generator=generator)


@NETWORKS
def test_every_frame_and_past_action_counts(config: PolicyConfig) -> None:
    policy, (videos, past) = build(config), inputs()
    logits = policy(videos, past)
    assert logits.shape == (3, 5)
    for t in range(4):
        changed = videos.clone()
        changed[:, t] = 1 - changed[:, t]
        assert not torch.allclose(policy(changed, past), logits)
    for t in range(3):
        changed = past.clone()
        changed[:, t] = (changed[:, t] + 1) % 6
        assert not torch.allclose(policy(videos, changed), logits)


def test_a_policy_may_ignore_past_actions() -> None:
    policy, (videos, past) = build(replace(SMALL, sees_actions=False)), inputs()
    assert torch.equal(policy(videos, past), policy(videos, torch.zeros_like(past)))


@NETWORKS
def test_saved_policies_load_the_same(config: PolicyConfig, tmp_path: Path) -> None:
    policy, (videos, past) = build(config), inputs()
    again = load_policy(save_policy(policy, tmp_path / "policy"))
    assert torch.equal(again(videos, past), policy(videos, past))
    assert (again.num_actions, again.label_source, again.config) == (5, "test", config)


def test_damaged_policies_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        load_policy(tmp_path / "nowhere")
    folder = save_policy(build(), tmp_path / "policy")
    (folder / "weights.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="are damaged"):
        load_policy(folder)
    (folder / "config.json").write_text('{"format": 9}')
    with pytest.raises(ValueError, match="format 1, got 9"):
        load_policy(folder)


@pytest.mark.parametrize(
    ("videos", "past", "message"),
    [
        (torch.rand(2, 3, 3, 64, 64), torch.zeros(2, 2, dtype=torch.int64), "4 and 3 entries"),
        (torch.rand(2, 4, 3, 64, 64), torch.zeros(2, 4, dtype=torch.int64), "4 and 3 entries"),
        (torch.rand(2, 4, 3, 32, 32), torch.zeros(2, 3, dtype=torch.int64), "videos must be"),
        (torch.rand(2, 4, 3, 64, 64), torch.full((2, 3), 6), r"past_actions must be in \[0, 6\)"),
    ],
)
def test_bad_inputs_are_rejected(videos: Tensor, past: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()(videos, past)


def test_memory_shows_what_training_shows() -> None:
    """Frames and actions of the last steps, oldest first; the first frame repeated at an episode's start."""
    policy, seen = build(), []

    def remember(videos: Tensor, past_actions: Tensor) -> Tensor:
        seen.append((videos, past_actions))
        return torch.zeros(len(videos), 16)

    policy.features = remember  # type: ignore[method-assign]
    memory, frames = PolicyMemory(policy, 1, np.random.default_rng(0)), random_frames(7)
    row, chosen = np.array([0]), []
    for number, frame in enumerate(frames):
        starts = np.array([number in (0, 5)])
        chosen.append(int(memory.choose(row, frame[None], starts)[0][0]))
    shown = [[round(float(frame.sum()), 2) for frame in videos[0]] for videos, _ in seen]
    sums = [round(float((torch.from_numpy(frame).float() / 255).sum()), 2) for frame in frames]
    for number, wanted in enumerate([[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4], [5] * 4]):
        assert shown[number] == pytest.approx([sums[each] for each in wanted], rel=1e-4)
    assert seen[0][1].tolist() == [[5, 5, 5]]
    assert seen[2][1].tolist() == [[5, chosen[0], chosen[1]]]
    assert seen[4][1].tolist() == [chosen[1:4]]
    assert seen[5][1].tolist() == [[5, 5, 5]]
    assert seen[6][1].tolist() == [[5, 5, chosen[5]]]


def test_games_do_not_see_each_other() -> None:
    policy, frames = build(), random_frames(12).reshape(4, 3, 64, 64, 3)
    policy.head.bias[:] = torch.tensor([100.0, 0, 0, 0, 0])  # always the same choice
    memory, alone = (PolicyMemory(policy, 3, np.random.default_rng(0)) for _ in range(2))
    for t in range(4):
        together = memory.choose(np.arange(3), frames[t], np.full(3, t == 0))[1]
        by_itself = alone.choose(np.array([1]), frames[t, 1:2], np.array([t == 0]))[1]
        assert torch.allclose(by_itself[0], together[1], atol=1e-5)


def test_choices_are_drawn_from_the_logits() -> None:
    policy = build()
    policy.features = lambda videos, past_actions: torch.zeros(len(videos), 16)  # type: ignore[method-assign]
    policy.head.bias.copy_(torch.tensor([0.5, 0.3, 0.2, 1e-9, 1e-9]).log())
    memory = PolicyMemory(policy, 2000, np.random.default_rng(0))
    frames = np.zeros((2000, 64, 64, 3), dtype=np.uint8)
    chosen, _ = memory.choose(np.arange(2000), frames, np.ones(2000, dtype=bool))
    assert np.bincount(chosen, minlength=5) / 2000 == pytest.approx([0.5, 0.3, 0.2, 0, 0], abs=0.03)


@pytest.mark.parametrize("mapping", [None, ActionMapping.fit(np.arange(5), np.arange(5), 5)], ids=["real", "latent"])
def test_temperature_sharpens_logits_and_0_is_greedy(mapping: ActionMapping | None) -> None:
    number = 15 if mapping is None else 5
    policy, rows = build(num_actions=number), np.arange(2000)
    policy.features = lambda videos, past_actions: torch.zeros(len(videos), 16)  # type: ignore[method-assign]
    policy.head.bias.fill_(-100)
    policy.head.bias[:3] = torch.tensor([0.5, 0.3, 0.2]).log()
    frames, starts = np.zeros((2000, 64, 64, 3), dtype=np.uint8), np.ones(2000, dtype=bool)
    for temperature, wanted in ((1.0, [0.5, 0.3, 0.2]), (0.5, [25 / 38, 9 / 38, 4 / 38]), (0.0, [1, 0, 0])):
        agent = ClonedAgent(policy, 2000, 0, mapping, Playing(temperature=temperature))
        shares = np.bincount(agent.act(rows, frames, starts), minlength=3) / 2000
        assert shares == pytest.approx(wanted, abs=0.03 if temperature else 0)


@pytest.mark.parametrize(("field", "value"), [("temperature", -0.1), ("random_share", 2.0), ("random_share", -0.5)])
def test_bad_settings_of_playing_are_rejected(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"Playing.{field} must be .*, got {value}"):
        Playing(**{field: value})


def test_agents_go_through_their_mapping() -> None:
    mapping = ActionMapping.fit(np.arange(5), np.array([3, 3, 3, 3, 3]), 5)
    rows, frames = np.arange(20), random_frames(20)
    agent = ClonedAgent(build(), 20, seed=0, mapping=mapping)
    assert set(agent.act(rows, frames, np.ones(20, dtype=bool))) == {3}
    noisy = ClonedAgent(build(), 20, seed=0, mapping=mapping, playing=Playing(random_share=1.0))
    assert len(set(noisy.act(rows, frames, np.ones(20, dtype=bool)))) > 3


def test_an_agent_that_acts_at_random_remembers_what_it_did() -> None:
    oracle = ClonedAgent(build(num_actions=15), 8, seed=0, playing=Playing(random_share=0.5))
    acted = oracle.act(np.arange(8), random_frames(8), np.ones(8, dtype=bool))
    assert list(oracle._memory._past[:, -1]) == list(acted)


def test_a_policy_of_other_actions_is_rejected() -> None:
    mapping = ActionMapping.fit(np.arange(5), np.arange(5), 8)
    with pytest.raises(ValueError, match="num_actions must be 8, as in the mapping or the game, got 5"):
        ClonedAgent(build(), 1, seed=0, mapping=mapping)
    with pytest.raises(ValueError, match="num_actions must be 15"):
        ClonedAgent(build(), 1, seed=0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("network", "mlp"),
        ("context_length", 0),
        ("features", 0),
        ("widths", ()),
        ("widths", (4,)),
        ("transformer", None),
        ("dropout", 1.0),
    ],
)
def test_bad_configs_are_rejected(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"PolicyConfig.{field}"):
        PolicyConfig(**{"network": "st-vivit" if field == "transformer" else "compact", field: value})  # type: ignore[arg-type]


def test_dropout_is_of_compact_alone() -> None:
    with pytest.raises(ValueError, match=r"PolicyConfig.dropout must be .* 0 for other networks than compact, got 0.2"):
        replace(SMALL_IMPALA, dropout=0.2)


def test_dropout_acts_in_training_only(tmp_path: Path) -> None:
    policy = LatentPolicy(replace(SMALL, dropout=0.5), 3)
    videos, past = to_float(random_frames(8).reshape(2, 4, 64, 64, 3)), torch.zeros(2, 3, dtype=torch.int64)
    assert not torch.equal(policy.features(videos, past), policy.features(videos, past))
    loaded = load_policy(save_policy(policy, tmp_path))
    assert torch.equal(loaded.features(videos, past), loaded.features(videos, past))


def test_training_on_another_context_is_rejected() -> None:
    with pytest.raises(ValueError, match="context 4, got 8"):
        CloningConfig(policy=SMALL, training=TrainConfig(train_steps=1, batch_size=1, clip_length=8))
