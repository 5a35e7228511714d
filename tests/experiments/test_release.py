"""The release scripts, whole, at the size of a toy."""

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from experiments.readme_tables import fill, tell_age
from experiments.release import actions, budget, lengthen, player, sprint, train, video_features
from experiments.release.budget import read_plan
from genie_gym.configs import RecordConfig
from genie_gym.data.record import record
from genie_gym.metrics import gather, held_out
from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.video_features import ORDERS, load_features
from genie_gym.models.loading import digest_checkpoint
from genie_gym.players.expert import Expert
from genie_gym.players.specs import parse_shares
from genie_gym.presets import PRESETS
from genie_gym.serving import load_world

pytestmark = pytest.mark.pipeline


TEACHER = """
import numpy as np

def right():
    return lambda frames: np.full(len(frames), 7, np.int32)
"""


@pytest.fixture
def small_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> train.Release:
    """A budget of seconds for the preset ``tiny``, scored on next to nothing."""
    for name in ("SCORED_FRAMES", "TRAINING_FRAMES"):
        monkeypatch.setattr(gather, name, 2048)
    monkeypatch.setattr(budget, "FRAMES_A_MINUTE", 1_000_000)
    monkeypatch.setattr(budget, "SHAPES", {"1 x 32": (1, 32, 1), "2 x 32": (2, 32, 1)})
    evaluation = EvaluateConfig(
        levels="validation", clips=8, inverse_steps=2, start_frames=2, maskgit_steps=(1, 2), passes_clips=2
    )
    return train.Release(
        out=tmp_path / "run",
        preset="tiny",
        budget=0.1,
        minutes=0.01,
        modes=("easy",),
        evaluation=evaluation,
        measure_seconds=0.01,
    )


def test_a_budget_becomes_a_world_with_names_scores_and_a_card(
    small_release: train.Release, capsys: pytest.CaptureFixture[str]
) -> None:
    """In calls that stop after half a second each, by the plan of the first."""
    out = small_release.out
    plans = set()
    for _ in range(60):
        small_release.run()
        plans.add((out / "plan.json").read_text())
        if (out / "evaluation.json").exists():
            break
    assert len(plans) == 1
    plan = read_plan(out / "plan.json")
    world = load_world(out / "checkpoint")
    assert world.config.dynamics.transformer.layers == budget.SHAPES[plan.shape][0]
    assert len(set(world.config.action_names)) == 8
    card = (out / "checkpoint" / "README.md").read_text()
    for said in (f"{plan.steps['world']:,} steps of 4 clips", f"{plan.frames:,} frames", world.config.action_names[0]):
        assert said in card
    assert json.loads((out / "evaluation.json").read_text())["levels"] == "validation"
    printed = capsys.readouterr().out
    assert "time is over" in printed
    assert "expect cross-entropy" in printed
    small_release.run()
    assert (out / "checkpoint" / "README.md").read_text() == card
    with pytest.raises(ValueError, match=r"budget must be 0\.1, as .*plan\.json says, got 3"):
        replace(small_release, budget=3.0).run()


@pytest.fixture
def small_sprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sprint.Sprint:
    """Seconds for the preset ``tiny`` with a phase for its latent actions."""
    tiny = PRESETS["tiny"]
    monkeypatch.setitem(PRESETS, "tiny apart", replace(tiny, action_training=tiny.world_training))
    monkeypatch.setattr(sprint, "SCORED", 16)
    monkeypatch.setattr(sprint, "SAVING", 0.0)
    return sprint.Sprint(
        out=tmp_path / "sprint",
        preset="tiny apart",
        seconds=20,
        first_phases=0.7,
        frames=4_096,
        batch_sizes=(16, 4, 4),
        rival=None,
        compile=False,
        precision="float32",
        device="cpu",
        shard_frames=1_024,
    )


def test_a_sprint_makes_a_world_and_another_goes_on_with_its_dynamics(small_sprint: sprint.Sprint) -> None:
    small_sprint.run()
    first = load_world(small_sprint.out / "checkpoint")
    assert json.loads((small_sprint.out / "actions.json").read_text())["kept"] == "new"
    again = replace(small_sprint, out=small_sprint.out.with_name("again"), start=str(small_sprint.out / "checkpoint"))
    again.run()
    second, changed = load_world(again.out / "checkpoint").state_dict(), set()
    for name, weight in first.state_dict().items():
        changed |= set() if torch.equal(weight, second[name]) else {name.split(".")[0]}
    assert changed == {"dynamics"}


