"""Each model overfits one batch: a model that cannot would not learn from more data."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genie_gym.models.base import LossOutput
from genie_gym.models.dynamics import MaskGITDynamics
from genie_gym.models.latent_action_model import LatentActionModel
from genie_gym.models.video_tokenizer import VideoTokenizer


def learn(module: nn.Module, loss: Callable[[], LossOutput], steps: int, rate: float = 3e-3) -> list[LossOutput]:
    """Train, and return the outputs of every step."""
    optimizer, outputs = torch.optim.AdamW(module.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0), []
    module.train()
    for _ in range(steps):
        outputs.append(loss())
        optimizer.zero_grad()
        outputs[-1].loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    return outputs


@pytest.mark.parametrize("kind", ["additive", "full", "spatial", "fsq"])
def test_tokenizer(variants: Any, moving_squares: Any, kind: str) -> None:
    tokenizer, videos = VideoTokenizer(variants[kind]), moving_squares(2, 4)
    outputs = learn(tokenizer, lambda: tokenizer.loss(videos), 80)
    assert outputs[-1].loss < 0.2 * outputs[0].loss
    assert outputs[-1].metrics["psnr"] > outputs[0].metrics["psnr"] + 8
    assert outputs[-1].metrics["perplexity"] > 3


@pytest.mark.parametrize("kind", ["additive", "fsq", "st-lam", "token-lam"])
def test_latent_action_model(variants: Any, moving_squares: Any, kind: str) -> None:
    """Three jumps and eight codes; without codes nothing beats copying (a loss of about 1 on pixels)."""
    model = LatentActionModel(variants[kind])
    videos: Tensor = moving_squares(4, 6)
    if model.reads_tokens:
        videos = torch.randint(64, (4, 6, 16))
    outputs = learn(model, lambda: model.loss(videos), 110 if kind.endswith("lam") else 70)
    assert outputs[-1].loss < 0.5 * outputs[0].loss
    assert outputs[-1].loss < 0.9
    assert outputs[-1].metrics["perplexity"] > 2


@pytest.mark.parametrize("conditioning", ["additive", "token", "film"])
def test_dynamics(variants: Any, vary: Any, conditioning: str) -> None:
    dynamics = MaskGITDynamics(vary(variants[conditioning], {"dynamics.mask_ratio_per": "sample"}))
    tokens, latent_actions = torch.randint(64, (2, 5, 16)), torch.randint(8, (2, 4))
    outputs = learn(dynamics, lambda: dynamics.loss(tokens, latent_actions), 200, rate=1e-2)
    assert outputs[0].loss.item() == pytest.approx(math.log(64), abs=0.1)
    assert sum(output.loss.item() for output in outputs[-10:]) / 10 < 0.35 * math.log(64)


@pytest.mark.parametrize("conditioning", ["additive", "token", "film"])
def test_dynamics_uses_actions(variants: Any, vary: Any, conditioning: str) -> None:
    """Each batch has new videos in which the action alone determines the next frame, so nothing can be memorised."""
    dynamics = MaskGITDynamics(vary(variants[conditioning], {"dynamics.min_mask_ratio": 1.0}))

    def loss(with_true_actions: bool = True) -> LossOutput:
        latent_actions = torch.randint(8, (8, 3))
        frames = (8 * latent_actions[:, :, None] + torch.arange(16) // 2) % 64
        tokens = torch.cat([torch.randint(64, (8, 1, 16)), frames], dim=1)
        return dynamics.loss(tokens, latent_actions if with_true_actions else (latent_actions + 1) % 8)

    outputs = learn(dynamics, loss, 200, rate=1e-2)
    assert outputs[-1].loss < 0.5
    with torch.no_grad():
        assert loss(with_true_actions=False).loss > outputs[-1].loss + 2
