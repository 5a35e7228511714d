"""Other projects timed beside this one, with a fake checkout: theirs are not installed here."""

import json
import sys
from pathlib import Path

import pytest

from experiments.peers.time_peers import PeersComparison, require_checkouts

FAKE = """
import torch

class Quantizer:
    def get_latents_from_indices(self, index, dim=-1):
        return torch.zeros(*index.shape, 5)

class VideoTokenizer(torch.nn.Module):
    def __init__(self, frame_size, patch_size, latent_dim, num_bins, **sizes):
        super().__init__()
        assert num_bins**latent_dim == 64, (num_bins, latent_dim)
        self.tokens, self.quantizer = frame_size[0] * frame_size[1] // patch_size**2, Quantizer()
    def tokenize(self, videos):
        return torch.zeros(*videos.shape[:2], self.tokens, dtype=torch.int64)
    def detokenize(self, latents):
        assert latents.shape[1] == 9, latents.shape
"""
DYNAMICS = """
import torch

class DynamicsModel(torch.nn.Module):
    def __init__(self, embed_dim, **sizes):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(embed_dim))
    def forward_inference(self, context_latents, prediction_horizon, num_steps, conditioning, **settings):
        assert (num_steps, prediction_horizon) == (2, 1)
        assert conditioning.shape[:2] == context_latents.shape[:2]
        return torch.cat([context_latents, context_latents[:, :1]], dim=1)
"""


def fake(folder: Path) -> Path:
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "video_tokenizer.py").write_text(FAKE)
    (folder / "models" / "dynamics.py").write_text(DYNAMICS)
    return folder


@pytest.mark.pipeline
def test_a_checkout_is_timed_beside_this_project(tiny_checkpoint: Path, tmp_path: Path) -> None:
    checkouts = {"tinyworlds": fake(tmp_path / "tinyworlds")}
    comparison = PeersComparison(checkpoint=str(tiny_checkpoint), checkouts=checkouts, out=tmp_path)
    comparison.run()
    row = json.loads(comparison.json.read_text())["rows"][0]
    assert (row["sizes"]["codes"], row["sizes"]["maskgit_steps"]) == (64, 2)
    figures = row["by_rows"][0]
    assert list(figures["by_project"]) == ["genie-gym", "tinyworlds"]
    assert figures["parameters"]["tinyworlds"] == row["sizes"]["width"]
    assert all(each["fps"] > 0 for each in figures["by_project"].values())


def test_a_project_that_is_not_installed_is_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "genie.py").write_text("")
    (tmp_path / "jax.py").write_text("raise ImportError('no jax, on purpose')\n")
    comparison = PeersComparison(
        checkpoint=str(tiny_checkpoint),
        checkouts={"jafar": tmp_path},
        interpreters={"jafar": sys.executable},
        out=tmp_path,
    )
    with pytest.raises(ValueError, match="jafar cannot play"):
        comparison.run()


def test_folders_that_are_no_checkouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one or more of tinyworlds, jasmine, jafar, got \[\]"):
        require_checkouts({})
    with pytest.raises(ValueError, match=r"got .*genius"):
        require_checkouts({"genius": tmp_path})
    with pytest.raises(ValueError, match=rf"jasmine must be a folder with jasmine/models/genie.py.*{tmp_path.name}"):
        require_checkouts({"jasmine": tmp_path})
