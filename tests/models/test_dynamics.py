"""The dynamics: causal, blind to hidden tokens, and conditioned on the right action."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genie_gym.configs import WorldConfig
from genie_gym.models.dynamics import MaskGITDynamics
from genie_gym.models.world_model import GenieWorldModel

CONDITIONINGS = ["additive", "token", "film"]
BATCH, FRAMES, POSITIONS, CODES, ACTIONS = 3, 6, 16, 64, 8


@pytest.fixture
def build(tiny_config: WorldConfig, vary: Any, shake: Any) -> Callable[..., MaskGITDynamics]:
    """Build a shaken dynamics with overrides of ``config.dynamics``."""

    def make(**fields: Any) -> MaskGITDynamics:
        overrides = {f"dynamics.{name}": value for name, value in fields.items()}
        return shake(MaskGITDynamics(vary(tiny_config, overrides)))

    return make


def video_tokens(seed: int = 0) -> Tensor:
    return torch.randint(CODES, (BATCH, FRAMES, POSITIONS), generator=torch.Generator().manual_seed(seed))


def video_actions(seed: int = 0) -> Tensor:
    return torch.randint(ACTIONS, (BATCH, FRAMES - 1), generator=torch.Generator().manual_seed(seed))


def all_logits(dynamics: MaskGITDynamics, tokens: Tensor, latent_actions: Tensor) -> Tensor:
    """Return the logits (B, T, N, K)."""
    return dynamics.logits(dynamics(tokens, dynamics.previous_actions(latent_actions))[0]).transpose(0, 1)


def loss_and_inputs(dynamics: MaskGITDynamics, tokens: Tensor, latent_actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss, and the model's inputs: tokens (B, T, N) and previous actions (B, T)."""
    seen: list[Any] = []
    hook = dynamics.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    loss = dynamics.loss(tokens, latent_actions).loss
    hook.remove()
    given = seen[-1]  # before it there is the pass that predicts the context, if any
    return loss, given[0], given[1]


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_no_frame_sees_later_tokens(build: Callable[..., Any], conditioning: str) -> None:
    dynamics, before = build(action_conditioning=conditioning), video_tokens()
    after = before.clone()
    after[:, 3] = (after[:, 3] + 1) % CODES
    old, new = (all_logits(dynamics, tokens, video_actions()) for tokens in (before, after))
    changes = (new - old).abs().amax(dim=(0, 2, 3))
    assert (changes[:3] < 1e-6).all()
    assert (changes[3:] > 1e-4).all()


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_an_action_changes_frames_from_the_one_it_leads_to(build: Callable[..., Any], conditioning: str) -> None:
    """``latent_actions[:, 2]`` leads to frame 3, and does not change frames 0 to 2."""
    dynamics, before = build(action_conditioning=conditioning), video_actions()
    after = before.clone()
    after[:, 2] = (after[:, 2] + 1) % ACTIONS
    old, new = (all_logits(dynamics, video_tokens(), actions) for actions in (before, after))
    changes = (new - old).abs().amax(dim=(0, 2, 3))
    assert (changes[:3] < 1e-6).all()
    assert (changes[3:] > 1e-4).all()


