"""Checkpoints of the Hugging Face hub, against a stand-in for its HTTP: no test needs a network."""

import json
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch

import genie_gym
from experiments.lib.hub_server import Hub, serve_hub
from genie_gym import cli
from genie_gym.models import hub as addresses
from genie_gym.models.hub import fetch_checkpoint
from genie_gym.models.listing import list_checkpoints
from genie_gym.models.loading import find_checkpoint, read_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.play.trajectory import identify_checkpoint

huggingface_hub = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")


def use_hub(url: str, patch: pytest.MonkeyPatch) -> None:
    """Make huggingface_hub talk to an address; it reads its environment once, when it is imported."""
    patch.setattr(constants, "ENDPOINT", url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    fetch_checkpoint.cache_clear()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub, and an empty cache."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_known")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the stand-in knows the older way of uploading alone
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # a failed request is repeated for 20 seconds
    huggingface_hub.close_session()
    with serve_hub() as served:
        use_hub(served.url, monkeypatch)
        yield served
    fetch_checkpoint.cache_clear()


@pytest.fixture
def files(tiny_checkpoint: Path) -> dict[str, bytes]:
    """The files of a checkpoint."""
    return {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()}


def cut_network(patch: pytest.MonkeyPatch) -> None:
    """Make huggingface_hub talk to a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        use_hub(f"http://127.0.0.1:{free.getsockname()[1]}", patch)


def equal(world: GenieWorldModel, other: GenieWorldModel) -> bool:
    pairs = zip(world.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == same and torch.equal(tensor, twin) for (name, tensor), (same, twin) in pairs)


def test_a_world_is_loaded_by_its_address(hub: Hub, files: dict[str, bytes], tiny_checkpoint: Path) -> None:
    hub.commit("you/world", files)
    world = genie_gym.load("hf://you/world")
    assert equal(world, genie_gym.load(tiny_checkpoint))
    assert genie_gym.load("hf://you/world") is world
    env = gym.make("genie_gym:Genie-v0", checkpoint="hf://you/world", disable_env_checker=True)
    assert env.reset(seed=0)[0].shape == (64, 64, 3)
    asked = len(hub.requests)
    find_checkpoint("hf://you/world")
    assert len(hub.requests) == asked, "each process asks once"


def test_the_page_and_trajectories_name_a_world_by_its_address(hub: Hub, files: dict[str, bytes]) -> None:
    """Its folder in the cache is named by a commit alone."""
    hub.commit("you/world", files)
    assert identify_checkpoint("hf://you/world").name == "hf://you/world"


def test_only_weights_config_and_card_are_read(hub: Hub, files: dict[str, bytes]) -> None:
    others = ("modeling.py", "pytorch_model.bin", "world.pkl", "sub/more.safetensors", "sub/config.json", "setup.sh")
    hub.commit("you/world", {**files, "README.md": b"# A world", **dict.fromkeys(others, b"import os")})
    folder = fetch_checkpoint("hf://you/world")
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == set(hub.fetched) == {*files, "README.md"}


def test_a_revision_is_loaded(hub: Hub, files: dict[str, bytes]) -> None:
    first = hub.commit("you/world", {**files, "README.md": b"first"})
    hub.commit("you/world", {**files, "README.md": b"second"})
    assert (fetch_checkpoint(f"hf://you/world@{first}") / "README.md").read_text() == "first"
    assert (fetch_checkpoint("hf://you/world@main") / "README.md").read_text() == "second"


def test_weights_of_another_program_are_not_fetched(hub: Hub) -> None:
    hub.commit("you/language-model", {"config.json": b'{"model_type": "gpt2"}', "model.safetensors": b"gigabytes"})
    with pytest.raises(ValueError, match=r"config.json' must be an object of format 1, got None"):
        genie_gym.load("hf://you/language-model")
    assert hub.fetched == ["config.json"]


@pytest.mark.parametrize("address", ["hf://", "hf://world", "hf://you/", "hf://you/world/deep", "hf://you/wor ld"])
def test_a_wrong_address_is_refused_by_name(address: str) -> None:
    with pytest.raises(ValueError, match=f"must be hf://USER/REPO or hf://USER/REPO@REVISION, got '{address}'"):
        genie_gym.load(address)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("hf://you/nothing", "no such repository"),
        ("hf://you/world@v9", "no such revision"),
        ("hf://you/empty", "has no config.json"),
        ("hf://you/..", "cannot be fetched"),
    ],
)
def test_what_is_not_there_is_told_in_a_line(
    address: str, reason: str, hub: Hub, files: dict[str, bytes], monkeypatch, capsys
) -> None:
    hub.commit("you/world", files)
    hub.commit("you/empty", {"weights.safetensors": b""})
    monkeypatch.setattr(sys, "argv", ["genie-gym", "demo", "--checkpoint", address])
    with pytest.raises(SystemExit) as error:
        cli.main()
    assert error.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith(f"genie-gym: checkpoint '{address}' cannot be fetched: ")
    assert reason in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("failure", ["no network", "broken hub", "offline mode"])
def test_without_the_hub_the_cache_is_used(
    failure: str, hub: Hub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit("you/world", files)
    hub.commit("you/other", files)
    folder = fetch_checkpoint("hf://you/world")
    if failure == "no network":
        cut_network(monkeypatch)
    elif failure == "broken hub":
        hub.broken = True
    else:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fetch_checkpoint.cache_clear()
    assert fetch_checkpoint("hf://you/world") == folder
    reason = "HF_HUB_OFFLINE is set" if failure == "offline mode" else r"cannot be reached \(.+\)"
    with pytest.raises(
        ValueError, match=f"'hf://you/other' cannot be fetched: .*{reason}, and the cache holds no whole"
    ):
        genie_gym.load("hf://you/other")


def test_a_fetch_that_was_cut_short_is_no_checkpoint(
    hub: Hub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit("you/world", files)
    folder = fetch_checkpoint("hf://you/world")
    next(folder.glob("model*.safetensors")).unlink()
    cut_network(monkeypatch)
    with pytest.raises(ValueError, match=r"cannot be fetched: .*holds no whole copy"):
        genie_gym.load("hf://you/world")


def test_a_world_is_pushed_and_loaded_back(hub: Hub, tiny_world: GenieWorldModel) -> None:
    address = genie_gym.push_to_hub(tiny_world, "me/world", private=True)
    assert address == "hf://me/world"
    assert hub.private == {"me/world"}
    assert len(hub.commits["me/world"]) == 2, "the empty one and one with everything"
    assert equal(read_world(find_checkpoint(address)), tiny_world)
    card = (find_checkpoint(address) / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: genie-gym\n")
    assert "64 x 64 pixels and 8 latent actions" in card
    assert 'checkpoint="hf://me/world"' in card


def test_a_push_replaces_a_world_and_leaves_other_files(
    hub: Hub, tiny_checkpoint: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    kept = {"notes.txt": b"mine", "sub/a.safetensors": b"mine", ".gitattributes": b"*"}
    hub.commit("me/world", {**kept, "model-00002-of-00002.safetensors": b"stale", "README.md": b"stale"})
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    (folder / "README.md").write_text("# Mine\n")
    (folder / "secret.txt").write_text("no part of a checkpoint")
    monkeypatch.setattr(sys, "argv", ["genie-gym", "push", str(folder), "hf://me/world"])
    cli.main()
    assert capsys.readouterr().out == "uploaded hf://me/world\n"
    there = hub.commits["me/world"][-1][1]
    own = {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()}
    card = b"---\nlibrary_name: genie-gym\n"
    assert {name: content for name, content in there.items() if name != "README.md"} == {**kept, **own}
    assert there["README.md"].startswith(card)
    assert there["README.md"].endswith(b"---\n# Mine\n")
    assert (folder / "README.md").read_text() == "# Mine\n"


def test_a_loaded_world_is_pushed_as_its_checkpoint(hub: Hub, tiny_checkpoint: Path) -> None:
    """What is prepared for inference, and may be rounded, is not what is uploaded."""
    genie_gym.push_to_hub(genie_gym.load(tiny_checkpoint), "me/world")
    there = hub.commits["me/world"][-1][1]
    assert all(there[path.name] == path.read_bytes() for path in tiny_checkpoint.iterdir())


def test_after_a_push_the_new_world_is_loaded(hub: Hub, tiny_checkpoint: Path, tmp_path: Path) -> None:
    genie_gym.push_to_hub(tiny_checkpoint, "me/world")
    first = find_checkpoint("hf://me/world")
    renamed = shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    (renamed / "README.md").write_text("---\nlicense: mit\n---\n# New\n")
    genie_gym.push_to_hub(renamed, "me/world")
    second = find_checkpoint("hf://me/world")
    assert first != second
    assert (second / "README.md").read_text() == "---\nlicense: mit\n---\n# New\n", "its own head is kept"


@pytest.mark.parametrize(
    ("checkpoint", "repository", "reason"),
    [
        ("nothing", "me/world", "neither a checkpoint's folder"),
        ("coinrun", "world", "repository must be USER/REPO, got 'world'"),
        ("coinrun", "me/a/b", "repository must be USER/REPO, got 'me/a/b'"),
        ("coinrun", "", "repository must be USER/REPO, got ''"),
    ],
)
def test_a_wrong_push_is_refused_by_name(checkpoint: str, repository: str, reason: str, hub: Hub) -> None:
    with pytest.raises(ValueError, match=reason):
        genie_gym.push_to_hub(checkpoint, repository)
    assert hub.requests == []


def test_a_folder_of_another_program_is_not_pushed(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "README.md").write_text("# Another")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"config\.json' must be an object of format 1"):
        genie_gym.push_to_hub(tmp_path, "me/world")
    assert hub.requests == []


@pytest.mark.parametrize("failure", ["unknown token", "no network", "broken hub"])
def test_a_push_that_fails_says_why(failure: str, hub: Hub, tiny_checkpoint: Path, monkeypatch: Any) -> None:
    if failure == "no network":
        cut_network(monkeypatch)
    hub.broken = failure == "broken hub"
    token = "hf_unknown" if failure == "unknown token" else None
    with pytest.raises(ValueError, match=r"^repository 'me/world' cannot be written: .+$"):
        genie_gym.push_to_hub(tiny_checkpoint, "me/world", token=token)
    assert hub.commits == {}


def test_actions_of_a_world_on_the_hub_are_not_named(hub: Hub, files: dict[str, bytes], monkeypatch, capsys) -> None:
    hub.commit("you/world", files)
    monkeypatch.setattr(sys, "argv", ["genie-gym", "name-actions", "hf://you/world", "--accept"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "checkpoint must be on disk to be changed" in capsys.readouterr().err
    assert hub.requests == []


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    fetch_checkpoint.cache_clear()
    monkeypatch.setattr(sys, "argv", ["genie-gym", "demo", "--checkpoint", "hf://you/world"])
    with pytest.raises(SystemExit) as error:
        cli.main()
    assert error.value.code == 2
    assert "pip install 'genie-gym[hub]'" in capsys.readouterr().err
    assert [each.place for each in list_checkpoints([])] == ["shipped"], "listing needs no extra"


def test_checkpoints_are_listed(hub: Hub, files: dict[str, bytes], tiny_checkpoint: Path, tmp_path: Path) -> None:
    hub.commit("you/world", {**files, "README.md": b"---\nlicense: mit\ntags:\n- a\n---\n# Yours\n"})
    hub.commit("you/language-model", {"config.json": b'{"model_type": "gpt2"}'})
    fetch_checkpoint("hf://you/world")
    with pytest.raises(ValueError, match="must be an object of format 1"):
        fetch_checkpoint("hf://you/language-model")
    runs = tmp_path / "runs"
    mine = shutil.copytree(tiny_checkpoint, runs / "mine" / "checkpoint")
    newer = shutil.copytree(tiny_checkpoint, runs / "newer")
    (newer / "config.json").write_text(json.dumps({"format": 2, "world": {}}))
    (runs / "other").mkdir()
    (runs / "other" / "config.json").write_text('{"model_type": "gpt2"}')
    shutil.copytree(tiny_checkpoint, runs / ".hidden")
    listed = list_checkpoints([runs])
    assert [(each.place, each.name) for each in listed] == [
        ("shipped", "coinrun"),
        ("cached", "hf://you/world"),
        ("disk", str(mine)),
        ("disk", str(newer)),
    ]
    assert listed[0].licence == "mit"
    assert listed[0].title.startswith("coinrun: ")
    assert (listed[1].licence, listed[1].title) == ("mit", "Yours")
    config = listed[2].config
    assert config is not None
    assert (config.height, config.num_latent_actions, listed[2].title) == (64, 8, "")
    size = sum(path.stat().st_size for path in mine.glob("*.safetensors"))
    assert listed[2].megabytes == pytest.approx(size / 1e6)
    assert listed[3].config is None
    assert "must be an object of format 1, got 2" in listed[3].title


def test_the_command_lists_them_in_lines(tiny_checkpoint: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    long = tmp_path / ("a" * 100) / "checkpoint"
    shutil.copytree(tiny_checkpoint, long)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["genie-gym", "checkpoints"])
    cli.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["checkpoint", "where", "frames", "actions", "MB", "licence", "title"]
    assert lines[1].split()[:3] == ["coinrun", "shipped", "64x64"]
    assert any(line.split()[:2] == [f"{'a' * 100}/checkpoint", "disk"] for line in lines)
    monkeypatch.setattr(sys, "argv", ["genie-gym", "checkpoints", "missing"])
    with pytest.raises(SystemExit) as error:
        cli.main()
    assert error.value.code == 2
    assert capsys.readouterr().err == "genie-gym: folders must be folders, got 'missing'\n"


def test_addresses_are_told_from_paths() -> None:
    assert addresses.is_address("hf://you/world")
    assert not addresses.is_address("runs/hf/checkpoint")
    assert not addresses.is_address(Path("hf://you/world"))
