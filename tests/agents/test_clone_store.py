"""Clones that are kept: which settings each kind uses, and that the others may change once it is finished."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from agents import clone_store
from agents.clone_store import CloneStore
from agents.config import CloningConfig
from agents.demonstrations import DemonstrationFolders, Demonstrations
from agents.policy import LatentPolicy
from agents.windows import Windows
from genie_gym.models.world_model import GenieWorldModel
from tests.agents.small import small_cloning

LABELS, BATCHES = 40, 2
CONFIG = dataclasses.replace(small_cloning(BATCHES), actions_ahead=2)
CHANGES: dict[str, Any] = {
    "policy": dataclasses.replace(CONFIG.policy, features=8),
    "training": dataclasses.replace(CONFIG.training, train_steps=BATCHES + 1),
    "random_shift": 2,
    "decoder_share": 0.5,
    "posterior_after": 0.5,
    "auxiliary_weight": 0.25,
    "predicts_latents": ("oracle",),
    "actions_ahead": 1,
    "ahead_weight": 0.25,
}
"""Another value for each field of a config."""
ALL_USE = {"policy", "training", "random_shift", "actions_ahead", "ahead_weight"}
KINDS: dict[str, tuple[Callable[[CloneStore], LatentPolicy], set[str]]] = {
    "oracle": (lambda store: store.oracle(0), ALL_USE | {"predicts_latents"}),
    "lam": (lambda store: store.latent_policy(0), ALL_USE),
    "labelled": (lambda store: store.labelled_only(LABELS, 0), ALL_USE),
    "idm_relabel": (lambda store: store.relabelled("idm_relabel", 0), ALL_USE | {"decoder_share", "posterior_after"}),
    "lam_relabel": (lambda store: store.relabelled("lam_relabel", 0), set(CHANGES)),
}
"""How to get each kind of clone, and the fields of the config that make a difference to it."""


@pytest.fixture
def open_store(
    demonstrations: DemonstrationFolders, make_world: Callable[[str], GenieWorldModel], tmp_path: Path
) -> Callable[[CloningConfig], CloneStore]:
    """Return a function from a config to a store of the clones in one folder, with a decoder of few steps."""
    recordings = Demonstrations(out=demonstrations.videos.parent, frames=2048, labelled_frames=1024, num_envs=8)
    world = make_world("moving")
    few = {"relabel_samples": LABELS, "inverse_steps": 2}
    return lambda config: CloneStore(recordings, world, config, config, tmp_path, **few)


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_clone_is_refused_for_other_settings_that_it_uses_and_no_others(
    open_store: Callable[[CloningConfig], CloneStore], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, used = KINDS[kind]
    whole = make(open_store(CONFIG)).state_dict()
    (path,) = tmp_path.glob("*/cloning.json")
    weight = {"auxiliary_weight"} if kind in ("oracle", "idm_relabel", "lam_relabel") else set[str]()
    assert set(json.loads(path.read_text())) == (used - {"predicts_latents"}) | weight
    monkeypatch.setattr(clone_store, "clone", None)
    assert {field.name for field in dataclasses.fields(CloningConfig)} == set(CHANGES)
    for name, value in CHANGES.items():
        store = open_store(dataclasses.replace(CONFIG, **{name: value}))
        if name in used:
            saved_as = "auxiliary_weight" if name == "predicts_latents" else name  # 0 for clones not chosen
            with pytest.raises(ValueError, match=f"another config.*'{saved_as}'"):
                make(store)
        else:
            assert all(map(torch.equal, make(store).state_dict().values(), whole.values())), name


def test_a_clone_that_was_saved_with_settings_it_does_not_use_is_found(
    open_store: Callable[[CloningConfig], CloneStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, _ = KINDS["lam"]
    make(open_store(CONFIG))
    (path,) = tmp_path.glob("*/cloning.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "decoder_share": 0.9}))
    monkeypatch.setattr(clone_store, "clone", None)
    assert make(open_store(CONFIG)).num_actions == open_store(CONFIG).world.config.num_latent_actions


def test_only_clones_of_real_actions_can_be_chosen_to_predict_latent_actions() -> None:
    for name in ("lam", "idm_relabel", "labelled_only"):
        with pytest.raises(ValueError, match=rf"predicts_latents must be among oracle and lam_relabel, got \('{name}'"):
            dataclasses.replace(CONFIG, predicts_latents=(name,))


@pytest.mark.parametrize("chosen", [(), ("oracle",), ("lam_relabel",), ("oracle", "lam_relabel")])
def test_the_chosen_clones_learn_latent_actions_beside_real_ones_and_no_others(
    open_store: Callable[[CloningConfig], CloneStore], chosen: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Windows] = {}

    def note_windows(windows: Windows, config: CloningConfig, source: str, out: Path, **_: Any) -> LatentPolicy:
        seen[out.name.rsplit("-", 1)[0]] = windows
        return LatentPolicy(config.policy, windows.num_actions, source)

    monkeypatch.setattr(clone_store, "clone", note_windows)
    store = open_store(dataclasses.replace(CONFIG, predicts_latents=chosen))
    for make, _ in KINDS.values():
        make(store)
    assert {name for name, windows in seen.items() if windows.num_latents} == set(chosen)
    for name in chosen:
        numbers = seen[name].targets[:50]
        assert torch.equal(seen[name].latents_at(numbers), seen["lam"].labels_at(numbers))
