"""The release scripts, whole, at the size of a toy."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from experiments.lib import readme_tables
from experiments.lib.readme_tables import fill, read
from experiments.release import actions, clocked, labels, make, player, video_features
from experiments.release.settings import FurtherTraining
from genie_gym.data.clips import Batch
from genie_gym.metrics import gather, held_out
from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.video_features import ORDERS, load_features
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.players.networks import NetworkPlayer, load_skilled_policy
from genie_gym.presets import PRESETS
from genie_gym.serving import load_world
from genie_gym.training.world import DynamicsTrainee

pytestmark = pytest.mark.pipeline


TEACHER = """
import numpy as np

def right():
    return lambda frames: np.tile(np.eye(15, dtype=np.float32)[7], (len(frames), 1))
"""


@pytest.fixture
def small_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> make.Release:
    """The preset ``tiny``, with a phase for its latent actions, recorded and scored on next to nothing."""
    tiny = PRESETS["tiny"]
    monkeypatch.setitem(PRESETS, "tiny apart", replace(tiny, action_training=tiny.world_training))
    monkeypatch.setattr(labels, "SCORED_CLIPS", 16)
    monkeypatch.setattr(clocked, "_SAVING_SECONDS", 0.0)
    clips = np.random.default_rng(0).integers(256, size=(8, 4, 64, 64, 3), dtype=np.uint8)
    monkeypatch.setattr(make, "draw_release_clips", lambda modes: clips)
    for name in ("SCORED_FRAMES", "TRAINING_FRAMES"):
        monkeypatch.setattr(gather, name, 2048)
    evaluation = EvaluateConfig(
        levels="validation", clips=8, inverse_steps=2, starts=2, maskgit_steps=(1, 2), passes_clips=2
    )
    return make.Release(
        out=tmp_path / "run", preset="tiny apart", frames=4_096, modes=("easy",), baseline=None, evaluation=evaluation
    )


@pytest.fixture
def clocked_release(small_release: make.Release) -> make.Release:
    """Return settings of a release that is bounded by seconds instead of steps."""
    return replace(
        small_release,
        modes=("easy", "hard"),
        seconds=20.0,
        first_phases=0.7,
        batch_sizes=(16, 4, 4),
        compile=False,
        precision="float32",
        shard_frames=1_024,
    )


def test_a_preset_becomes_a_world_with_names_scores_and_a_card(
    small_release: make.Release, capsys: pytest.CaptureFixture[str]
) -> None:
    """In calls that stop after half a second each; a finished one changes nothing."""
    out, hurried = small_release.out, replace(small_release, minutes=0.01)
    for _ in range(60):
        hurried.run()
        if (out / "evaluation.json").exists():
            break
    world = load_world(out / "checkpoint")
    assert len(set(world.config.action_names)) == 8
    assert world.start_clips.shape == (8, 4, 64, 64, 3)
    card = (out / "checkpoint" / "README.md").read_text()
    for part in ("20 steps of 4 clips", "4,096 frames", world.config.action_names[0]):
        assert part in card
    assert json.loads((out / "evaluation.json").read_text())["levels"] == "validation"
    assert "time is over" in capsys.readouterr().out
    small_release.run()
    assert (out / "checkpoint" / "README.md").read_text() == card
    with safe_open(next((out / "checkpoint").glob("model-*.safetensors")), framework="pt") as file:
        kinds = {name.split(".")[0]: file.get_tensor(name).dtype for name in file.keys() if "weight" in name}  # noqa: SIM118
    assert (kinds["tokenizer"], kinds["dynamics"]) == (torch.float32, torch.float16)


def test_by_the_clock_a_world_is_made_and_another_goes_on_with_its_dynamics(clocked_release: make.Release) -> None:
    clocked_release.run()
    progress = json.loads((clocked_release.out / "progress.json").read_text())
    assert progress["latent_actions"]["kept"] == "new"
    assert set(progress["steps"]) == {"tokenizer", "action", "world"}
    first = load_world(clocked_release.out / "checkpoint")
    assert (
        f"{progress['steps']['world']:,} steps of 4 clips"
        in (clocked_release.out / "checkpoint" / "README.md").read_text()
    )
    again = replace(
        clocked_release,
        out=clocked_release.out.with_name("again"),
        start=str(clocked_release.out / "checkpoint"),
        seconds=6.0,
    )
    again.run()
    second, changed = load_world(again.out / "checkpoint").state_dict(), set()
    for name, weight in first.state_dict().items():
        changed |= set() if torch.equal(weight, second[name]) else {name.split(".")[0]}
    assert changed == {"dynamics"}


def test_an_interrupted_run_by_the_clock_goes_on_with_its_steps(
    clocked_release: make.Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("procgen")  # played by other processes, which only say that they failed

    def stop(run: clocked.ClockedRun, *arguments: Any) -> None:
        raise KeyboardInterrupt

    cut_off = clocked.ClockedRun(clocked_release, clocked_release.find_preset())
    with monkeypatch.context() as patch:
        patch.setattr(clocked.ClockedRun, "_train_dynamics", stop)
        with pytest.raises(KeyboardInterrupt):
            cut_off.run()
    progress = json.loads((clocked_release.out / "progress.json").read_text())
    assert "world" not in progress["steps"]
    run = clocked.ClockedRun(clocked_release, clocked_release.find_preset())
    preset = run.run()
    assert preset.tokenizer_training.train_steps == progress["steps"]["tokenizer"]
    assert run.facts["frames"] >= progress["frames"]
    assert (clocked_release.out / "checkpoint" / "config.json").exists()
    assert clocked.ClockedRun(clocked_release, clocked_release.find_preset()).run() == preset, "all is done"


def test_contradicting_options_are_refused(clocked_release: make.Release) -> None:
    with pytest.raises(ValueError, match="preset must train latent actions alone to run by the clock, got 'tiny'"):
        replace(clocked_release, preset="tiny").run()
    with pytest.raises(ValueError, match="minutes must be left out with seconds"):
        replace(clocked_release, minutes=1.0).run()
    with pytest.raises(ValueError, match="preset must be one of"):
        replace(clocked_release, preset="none").run()


def test_a_finished_world_is_trained_further_and_averaged_with_its_start(
    small_release: make.Release, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make.Release, "_finish", lambda *_: None)  # packs and scores, as of any other world
    weights = {}
    for share in (0.0, 0.75):
        training = FurtherTraining(train_steps=3, batch_size=2, learning_rate=0.1, kept_share=share)
        further = replace(
            small_release, preset="tiny", start=str(tiny_checkpoint), further=training, out=tmp_path / str(share)
        )
        further.run()
        weights[share] = load_world(further.out / "checkpoint", precision="float32").state_dict()
    before = load_world(tiny_checkpoint, precision="float32").state_dict()
    changed = {name.split(".")[0] for name, weight in weights[0.0].items() if not torch.equal(weight, before[name])}
    assert changed == {"dynamics"}
    for name, weight in weights[0.0].items():
        if weight.is_floating_point():
            torch.testing.assert_close(weights[0.75][name], weight.lerp(before[name], 0.75), atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="kept_share must be in"):
        FurtherTraining(kept_share=1.0)


def test_latent_actions_are_made_anew_for_a_finished_world(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In calls that stop at once; the dynamics changes in what it is told of actions, and nowhere else."""
    tiny = PRESETS["tiny"]
    monkeypatch.setitem(PRESETS, "tiny apart", replace(tiny, action_training=tiny.world_training))
    monkeypatch.setattr(actions, "SCORED_CLIPS", 16)
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
    with pytest.raises(ValueError, match="preset must be one that trains latent actions alone, got 'tiny'"):
        replace(new, preset="tiny").run()


