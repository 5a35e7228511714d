"""Optimisers, learning-rate schedules and gradient clipping."""

import math

import torch
from torch import nn

from genie_gym.configs import OptimizerConfig
from genie_gym.training.muon import Muon
from genie_gym.training.sharding import whole_tensor

_WSD_DECAY = 0.2
"""Share of training over which the ``wsd`` schedule decays."""


def build_optimizer(module: nn.Module, config: OptimizerConfig, precision: str = "float32") -> Muon:
    """Return a fused AdamW or Muon over the trainable parameters; weight decay acts on matrices and kernels only.

    Args:
        module: Module to train.
        config: Kind and options of the optimiser.
        precision: Precision that the module trains in, ``float32`` or ``bfloat16``; Muon iterates in it.
    """
    parameters = [each for each in module.parameters() if each.requires_grad]
    if config.kind != "adamw":
        layers = (nn.Linear, nn.Conv2d) if config.kind == "muon-conv" else nn.Linear
        matrices = [each.weight for each in module.modules() if isinstance(each, layers) and each.weight.requires_grad]
    else:
        matrices = [each for each in parameters if each.ndim >= 2]
    numbers = {id(matrix) for matrix in matrices}
    rest = [each for each in parameters if id(each) not in numbers]
    groups = [
        {"params": matrices, "orthogonal": config.kind != "adamw", "weight_decay": config.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return Muon(groups, getattr(torch, precision), lr=config.learning_rate, betas=config.betas, fused=True)


def learning_rate(step: int, train_steps: int, config: OptimizerConfig) -> float:
    """Return the learning rate of 0-based ``step`` out of ``train_steps``: linear warm-up, then the schedule."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    peak, last = config.learning_rate, config.final_learning_rate
    progress = (step - config.warmup_steps) / max(1, train_steps - 1 - config.warmup_steps)
    if config.schedule == "cosine":
        return last + (peak - last) * (1 + math.cos(math.pi * min(1.0, progress))) / 2
    if config.schedule == "wsd":
        left = max(0.0, 1 - step / max(1, train_steps - 1)) / _WSD_DECAY
        return last + (peak - last) * min(1.0, left)
    return peak


def clip_gradients(module: nn.Module, max_norm: float) -> dict[str, torch.Tensor]:
    """Clip the gradients of each child by its own norm and return the norms; one model's do not shrink another's."""
    norms = {}
    for name, child in module.named_children():
        gradients = [parameter for parameter in child.parameters() if parameter.grad is not None]
        if gradients:
            norms[f"gradient_norm/{name}"] = whole_tensor(nn.utils.clip_grad_norm_(gradients, max_norm))
    return norms