def test_frame_0_has_no_previous_action(build: Callable[..., Any]) -> None:
    previous = build().previous_actions(video_actions())
    assert (previous[:, 0] == ACTIONS).all()
    assert torch.equal(previous[:, 1:], video_actions())


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("codes", [64, 1024])
@pytest.mark.parametrize("from_codebook", [False, True])
def test_the_initial_cross_entropy_is_that_of_guessing(
    tiny_config: WorldConfig, vary: Any, conditioning: str, codes: int, from_codebook: bool
) -> None:
    """It is ln K: less would be a leak, more a bad initialisation."""
    overrides = {"tokenizer.quantizer.codes": codes, "dynamics.action_conditioning": conditioning}
    dynamics = MaskGITDynamics(vary(tiny_config, overrides))
    if from_codebook:
        dynamics.initialise(F.normalize(torch.randn(codes, 8), dim=-1))
    loss = dynamics.loss(torch.randint(codes, (8, FRAMES, POSITIONS)), torch.randint(ACTIONS, (8, FRAMES - 1))).loss
    assert loss.item() == pytest.approx(math.log(codes), abs=0.02)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_noise_cannot_be_learned(build: Callable[..., Any], conditioning: str) -> None:
    """On new random tokens in each batch the loss stays at ln K or above: less would mean that hidden tokens leak."""
    dynamics = build(action_conditioning=conditioning)
    optimizer = torch.optim.AdamW(dynamics.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = dynamics.loss(torch.randint(CODES, (8, 4, POSITIONS)), torch.randint(ACTIONS, (8, 3))).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert -0.02 < sum(losses[-20:]) / 20 - math.log(CODES) < 0.1


@pytest.mark.parametrize("corruption", [0.0, 1.0])
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_the_loss_equals_one_by_hand(build: Callable[..., Any], conditioning: str, corruption: float) -> None:
    """It is the mean nats of the true tokens at hidden positions, given the model's inputs."""
    dynamics = build(action_conditioning=conditioning, context_corruption=corruption)
    tokens, actions = video_tokens(), video_actions()
    loss, seen, previous = loss_and_inputs(dynamics, tokens, actions)
    log_probabilities = dynamics.logits(dynamics(seen, previous)[0]).transpose(0, 1).log_softmax(dim=-1)
    at_truth = [
        -log_probabilities[b, t, n, tokens[b, t, n]]
        for b, t, n in torch.nonzero(seen == dynamics.hidden_token).tolist()
    ]  # fmt: skip
    torch.testing.assert_close(loss, torch.stack(at_truth).mean())


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_only_hidden_positions_have_a_gradient(build: Callable[..., Any], conditioning: str) -> None:
    """The loss has a gradient at the last features of hidden positions and of no others."""
    dynamics, caught = build(action_conditioning=conditioning, clean_frames=0.0), []
    hook = dynamics.register_forward_hook(lambda _, __, output: caught.append(output[0]))
    seen: list[Tensor] = []
    dynamics.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    loss = dynamics.loss(video_tokens(), video_actions()).loss
    hook.remove()
    (gradient,) = torch.autograd.grad(loss, caught[0])
    has_gradient = gradient.abs().amax(dim=-1).transpose(0, 1) > 0
    assert torch.equal(has_gradient, seen[0] == dynamics.hidden_token)
    assert has_gradient.any()


def test_hidden_tokens_are_not_in_the_input(build: Callable[..., Any]) -> None:
    """Other tokens at hidden positions leave the model's input the same."""
    dynamics, tokens = build(), video_tokens()
    torch.manual_seed(5)
    _, seen, _ = loss_and_inputs(dynamics, tokens, video_actions())
    hidden = seen == dynamics.hidden_token
    assert torch.equal(seen[~hidden], tokens[~hidden])
    torch.manual_seed(5)
    other = torch.where(hidden, (tokens + 1) % CODES, tokens)
    assert torch.equal(loss_and_inputs(dynamics, other, video_actions())[1], seen)


def test_targets_at_visible_positions_do_not_matter(build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fixed input, other targets at visible positions do not change the loss; at hidden ones they do."""
    dynamics, tokens = build(), video_tokens()
    mask = dynamics.draw_mask(tokens)
    seen = tokens.masked_fill(mask, dynamics.hidden_token)
    monkeypatch.setattr(dynamics, "draw_mask", lambda _: mask)
    monkeypatch.setattr(dynamics, "_corrupt", lambda _: seen)
    truth = dynamics.loss(tokens, video_actions()).loss
    other = (tokens + 1) % CODES
    assert torch.equal(dynamics.loss(torch.where(mask, tokens, other), video_actions()).loss, truth)
    assert not torch.isclose(dynamics.loss(torch.where(mask, other, tokens), video_actions()).loss, truth)


def hidden_fractions(dynamics: MaskGITDynamics) -> Tensor:
    """Return hidden fractions (B, T - 1), over so many positions that they are the ratios within about 0.02."""
    fractions = dynamics.draw_mask(torch.zeros(200, FRAMES, 4096, dtype=torch.int64)).float().mean(dim=-1)
    assert (fractions[:, 0] == 0).all()
    return fractions[:, 1:]


@pytest.mark.parametrize("least", [0.2, 0.5, 1.0])
def test_each_video_has_one_mask_ratio(build: Callable[..., Any], least: float) -> None:
    fractions = hidden_fractions(build(mask_ratio_per="sample", min_mask_ratio=least))
    assert fractions.std(dim=1).max() < 0.03
    means = fractions.mean(dim=1)
    assert least - 0.03 < means.min() < least + 0.05
    assert means.max() > 0.95
    assert means.std() == pytest.approx((1 - least) / 12**0.5, rel=0.2, abs=1e-3)


@pytest.mark.parametrize("clean", [0.0, 0.5])
def test_each_frame_has_its_own_mask_ratio(build: Callable[..., Any], clean: float) -> None:
    fractions = hidden_fractions(build(mask_ratio_per="frame", min_mask_ratio=0.5, clean_frames=clean))
    assert (fractions == 0).float().mean() == pytest.approx(clean, abs=0.06)
    drawn = fractions[fractions > 0]
    assert 0.46 < drawn.min() < 0.55
    assert drawn.max() > 0.97
    assert drawn.mean() == pytest.approx(0.75, abs=0.03)
    assert fractions.std(dim=1).mean() > 0.1


@pytest.mark.parametrize("per", ["sample", "frame"])
def test_at_least_one_token_is_hidden(build: Callable[..., Any], per: str) -> None:
    """The loss of a batch without hidden tokens would be NaN."""
    dynamics = build(mask_ratio_per=per, min_mask_ratio=0.0, clean_frames=1.0)
    for _ in range(20):
        mask = dynamics.draw_mask(torch.zeros(1, 2, 1, dtype=torch.int64))
        assert not mask[:, 0].any()
        assert mask.any()


def test_corruption_changes_visible_tokens_only(build: Callable[..., Any]) -> None:
    """Hidden positions stay hidden; about the configured fraction is replaced, more of it in later frames."""
    limit = 0.8
    dynamics = build(context_corruption=limit, mask_ratio_per="sample", min_mask_ratio=0.3)
    tokens, actions = torch.randint(CODES, (400, FRAMES, POSITIONS)), torch.randint(ACTIONS, (400, FRAMES - 1))
    torch.manual_seed(2)
    mask = dynamics.draw_mask(tokens)
    torch.manual_seed(2)
    _, seen, _ = loss_and_inputs(dynamics, tokens, actions)
    assert torch.equal(seen == dynamics.hidden_token, mask)
    replaced = ((seen != tokens) & ~mask).sum(dim=(0, 2)) / (~mask).sum(dim=(0, 2))
    expected = limit / 2 * torch.linspace(0.5, 1, FRAMES) * (1 - 1 / CODES)
    torch.testing.assert_close(replaced, expected, atol=0.04, rtol=0)
    per_video = ((seen != tokens) & ~mask).sum(dim=(1, 2)) / (~mask).sum(dim=(1, 2))
    assert per_video.min() < 0.05
    assert 0.5 < per_video.max() <= 1


def test_no_corruption_by_a_limit_of_zero(build: Callable[..., Any]) -> None:
    tokens = video_tokens()
    assert torch.equal(build(context_corruption=0.0)._corrupt(tokens), tokens)


def test_a_pasted_rectangle_stays_for_some_frames(build: Callable[..., Any]) -> None:
    """It is smaller than a frame, lies at one place, and comes from another video."""
    dynamics = build(pasted_context=1.0)
    tokens = torch.arange(BATCH)[:, None, None] * 20 + torch.arange(POSITIONS).expand(BATCH, FRAMES, -1)
    for seed in range(8):
        torch.manual_seed(seed)
        pasted = dynamics._paste(tokens)
        changed = pasted // 20 != tokens // 20  # (B, T, N)
        assert changed.flatten(1).any(dim=1).all()
        assert torch.equal(pasted[changed] // 20, tokens.roll(1, dims=0)[changed] // 20)
        times, places = changed.any(dim=2), changed.any(dim=1)
        assert torch.equal(changed, times[:, :, None] & places[:, None])
        assert (times.sum(dim=1) <= FRAMES // 2).all()
        assert (places.sum(dim=1) <= POSITIONS // 4).all()


def test_some_videos_have_predicted_frames_in_their_context(build: Callable[..., Any]) -> None:
    """Frame 0 and the other videos stay as they are, and no gradient passes through the samples."""
    dynamics, tokens = build(own_context=0.7), video_tokens()
    torch.manual_seed(0)
    context = dynamics._predict_context(tokens, dynamics.previous_actions(video_actions()))
    changed = (context != tokens).any(dim=2)  # (B, T)
    assert not changed[2].any()
    assert not changed[:, 0].any()
    assert changed[:2, 1:].any()
    assert not changed[:2, 1:].all()
    assert context.max() < CODES


def test_targets_are_the_real_tokens_whatever_the_context(build: Callable[..., Any]) -> None:
    """Pasted and predicted tokens are context alone: the loss is that of the real tokens at the hidden positions."""
    dynamics, tokens = build(pasted_context=1.0, own_context=1.0), video_tokens()
    torch.manual_seed(0)
    loss, seen, _ = loss_and_inputs(dynamics, tokens, video_actions())
    hidden = seen == dynamics.hidden_token
    assert (seen != tokens)[~hidden].any()
    logits = dynamics.logits(dynamics(seen, dynamics.previous_actions(video_actions()))[0]).transpose(0, 1)
    by_hand = F.cross_entropy(logits[hidden], tokens[hidden])
    assert torch.allclose(loss, by_hand, atol=1e-5)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_all_weights_have_gradients(build: Callable[..., Any], conditioning: str) -> None:
    dynamics = build(action_conditioning=conditioning)
    dynamics.loss(video_tokens(), video_actions()).loss.backward()
    idle = [name for name, weight in dynamics.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []


def test_similar_codes_have_similar_initial_embeddings(tiny_config: WorldConfig) -> None:
    dynamics, codebook = MaskGITDynamics(tiny_config), F.normalize(torch.randn(CODES, 8), dim=-1)
    codebook[1] = codebook[0]
    dynamics.initialise(codebook)
    embeddings = dynamics.token_embedding.weight[:CODES]
    between = torch.cdist(codebook, codebook).flatten()
    distances = torch.cdist(embeddings, embeddings).flatten()
    assert torch.corrcoef(torch.stack([between, distances]))[0, 1] > 0.7
    assert distances.view(CODES, CODES)[0, 1] < 0.5 * distances[distances > 0].mean()


def test_bfloat16_loss_stays_near(build: Callable[..., Any]) -> None:
    dynamics = build()
    losses = []
    for precision in ("float32", "bfloat16"):
        dynamics.set_precision(precision)
        torch.manual_seed(1)
        losses.append(dynamics.loss(video_tokens(), video_actions()).loss)
    assert losses[1].dtype == torch.float32
    assert losses[0] != losses[1]
    torch.testing.assert_close(losses[1], losses[0], rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("tokens", "latent_actions", "message"),
    [
        (video_tokens(), video_actions()[:, 1:], r"latent_actions must be \(3, 5\) .* got \(3, 4\)"),
        (video_tokens(), video_actions()[1:], r"latent_actions must be \(3, 5\) .* got \(2, 5\)"),
        (video_tokens() + CODES, video_actions(), r"tokens must be in \[0, 64\)"),
        (video_tokens(), video_actions() + ACTIONS, r"latent_actions must be in \[0, 8\)"),
        (video_tokens().int(), video_actions(), "tokens must be int64"),
        (video_tokens(), video_actions().float(), "latent_actions must be int64"),
        (video_tokens()[:, :1], video_actions()[:, :0], "tokens must have at least 2 frames .* got 1"),
    ],
)
def test_wrong_arguments(tiny_world: GenieWorldModel, tokens: Tensor, latent_actions: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_world.dynamics.loss(tokens, latent_actions)