def test_timing_leaves_weights_as_they_were(small_release: make.Release, random_videos: Any) -> None:
    world, config = GenieWorldModel(PRESETS["tiny"].world), PRESETS["tiny"].world_training
    before = {name: weight.clone() for name, weight in world.dynamics.state_dict().items()}

    def draw(first: int, number: int) -> Iterator[Batch]:
        return (Batch(random_videos(2, 8), torch.arange(2)) for _ in range(number))

    assert clocked.time_step(DynamicsTrainee(world), draw, config) > 0
    assert all(torch.equal(weight, before[name]) for name, weight in world.dynamics.state_dict().items())


def test_a_player_is_made_from_a_teacher(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.py"
    teacher.write_text(TEACHER)
    settings: dict[str, Any] = {"games_a_mode": 2, "memory": 256, "batch_size": 16}
    out = tmp_path / "player"
    player.PlayerRelease(teacher=f"{teacher}:right", out=out, train_steps=60, **settings).run()
    student = NetworkPlayer(load_skilled_policy(out / "skilled.safetensors"))
    assert (student(np.zeros((50, 64, 64, 3), np.uint8)) == 7).mean() > 0.8
    with pytest.raises(ValueError, match="teacher"):
        player.PlayerRelease(teacher="nobody", out=out).run()


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


def test_results_of_another_world_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read("play")["rows"]
    monkeypatch.setattr(readme_tables, "digest_checkpoint", lambda: "0" * 16)
    with pytest.raises(ValueError, match="results of play are of another world"):
        read("play")
    assert read("table2_lam_input")["rows"], "whose variants share an earlier world on purpose"


def test_speeds_of_another_world_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"now": "a" * 16, "before": "b" * 16}
    rows = [{"date": "2026", "machine": {"kind": kind}, "shipped": digest} for kind, digest in kinds.items()]
    (tmp_path / "bench.json").write_text(json.dumps({"rows": rows}))
    monkeypatch.setattr(readme_tables, "_RESULTS", tmp_path)
    monkeypatch.setattr(readme_tables, "digest_checkpoint", lambda: "a" * 16)
    assert [row["machine"]["kind"] for row in read("bench")["rows"]] == ["now"]


def test_tables_go_between_their_markers() -> None:
    document = "before\n<!-- one -->\nold\n<!-- /one -->\n<!-- two -->\n<!-- /two -->\n"
    assert fill(document, "one", "new") == document.replace("old", "new")
    with pytest.raises(ValueError, match="three"):
        fill(document, "three", "new")
