"""Speeds of the agents' tools are measured and written."""

import json
from pathlib import Path

import pytest

from agents.ppo_speed import PPO_SETUPS
from agents.speed import AGENT_SPEED_SIZES, AgentSpeed


@pytest.mark.pipeline
def test_speeds_are_written(tmp_path: Path, tiny_checkpoint: Path) -> None:
    command = AgentSpeed(out=tmp_path / "out", work=tmp_path / "work", checkpoint=str(tiny_checkpoint))
    command.run()
    results = json.loads(command.json.read_text())
    assert results["env_steps"] >= AGENT_SPEED_SIZES["smoke"]["levels"]
    assert results["env_steps_per_second"] > 0
    assert results["labelled_frames_per_second"] > 0
    assert results["dreamt_steps_per_second"] > 0
    assert [row["setup"] for row in results["ppo"]] == list(PPO_SETUPS)
    for row in results["ppo"]:
        assert row["steps_per_second"] * sum(row["milliseconds"].values()) == pytest.approx(1000)
        assert min(row["milliseconds"].values()) >= 0
    assert 0 < results["adapter_share"] < 1
    assert results["peak_memory_mb"] > 100
    assert {"command", "commit", "seed", "machine"} <= set(results)
