"""``genie-gym evaluate`` from the command line to the results, on a tiny world."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from experiments.lib.tables import quality
from genie_gym import cli
from genie_gym.data.config import ConvertConfig, RecordConfig
from genie_gym.data.convert import convert
from genie_gym.data.record import record
from genie_gym.data.video import write_video
from genie_gym.metrics import gather, outputs
from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.control import CONTROL_NAMES
from genie_gym.metrics.report import draw_picture, print_scores
from genie_gym.metrics.run import run_evaluation
from genie_gym.metrics.separability import PAIRS
from genie_gym.players.specs import parse_shares

pytestmark = pytest.mark.pipeline

SMALL: dict[str, Any] = {"clips": 16, "inverse_steps": 2, "starts": 4, "maskgit_steps": (1, 2), "passes_clips": 4}


@pytest.fixture
def few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "SCORED_FRAMES", 2048)
    monkeypatch.setattr(gather, "TRAINING_FRAMES", 2048)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two players on easy levels."""
    out = tmp_path_factory.mktemp("recording")
    config = RecordConfig(mode="easy", frames=4096, num_envs=32)
    record(config, parse_shares(["sticky", "random"]), out, progress=False)
    return out


@pytest.fixture(scope="module")
def scored(tiny_checkpoint: Path, recording: Path) -> tuple[dict[str, Any], Any, list[str]]:
    """Results, evaluated clips and reported stages of one evaluation of the recording."""
    stages: list[str] = []
    config = EvaluateConfig(checkpoint=str(tiny_checkpoint), data=recording, **SMALL)
    return *run_evaluation(config, lambda stage, share: stages.append(stage)), stages


def without_speed(results: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in results.items() if name != "speed"}


