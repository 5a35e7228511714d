"""Training by two processes: the same losses as by one, whatever is random or a batch's statistic."""

import dataclasses
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from genie_gym.configs import OptimizerConfig, TrainConfig
from genie_gym.presets import PRESETS
from genie_gym.training.checkpoint import has_run, read_weights, require_config
from genie_gym.training.distributed import Ranks, SharedError, SharedOSError, require_phases
from tests.training.rank_helpers import (
    CONFIG,
    WORLDS,
    Pair,
    curves,
    disagree,
    fail_on_second,
    read_damaged,
    save_while_one_rank_polls,
    train,
    train_and_die,
    train_on_a_full_disk,
    train_on_spoiled_rows,
    train_until_signal,
)

SHORT = {"train_steps": 6, "checkpoint_every": 2}


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Return two processes that serve all tests of this file."""
    made = Pair()
    yield made
    made.end()


def require_equal(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> None:
    """Check that two worlds have the same weights, exactly or nearly."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("kind", WORLDS)
def test_two_processes_have_the_losses_of_one(pair: Pair, tmp_path: Path, kind: str) -> None:
    """In float32 to 1e-5 over 20 steps; also metrics, and gradient norms, which a wrong average would change.

    A norm jumps where rounding moves a feature across the bend of a ReLU, by 0.3 % on processors with AVX2 alone. So
    one of the 20 norms may differ by up to 1 %.
    """
    train(kind, tmp_path / "one", {})
    pair.check(train, kind, tmp_path / "two", {})
    one, two = curves(tmp_path / "one"), curves(tmp_path / "two")
    assert len(one["loss"]) == 20
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two.keys() == one.keys()
    for name, values in one.items():
        far = [step for step in range(20) if two[name][step] != pytest.approx(values[step], rel=1e-3, abs=1e-4)]
        assert len(far) <= (1 if name.startswith("gradient_norm/") else 0), (name, far)
        assert two[name] == pytest.approx(values, rel=1e-2, abs=1e-4), name


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("tokenizer", {}),
        ("st actions", {"checkpoint_blocks": True}),
        ("noisy dynamics", {"accumulate": 2, "checkpoint_blocks": True}),
        ("dynamics", {"precision": "bfloat16"}),
    ],
)
def test_sharded_weights_have_the_losses_of_replicated_ones(
    pair: Pair, tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    """FSDP2 equals DDP to 1e-4, and both ranks have the whole trained world afterwards."""
    changes = SHORT | changes
    weights = {
        sharding: pair.check(train, kind, tmp_path / sharding, changes | {"sharding": sharding})
        for sharding in ("ddp", "fsdp")
    }
    ddp, fsdp = curves(tmp_path / "ddp")["loss"], curves(tmp_path / "fsdp")["loss"]
    assert fsdp == pytest.approx(ddp, rel=2e-3 if changes.get("precision") else 1e-4)
    require_equal(weights["fsdp"][0], weights["fsdp"][1], 0)
    require_equal(weights["ddp"][0], weights["fsdp"][0], 1e-3)


def test_accumulated_gradients_are_those_of_the_batch(pair: Pair, tmp_path: Path) -> None:
    """The dynamics alone has no batch statistics: parts with unequal numbers of hidden tokens add up to the batch."""
    kind, changes = "frozen actions", SHORT
    train(kind, tmp_path / "whole", changes)
    train(kind, tmp_path / "parts", changes | {"accumulate": 4})
    pair.check(train, kind, tmp_path / "both", changes | {"accumulate": 2})
    whole, parts, both = (curves(tmp_path / name) for name in ("whole", "parts", "both"))
    for name in ("loss", "dynamics/accuracy", "gradient_norm/dynamics"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-4)
        assert both[name] == pytest.approx(whole[name], rel=1e-4)


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_a_run_saved_on_two_ranks_resumes_on_one_and_on_two(pair: Pair, tmp_path: Path, sharding: str) -> None:
    """Interrupted after one step, then on: as without the interruption, and back from one to two as well."""
    kind, changes = "late tokenizer", SHORT | {"sharding": sharding}
    whole = pair.check(train, kind, tmp_path / "whole", changes)[0]
    for name in ("on two", "on one", "back"):
        pair.check(train, kind, tmp_path / name, changes, 0)
        assert require_config(tmp_path / name, dataclasses.replace(CONFIG, **changes)) == 1
    require_equal(whole, pair.check(train, kind, tmp_path / "on two", changes)[1], 0)
    train(kind, tmp_path / "back", changes, 0)
    require_equal(whole, train(kind, tmp_path / "on one", changes), 1e-4)
    require_equal(whole, pair.check(train, kind, tmp_path / "back", changes)[1], 1e-4)
    assert len(list((tmp_path / "on two" / "steps").iterdir())) == 1


def test_a_run_saved_on_two_ranks_resumes_on_four(pair: Pair, tmp_path: Path) -> None:
    kind, changes = "dynamics", SHORT | {"sharding": "fsdp"}
    whole = pair.check(train, kind, tmp_path / "whole", changes)[0]
    pair.check(train, kind, tmp_path / "broken", changes, 0)
    four = Pair(4)
    # A bias before a norm has no gradient but rounding, which Adam scales up: weights agree less than losses do.
    require_equal(whole, four.check(train, kind, tmp_path / "broken", changes)[3], 1e-3)
    four.end()
    assert curves(tmp_path / "broken")["loss"] == pytest.approx(curves(tmp_path / "whole")["loss"], rel=1e-5)


def test_a_kill_in_the_middle_of_a_save_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    """One process is killed while it writes the second checkpoint: the run resumes from the first."""
    doomed, kind = Pair(), "actions"
    with pytest.raises((EOFError, ConnectionError)):
        doomed.do(train_and_die, kind, tmp_path / "killed", SHORT, 1)
    doomed.end()
    assert sorted(path.name for path in (tmp_path / "killed" / "steps").iterdir()) == ["000000002", "000000004"]
    assert require_config(tmp_path / "killed", dataclasses.replace(CONFIG, **SHORT)) == 2
    train(kind, tmp_path / "whole", SHORT)
    train(kind, tmp_path / "killed", SHORT)
    assert curves(tmp_path / "killed")["loss"][-4:] == pytest.approx(curves(tmp_path / "whole")["loss"][-4:], rel=1e-4)
    assert not (tmp_path / "killed" / "steps").exists()  # one process saves its own kind


def test_a_rank_that_notices_a_finished_save_early_waits_for_no_other(pair: Pair, tmp_path: Path) -> None:
    assert pair.check(save_while_one_rank_polls, tmp_path) == [[2], [2]]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_one_rank_saves_and_ends_all(
    pair: Pair, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    ended = pair.do(train_until_signal, tmp_path, 3, number)
    assert [str(error) for error in ended] == [f"SystemExit({status})"] * 2
    assert require_config(tmp_path, CONFIG) == 4


def test_a_loss_that_is_not_finite_on_one_rank_ends_all(pair: Pair, tmp_path: Path) -> None:
    first, second = pair.do(train_on_spoiled_rows, tmp_path)
    assert isinstance(first, FloatingPointError)
    assert isinstance(second, FloatingPointError)
    assert "at step 0" in str(first)
    assert "loss is nan at step 0" in str(second)


def test_a_checkpoint_of_another_model_fails_on_all_ranks(pair: Pair, tmp_path: Path) -> None:
    pair.check(train, "actions", tmp_path, SHORT, 0)
    errors = pair.do(train, "st actions", tmp_path, SHORT)
    assert all("is of another model: " in str(error) and "more" in str(error) for error in errors)
    assert str(errors[0]) == str(errors[1])
    errors = pair.do(train, "actions", tmp_path, SHORT | {"seed": 1})
    assert all("was started with another config" in str(error) for error in errors)


def test_a_checkpoint_of_ranks_holds_no_pickle(pair: Pair, tmp_path: Path) -> None:
    pair.check(train, "actions", tmp_path, SHORT, 0)
    names = {path.suffix for path in (tmp_path / "steps").rglob("*") if path.is_file()}
    assert has_run(tmp_path)
    assert names == {".json", ".safetensors"}


@pytest.mark.parametrize("number", [1, 2])
def test_a_checkpoint_without_the_file_of_one_rank_is_refused(pair: Pair, tmp_path: Path, number: int) -> None:
    pair.check(train, "actions", tmp_path, SHORT | {"sharding": "fsdp"}, 0)
    (lost,) = (tmp_path / "steps").rglob(f"shard-0000{number}*")
    lost.unlink()
    with pytest.raises(ValueError, match=f"is damaged: .*{lost.name}"):
        read_weights(tmp_path, {})


def test_ranks_and_parts_have_to_divide_the_batch() -> None:
    config = TrainConfig(train_steps=1, batch_size=12, accumulate=2)
    shares = [Ranks(rank, 3).split(config) for rank in range(3)]
    assert [[share.first for share in each] for each in shares] == [[0, 6], [2, 8], [4, 10]]
    with pytest.raises(
        ValueError, match=r"TrainConfig.batch_size must be a multiple of 8 \(4 ranks x accumulate 2\), got 12"
    ):
        Ranks(0, 4).split(config)
    with pytest.raises(ValueError, match=r"Preset.tokenizer_training.batch_size must be .* 8 \(8 ranks\), got 4"):
        require_phases(PRESETS["tiny"], 8)
    with pytest.raises(ValueError, match=r"TrainConfig.accumulate must be a divisor of 12 clips, got 5"):
        dataclasses.replace(config, accumulate=5)
    with pytest.raises(ValueError, match=r"TrainConfig.sharding must be ddp with muon, .* got 'fsdp'"):
        dataclasses.replace(config, sharding="fsdp", optimizer=OptimizerConfig(kind="muon"))


def test_ranks_that_disagree_are_told_where(pair: Pair) -> None:
    errors = pair.do(disagree)
    expected = (
        "all 2 ranks must have one config and the same data, but rank 1 differs from rank 0 in preset.batch_size (1, "
        "not 0)"
    )
    assert [str(error) for error in errors] == [expected] * 2
    assert all(isinstance(error, SharedError) for error in errors)


def test_a_failure_of_one_rank_fails_all(pair: Pair) -> None:
    assert [str(error) for error in pair.do(fail_on_second)] == ["rank 1 of 2: shard 7 is missing"] * 2


def test_an_item_that_one_rank_cannot_read_is_told_alike_by_all(pair: Pair) -> None:
    """So that the first of them tells it once, and none waits in a step that the other will not take."""
    errors = pair.do(read_damaged, 1)
    assert [str(error) for error in errors] == ["rank 1 of 2: shard 7 is corrupt"] * 2
    assert all(isinstance(error, SharedError) for error in errors)
    assert pair.check(read_damaged, 2) == [[*range(5)]] * 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of the file size")
def test_a_disk_that_is_full_for_one_rank_ends_all_and_leaves_no_part(pair: Pair, tmp_path: Path) -> None:
    errors = pair.do(train_on_a_full_disk, tmp_path)
    assert all(isinstance(error, SharedOSError) for error in errors), errors
    assert "000000002: cannot be written ([Errno 27] File too large" in str(errors[0])
    assert not list((tmp_path / "steps").iterdir())
    assert not has_run(tmp_path)
