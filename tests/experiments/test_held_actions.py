"""No held action makes features overflow: proven from the weights for all tokens, and played."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from experiments.release.held_actions import HeldActions
from genie_gym.data.frames import to_float
from genie_gym.models.loading import find_checkpoint, read_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.st_transformer import SpatioTemporalTransformer
from genie_gym.serving import load_world, native_precision


@pytest.fixture(scope="module")
def precisions() -> tuple[str, ...]:
    """Precisions that ``auto`` may choose here: float32 everywhere, bfloat16 where the processor has flags for it."""
    return tuple(sorted({"float32", native_precision(torch.device("cpu"))}))


@pytest.fixture(scope="module")
def bounds() -> dict[str, float]:
    """Bounds of the shipped world's features, by the kinds that the experiment measures."""
    return bound_world(read_world(find_checkpoint("coinrun")).double().requires_grad_(False))


def bound_linear(layer: nn.Module, features: Tensor) -> Tensor:
    """Bound a layer's outputs (outputs,) by bounds on its inputs, (inputs,) or one for all."""
    return layer.weight.abs() @ features.expand(layer.weight.shape[1]) + bound_bias(layer)


def bound_normed(layer: nn.Module, norm: nn.LayerNorm, scale: Tensor | float = 1, shift: Tensor | float = 0) -> Tensor:
    """Bound a layer's outputs for norm(x) * scale + shift, whatever x is: x by its deviation has the length sqrt(D)."""
    weight = layer.weight if layer.weight.ndim == 2 else layer.weight.permute(2, 3, 0, 1)  # (..., outputs, D)
    longest = (weight * norm.weight * scale).norm(dim=-1) * norm.weight.numel() ** 0.5
    bounds = longest + weight.abs() @ (norm.bias * scale + shift).abs()
    total = bounds.view(-1, bounds.shape[-1]).sum(dim=0)  # a convolution's outputs are sums over neighbours
    return total + bound_bias(layer)


def bound_bias(layer: nn.Module) -> Tensor | float:
    return 0.0 if layer.bias is None else layer.bias.abs()


def bound_transformer(
    transformer: SpatioTemporalTransformer, features: Tensor, conditions: Tensor | None = None
) -> dict[str, float]:
    """Bound ``residual`` features and those that ``expand`` puts out by bounds on the first block's input."""
    residual, most = features, 0.0
    for block in transformer.blocks:
        for norm, attention in ((block.spatial_norm, block.spatial), (block.causal_norm, block.causal)):
            if attention is not None:  # mixed values are no larger than the largest value
                values = bound_normed(attention.project_in, norm)[-attention.project_out.in_features :]
                residual = residual + bound_linear(attention.project_out, values)
        films = [(1.0, 0.0)]
        if conditions is not None:
            films = [(1 + scale, shift) for scale, shift in (each.chunk(2) for each in block.modulate(conditions))]
        expand = block.feed_forward.expand
        hidden = torch.stack([bound_normed(expand, block.feed_forward_norm, *film) for film in films]).amax(dim=0)
        residual = residual + bound_linear(block.feed_forward.contract, hidden)  # GELU makes nothing larger
        most = max(most, float(hidden.max()))
    return {"residual": float(residual.max()), "expand": most}


def bound_world(world: GenieWorldModel) -> dict[str, float]:
    """Bound the features of a world like the shipped one for every token, latent action and number of steps."""
    dynamics, tokenizer = world.dynamics, world.tokenizer
    tokens, transformer = dynamics.token_embedding.weight, dynamics.transformer
    start = bound_linear(dynamics.fold_in, tokens.abs().max()) + dynamics.position_embeddings.abs().amax(dim=0)
    bounds = {"dynamics": bound_transformer(transformer, start, dynamics.action_embedding.weight)}
    head = bound_linear(dynamics.head, bound_normed(dynamics.fold_out, transformer.norm).max())
    logits = float((tokens.abs() @ head).max() + dynamics.output_bias.abs().max())
    codes = tokenizer.quantizer.lookup(torch.arange(world.config.tokenizer.quantizer.codes)).abs().max().double()
    start = bound_linear(tokenizer.code_in, codes) + tokenizer.decoder_position_embeddings.abs().amax(dim=0)
    bounds["decoder"] = bound_transformer(tokenizer.decoder, start)
    return {"logits": logits, **{f"{part} {kind}": each for part in bounds for kind, each in bounds[part].items()}}


@torch.no_grad()
def test_features_of_any_tokens_are_far_from_overflow(bounds: dict[str, float], precisions: tuple[str, ...]) -> None:
    """For any number of steps: norms bound what follows them. Kernels add squares and cubes of features."""
    for precision in precisions:
        assert max(bounds.values()) ** 3 < torch.finfo(getattr(torch, precision)).max / 10


def check_rows(experiment: HeldActions, bounds: dict[str, float]) -> None:
    experiment.run()
    rows = json.loads(experiment.json.read_text())["rows"]
    assert [(row["precision"], row["action"]) for row in rows] == list(
        itertools.product(experiment.precisions, range(8))
    )
    for row in rows:
        greatest = list(row["greatest"].values())[-1]
        for kind, bound in bounds.items():
            assert 0 < greatest[kind] < bound, f"{kind} of {row['precision']} under action {row['action']}"


def test_held_actions_stay_finite(bounds: dict[str, float], precisions: tuple[str, ...], tmp_path: Path) -> None:
    """In each precision that ``auto`` may choose here; features stay within the bounds that weights give."""
    check_rows(HeldActions(out=tmp_path, precisions=precisions), bounds)


@pytest.mark.long_play
@pytest.mark.timeout(3600)  # two minutes on an idle machine
@pytest.mark.parametrize("action", range(8))
def test_a_held_action_plays_10_000_steps_in_the_precision_of_auto(action: int) -> None:
    world = load_world("coinrun", precision="auto")
    start = world.start_clips[action % len(world.start_clips)]
    state, _ = world.reset(to_float(start[None]), [action])
    for _ in range(10_000):
        state, frames = world.step(state, torch.tensor([action]))  # raises if logits are not finite
        assert frames.isfinite().all()