def test_coinrun_is_recorded_and_scored(few_frames: None, tiny_checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    out, picture = tmp_path / "out.json", tmp_path / "out.png"
    arguments = ["evaluate", str(tiny_checkpoint), "--json", str(out), "--picture", str(picture)]
    arguments += ["--clips", "16", "--inverse-steps", "2", "--starts", "4", "--passes-clips", "4"]
    driver = tmp_path / "driver.py"
    driver.write_text("def build(action, seed):\n    return lambda frames, latent_actions: action\n")
    arguments += ["--sessions", "2", "--session-steps", "4", "--policy", f"{driver}:build(3)"]
    monkeypatch.setattr(sys, "argv", ["genie-gym", *arguments, "--maskgit-steps", "1", "2"])
    cli.main()
    results = json.loads(out.read_text())
    assert picture.stat().st_size > 0
    assert set(results["sets"]) == {"easy/sticky", "easy/player", "hard/sticky", "hard/player"}
    assert results["clips"] == 16
    assert {mode: part["clips"] for mode, part in results["by_mode"].items()} == {"easy": 8, "hard": 8}
    for part in (results, *results["by_mode"].values(), *results["sets"].values()):
        assert {"psnr", "ssim", "moving_psnr", "codes_used", "perplexity"} <= set(part["tokenizer"])
        assert [row["t"] for row in part["rollout"]] == [1, 2, 4, 8, 10, 15]
        assert all(
            {"psnr", "copy_last_psnr", "shuffled_psnr", "random_psnr", "ssim"} <= set(r) for r in part["rollout"]
        )
        assert [row["t"] for row in part["delta_psnr"]] == [1, 4, 8]
        assert part["continued"]["prompt_frames"] == 4
        assert [row["t"] for row in part["continued"]["rollout"]] == [1, 2, 4, 8, 10, 12]
        assert all(row["interval"][0] <= row["delta_psnr"] <= row["interval"][1] for row in part["delta_psnr"])
        assert {"perplexity", "nmi"} <= set(part["lam"])
        assert all({"accuracy", "chance", "ceiling"} <= set(part["lam"][n]) for n in ("direction", "up", "effective"))
        assert part["fvd_procgen"] > 0
        kinds = {"rebuilt", "copy_last", "random_actions", "other_real", "rollout_to_others"}
        assert set(part["fvd_procgen_beside"]) == kinds
    assert [row["maskgit_steps"] for row in results["passes"]] == [1, 2]
    assert set(results["control"]["by_mode"]) == {"easy", "hard"}
    for part in results["control"]["by_mode"].values():
        assert part["starts"] == 4
        assert (
            set(part["world"]) == set(part["game"]) == set(part["shuffled"]) == set(part["ratio"]) == set(CONTROL_NAMES)
        )
        assert part["game"]["agreement_x"] == part["game"]["agreement_y"] == 1
    sessions = results["sessions"]
    assert (sessions["games"], sessions["steps"], set(sessions["by_mode"])) == (2, 4, {"easy", "hard"})
    assert list(sessions["by_mode"]["hard"]["policies"]) == [
        "held right",
        "sticky",
        "as labels persist",
        f"{driver}:build(3)",
    ]
    assert any(line.startswith("long play, easy, sticky: a player in") for line in results["faults"])
    for scores in (results["control"]["separability"], results["control"]["persistence"]):
        assert set(scores) == {"easy", "hard"}
    assert set(results["control"]["separability"]["easy"]["pairs"]) == set(PAIRS)
    assert results["ceiling"]["steps"] == 2
    assert {"command", "commit", "seed", "levels", "players"} <= set(results)


def test_the_same_seed_gives_the_same_scores(tiny_checkpoint: Path, recording: Path, scored: Any) -> None:
    first = scored[0]
    second, other = (
        run_evaluation(EvaluateConfig(checkpoint=str(tiny_checkpoint), data=recording, seed=seed, **SMALL))[0]
        for seed in (0, 1)
    )
    assert without_speed(first) == without_speed(second)
    assert without_speed(other) != without_speed(first)


def test_a_recording_is_scored_by_mode_and_player(scored: Any) -> None:
    results, evaluated, stages = scored
    assert {name: part["clips"] for name, part in results["sets"].items()} == {"easy/sticky": 8, "easy/random": 8}
    assert results["by_mode"] == {}
    errors = [10 ** (-part["tokenizer"]["psnr"] / 10) for part in results["sets"].values()]
    assert results["tokenizer"]["psnr"] == pytest.approx(-10 * math.log10(sum(errors) / 2), abs=1e-3)
    assert len(set(stages)) >= 6
    assert "sessions" not in results, "long play takes minutes, so it is played only when asked for"
    assert any("k-means" in words for words in results["faults"])
    with Console(quiet=True) as console:
        print_scores(console, results)
    assert evaluated.held.shape[:3] == (8, 1, 17)
    assert set(results["control"]["by_mode"]["data"]) == {"starts", "world", "shuffled"}, "there is no game"


def test_fvd_stands_beside_our_distance_with_the_same_baselines(
    tiny_checkpoint: Path, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def load(path: Path, device: str) -> Any:
        read.append((path, device))
        return lambda videos: videos.mean(dim=(3, 4)).flatten(1)

    monkeypatch.setattr(outputs, "load_i3d", load)
    settings = SMALL | {"data": recording, "i3d": tmp_path / "i3d.safetensors"}
    results, _ = run_evaluation(EvaluateConfig(checkpoint=str(tiny_checkpoint), **settings))
    assert read == [(tmp_path / "i3d.safetensors", "cpu")]
    for part in (results, *results["sets"].values()):
        assert part["fvd"] > 0
        assert list(part["fvd_beside"]) == list(part["fvd_procgen_beside"])
        assert part["fvd_beside"]["other_real"] > 0
    with Console(record=True, width=200) as console:
        print_scores(console, results)
    assert "fvd of roll-outs" in console.export_text()
    table = quality.tabulate_scores(results)
    assert "fvd_procgen of roll-outs" in table
    assert "fvd (I3D) of roll-outs, clips 16 / 8 / 8" in table
    assert table.count("- other real clips to the roll-outs") == 2


def test_videos_are_scored_without_true_actions(tiny_checkpoint: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(2):
        write_video(tmp_path / f"{number}.mp4", rng.integers(256, size=(80, 64, 64, 3), dtype=np.uint8), fps=10)
    results, evaluated = run_evaluation(EvaluateConfig(checkpoint=str(tiny_checkpoint), data=tmp_path, **SMALL))
    assert set(results["sets"]) == {"videos"}
    assert "nmi" not in results["lam"]
    assert results["lam"]["perplexity"] > 0
    draw_picture(tmp_path / "pictures" / "out.png", evaluated)
    with Console(quiet=True) as console:
        print_scores(console, results)


@pytest.fixture
def wrong(tmp_path: Path, tiny_checkpoint: Path, recording: Path) -> dict[str, dict[str, Any]]:
    """Wrong arguments, by a part of the error message that they must cause."""
    rng = np.random.default_rng(0)
    for name, size, frames in (("small", 32, 80), ("short", 64, 8)):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "video.mp4"
        write_video(path, rng.integers(256, size=(frames, size, size, 3), dtype=np.uint8), fps=10)
    (tmp_path / "corrupt.h5").write_bytes(b"not a recording")
    (tmp_path / "empty").mkdir()
    i3d = tmp_path / "i3d.safetensors"
    i3d.write_bytes(b"not I3D")
    return {
        "no such file or folder": {"data": tmp_path / "missing"},
        "holds no shards": {"data": tmp_path / "empty"},
        "not a whole HDF5 file": {"data": tmp_path / "corrupt.h5"},
        "no clip of 16 frames": {"data": tmp_path / "short"},
        "must have frames of 64 x 64": {"data": tmp_path / "small"},
        "lower --clips": {"data": recording, "clips": 40_000},
        "at least two for each": {"data": recording, "clips": 3},
        "neither a checkpoint's folder": {"checkpoint": str(tmp_path / "empty")},
        "genie-gym convert-i3d writes it": {"data": recording, "i3d": i3d},
    }


@pytest.mark.parametrize(
    "named",
    [
        "no such file or folder",
        "holds no shards",
        "not a whole HDF5 file",
        "no clip of 16 frames",
        "must have frames of 64 x 64",
        "lower --clips",
        "at least two for each",
        "neither a checkpoint's folder",
        "genie-gym convert-i3d writes it",
    ],
)
def test_bad_input_is_refused_by_name(named: str, wrong: dict[str, dict[str, Any]], tiny_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=named):
        run_evaluation(EvaluateConfig(**{"checkpoint": str(tiny_checkpoint), **SMALL, **wrong[named]}))


def test_other_sizes_are_scaled_when_asked(wrong: dict[str, dict[str, Any]], tiny_checkpoint: Path) -> None:
    small = wrong["must have frames of 64 x 64"]["data"]
    config = EvaluateConfig(checkpoint=str(tiny_checkpoint), data=small, resize=True, **SMALL)
    assert run_evaluation(config)[0]["clips"] == 16


def test_a_corrupt_recording_is_refused_before_any_work(recording: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    whole = next(recording.glob("*.h5")).read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.h5"):
        run_evaluation(EvaluateConfig(checkpoint=str(tiny_checkpoint), data=tmp_path, **SMALL))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("modes", ()),
        ("clips", 1),
        ("inverse_steps", 0),
        ("seed", -1),
        ("maskgit_steps", ()),
        ("starts", 0),
        ("sessions", -1),
        ("session_steps", 3),
    ],
)
def test_wrong_settings_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        EvaluateConfig(**{field: value})


def test_long_play_is_refused_without_the_game(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sessions must be 0 with data"):
        EvaluateConfig(data=tmp_path, sessions=1)


def test_no_level_is_both_scored_and_fitted_on(recording: Path, tmp_path: Path) -> None:
    gathered = gather.gather_data(
        EvaluateConfig(data=recording, clips=400), (64, 64), tmp_path, lambda stage, share: None
    )
    dataset = gathered.fitted.dataset
    fitted = {dataset.level(int(number)) for number in gathered.fitted.numbers}
    assert fitted
    assert all(level % 2 == 0 for level in fitted)
    scored = {clip.numpy().tobytes() for play in gathered.sets.values() for clip in play.videos}
    numbers = gathered.fitted.numbers[:: max(1, len(gathered.fitted.numbers) // 200)]
    drawn = gathered.fitted._replace(numbers=numbers).draw(len(numbers), seed=0).videos
    assert not scored & {clip.numpy().tobytes() for clip in drawn}


def test_clips_of_another_frame_rate_than_the_worlds_are_refused(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(256, size=(200, 64, 64, 3)).astype(np.uint8)
    write_video(tmp_path / "one.mp4", frames, fps=10)
    convert(tmp_path / "one.mp4", tmp_path / "clips", ConvertConfig(fps=10), workers=1, progress=False)
    wanted = EvaluateConfig(data=tmp_path / "clips", clips=4)
    with pytest.raises(ValueError, match=r"must have the world's 5 frames a second, got clips of 10\.0.*--fps 5"):
        gather.gather_data(wanted, (64, 64), tmp_path, lambda stage, share: None, fps=5)
    for fps in (10, None):
        assert gather.gather_data(wanted, (64, 64), tmp_path, lambda stage, share: None, fps=fps).sets


def test_halves_of_videos_share_no_frame(tmp_path: Path) -> None:
    frames = np.zeros((100, 64, 64, 3), dtype=np.uint8)
    frames[:, :8, :8] = (np.arange(100) * 2)[:, None, None, None]
    write_video(tmp_path / "one.mp4", frames, fps=10)
    gathered = gather.gather_data(
        EvaluateConfig(data=tmp_path, clips=20), (64, 64), tmp_path, lambda stage, share: None
    )
    brightest = gathered.fitted.draw(len(gathered.fitted.numbers), seed=0).videos[..., :8, :8].mean(dim=(2, 3, 4)).max()
    assert gathered.sets["videos"].videos[..., :8, :8].mean(dim=(2, 3, 4)).min() > brightest