def test_latent_actions_are_made_anew_for_a_finished_world(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In calls that stop at once; the dynamics changes in what it is told of actions, and nowhere else."""
    tiny = PRESETS["tiny"]
    monkeypatch.setitem(PRESETS, "tiny apart", replace(tiny, action_training=tiny.world_training))
    monkeypatch.setattr(actions, "SCORED", 16)
    new = actions.NewActions(
        start=str(tiny_checkpoint), preset="tiny apart", out=tmp_path, modes=("easy",), frames=1_024, train_steps=6
    )
    replace(new, minutes=1e-6).run()
    assert "time is over" in capsys.readouterr().out
    assert not (tmp_path / "checkpoint").exists()
    new.run()
    assert set(json.loads(capsys.readouterr().out)["easy"]) == {"old", "new"}
    before, after = load_world(tiny_checkpoint).state_dict(), load_world(tmp_path / "checkpoint").state_dict()
    changed = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    others = {name for name in changed if not name.startswith("latent_action_model.")}
    assert others == {"dynamics.action_embedding.weight"}
    trained = load_world(tmp_path / "checkpoint").latent_action_model.state_dict()
    save_file(trained, tmp_path / "trained.safetensors")
    taken = replace(new, out=tmp_path / "taken", weights=tmp_path / "trained.safetensors")
    taken.run()
    weights = load_world(taken.out / "checkpoint").state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in after.items())
    for wrong in (tiny_checkpoint / "start_frames.safetensors", tiny_checkpoint / "config.json", tmp_path / "none"):
        with pytest.raises(ValueError, match=f"weights must be .* latent action model, got {wrong}"):
            replace(taken, out=tmp_path / "wrong", weights=wrong).run()
    assert not (tmp_path / "wrong").exists()
    with pytest.raises(ValueError, match="preset must be one that trains latent actions alone, got 'tiny'"):
        replace(new, preset="tiny").run()


def test_timing_leaves_weights_as_they_were(small_sprint: sprint.Sprint) -> None:
    preset = small_sprint._preset()
    world, config = small_sprint._build(preset), small_sprint._phase(preset, "world")
    before = {name: weight.clone() for name, weight in world.dynamics.state_dict().items()}
    noise = sprint._noise(world, config, "cpu")
    seconds = small_sprint._time(sprint.SteadyTrainee(world), noise, config, sprint.Clock(1.0))
    assert seconds > 0
    assert all(torch.equal(weight, before[name]) for name, weight in world.dynamics.state_dict().items())


def test_a_sprint_needs_latent_actions_that_are_trained_alone(small_sprint: sprint.Sprint) -> None:
    with pytest.raises(ValueError, match="preset must train latent actions alone, got 'tiny'"):
        replace(small_sprint, preset="tiny").run()


def test_a_laws_terms_are_found() -> None:
    """Curves that follow the law exactly, of sizes and batches as in figure 9."""
    law = budget.DataLaw(0.5, 2e3, 0.6, 60.0, 0.3, 400 * 32 * budget.FIGURE_FRAMES)
    rows = []
    for parameters, batch in ((6e4, 8), (5e5, 2), (5e5, 8), (5e5, 32), (3e6, 8)):
        curve = [
            {"step": step, "loss": law.loss(parameters, step * batch * budget.FIGURE_FRAMES)}
            for step in range(25, 425, 25)
        ]
        rows.append({"parameters": parameters, "batch_size": batch, "curve": curve})
    fitted = budget.fit_data_law(rows)
    assert fitted.frames == law.frames
    for parameters, frames in ((1e6, 1e6), (1e7, 1e6), (1e6, 1e8)):
        assert fitted.loss(parameters, frames) == pytest.approx(law.loss(parameters, frames), rel=0.02)


def test_a_score_follows_the_logarithm_of_compute() -> None:
    assert budget.predict([(1.0, 20.0), (2.0, 21.0), (4.0, 22.0)], 16.0) == pytest.approx(24.0)


@pytest.mark.parametrize("minutes", [0.0, -1.0, 1e-6])
def test_too_small_a_budget_is_named(minutes: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "SHAPES", {"1 x 32": (1, 32, 1)})
    with pytest.raises(ValueError, match=f"budget must .*got {minutes:g}"):
        budget.make_plan(PRESETS["tiny"], minutes, "cpu", 0.01)


def test_a_player_is_made_from_a_teacher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(player, "score_player", functools.partial(player.score_player, num_envs=4))
    teacher = tmp_path / "teacher.py"
    teacher.write_text(TEACHER)
    settings: dict[str, Any] = {"games_a_mode": 2, "memory": 256, "batch_size": 16, "episodes": 4}
    out = tmp_path / "player"
    player.PlayerRelease(teacher=f"{teacher}:right+velocity", out=out, train_steps=60, **settings).run()
    student = Expert(out / "expert.safetensors")
    assert (student(np.zeros((50, 64, 64, 3), np.uint8)) == 7).mean() > 0.8
    assert "student" in capsys.readouterr().out
    with pytest.raises(ValueError, match="velocity"):
        player.PlayerRelease(teacher=f"{teacher}:right", out=out).run()


def test_clips_are_shuffled_and_frozen_as_their_labels_say() -> None:
    torch.manual_seed(0)
    numbers = torch.arange(16.0).view(1, 16, 1, 1, 1).expand(40, 16, 3, 2, 2)
    videos, orders = video_features.reorder(numbers)
    assert (orders[:20] == 0).all()
    assert set(orders[20:].tolist()) == {1, 2}
    for video, order in zip(videos[:, :, 0, 0, 0].tolist(), orders.tolist(), strict=True):
        if ORDERS[order] == "as played":
            assert video == sorted(video)
        if ORDERS[order] == "shuffled":
            assert video != sorted(video)
            assert sorted(video) == list(range(16))
        if ORDERS[order] == "frozen":
            assert len(set(video)) <= 12
            assert video == sorted(video)


def test_features_for_video_distances_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "RECORDED_FRAMES", 4096)
    settings: dict[str, Any] = {"frames": 1024, "train_steps": 2, "batch_size": 2}
    video_features.FeaturesRelease(out=tmp_path, json=tmp_path / "score.json", **settings).run()
    assert load_features(tmp_path / "video_features.safetensors")(torch.rand(2, 16, 3, 64, 64)).shape == (2, 64)
    scores = json.loads((tmp_path / "score.json").read_text())
    assert {"game_accuracy", "order_accuracy", "action_accuracy", "command"} <= set(scores)
    assert scores["distances"]["other_clips"] > 0


def test_lengthening_trains_the_dynamics_and_nothing_else(tmp_path: Path, tiny_checkpoint: Path) -> None:
    config = RecordConfig(frames=2048, num_envs=8)
    record(config, parse_shares(["random=1"]), tmp_path / "data")
    settings: dict[str, Any] = {"data": (tmp_path / "data",), "out": tmp_path / "run"}
    settings |= {"checkpoint": str(tiny_checkpoint), "schedule": "constant", "optimizer": "muon"}
    for minutes in (0.0, None):
        lengthen.Lengthening(**settings, clip_length=20, train_steps=4, batch_size=2, minutes=minutes).run()
        assert (tmp_path / "run" / "checkpoint").exists() == (minutes is None)
    folders = tiny_checkpoint, tmp_path / "run" / "checkpoint"
    before, after = (load_world(folder, precision="float32") for folder in folders)
    changed = {
        name.split(".")[0]
        for name, weights in after.state_dict().items()
        if not torch.equal(weights, before.state_dict()[name])
    }
    assert changed == {"dynamics"}
    with safe_open(tmp_path / "run" / "training.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["config"])["optimizer"]["schedule"] == "constant"


def test_a_world_is_conditioned_otherwise_and_keeps_the_rest(tiny_checkpoint: Path) -> None:
    before = load_world(tiny_checkpoint, precision="float32")
    after = lengthen.recondition(before, "film")
    assert after.config.dynamics.action_conditioning == "film"
    assert before.config.dynamics.action_conditioning == "additive"
    assert np.array_equal(after.start_frames, before.start_frames)
    new = set(after.state_dict()) - set(before.state_dict())
    assert new
    assert all(after.state_dict()[name].abs().max() == 0 for name in new)
    assert all(torch.equal(after.state_dict()[name], weight) for name, weight in before.state_dict().items())


def test_results_of_another_world_are_marked() -> None:
    assert tell_age({"shipped": digest_checkpoint("coinrun")}) == ""
    assert tell_age({"shipped": "0" * 16}) == tell_age({}) != ""


def test_tables_go_between_the_markers() -> None:
    document = "before\n<!-- results -->\nold\n<!-- /results -->\nafter\n"
    assert fill(document, "new") == "before\n<!-- results -->\nnew\n<!-- /results -->\nafter\n"
    with pytest.raises(ValueError, match="results"):
        fill("no markers", "new")
