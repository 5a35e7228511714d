"""The dynamics: causal, honest about what is hidden, and conditioned on the right action."""

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
BATCH, FRAMES, PLACES, CODES, ACTIONS = 3, 6, 16, 64, 8


@pytest.fixture
def build(tiny_config: WorldConfig, vary: Any, shake: Any) -> Callable[..., MaskGITDynamics]:
    """A shaken dynamics with overrides of its part of the config."""

    def make(**fields: Any) -> MaskGITDynamics:
        overrides = {f"dynamics.{name}": value for name, value in fields.items()}
        return shake(MaskGITDynamics(vary(tiny_config, overrides)))

    return make


def video_tokens(seed: int = 0) -> Tensor:
    return torch.randint(CODES, (BATCH, FRAMES, PLACES), generator=torch.Generator().manual_seed(seed))


def video_actions(seed: int = 0) -> Tensor:
    return torch.randint(ACTIONS, (BATCH, FRAMES - 1), generator=torch.Generator().manual_seed(seed))


def all_logits(dynamics: MaskGITDynamics, tokens: Tensor, latent_actions: Tensor) -> Tensor:
    """(B, T, N, K)."""
    return dynamics.logits(dynamics(tokens, dynamics.previous_actions(latent_actions))[0]).transpose(0, 1)


def watched_loss(dynamics: MaskGITDynamics, tokens: Tensor, latent_actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, the tokens (B, T, N) that the model saw, and the actions (B, T) it was given."""
    seen: list[Any] = []
    hook = dynamics.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    loss = dynamics.loss(tokens, latent_actions).loss
    hook.remove()
    (given,) = seen
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
def test_an_action_counts_from_the_frame_it_leads_to(build: Callable[..., Any], conditioning: str) -> None:
    """``latent_actions[:, 2]`` leads to frame 3: frames 0..2 don't know of it."""
    dynamics, before = build(action_conditioning=conditioning), video_actions()
    after = before.clone()
    after[:, 2] = (after[:, 2] + 1) % ACTIONS
    old, new = (all_logits(dynamics, video_tokens(), actions) for actions in (before, after))
    changes = (new - old).abs().amax(dim=(0, 2, 3))
    assert (changes[:3] < 1e-6).all()
    assert (changes[3:] > 1e-4).all()


def test_frame_0_has_no_action(build: Callable[..., Any]) -> None:
    lead = build().previous_actions(video_actions())
    assert (lead[:, 0] == ACTIONS).all()
    assert torch.equal(lead[:, 1:], video_actions())


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("codes", [64, 1024])
@pytest.mark.parametrize("from_codebook", [False, True])
def test_the_first_cross_entropy_is_that_of_guessing(
    tiny_config: WorldConfig, vary: Any, conditioning: str, codes: int, from_codebook: bool
) -> None:
    """ln K: less would be a leak, more a bad start."""
    overrides = {"tokenizer.quantizer.codes": codes, "dynamics.action_conditioning": conditioning}
    dynamics = MaskGITDynamics(vary(tiny_config, overrides))
    if from_codebook:
        dynamics.initialise(F.normalize(torch.randn(codes, 8), dim=-1))
    loss = dynamics.loss(torch.randint(codes, (8, FRAMES, PLACES)), torch.randint(ACTIONS, (8, FRAMES - 1))).loss
    assert loss.item() == pytest.approx(math.log(codes), abs=0.02)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_noise_cannot_be_learned(build: Callable[..., Any], conditioning: str) -> None:
    """Tokens drawn anew for each batch stay at ln K or above: whatever gets lower has seen what is hidden."""
    dynamics = build(action_conditioning=conditioning)
    optimizer = torch.optim.AdamW(dynamics.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = dynamics.loss(torch.randint(CODES, (8, 4, PLACES)), torch.randint(ACTIONS, (8, 3))).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert -0.02 < sum(losses[-20:]) / 20 - math.log(CODES) < 0.1


@pytest.mark.parametrize("corruption", [0.0, 1.0])
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_the_loss_by_hand(build: Callable[..., Any], conditioning: str, corruption: float) -> None:
    """Mean nats of the true tokens at hidden places, from what the model was given to see."""
    dynamics = build(action_conditioning=conditioning, context_corruption=corruption)
    tokens, actions = video_tokens(), video_actions()
    loss, seen, lead = watched_loss(dynamics, tokens, actions)
    log_shares = dynamics.logits(dynamics(seen, lead)[0]).transpose(0, 1).log_softmax(dim=-1)
    at_truth = [
        -log_shares[b, t, n, tokens[b, t, n]]
        for b, t, n in torch.nonzero(seen == dynamics.hidden_token).tolist()
    ]  # fmt: skip
    torch.testing.assert_close(loss, torch.stack(at_truth).mean())


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_only_hidden_places_are_pushed(build: Callable[..., Any], conditioning: str) -> None:
    """The loss's gradient reaches the last features of hidden places and of no other."""
    dynamics, caught = build(action_conditioning=conditioning, clean_frames=0.0), []
    hook = dynamics.register_forward_hook(lambda _, __, output: caught.append(output[0]))
    seen: list[Tensor] = []
    dynamics.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    loss = dynamics.loss(video_tokens(), video_actions()).loss
    hook.remove()
    (gradient,) = torch.autograd.grad(loss, caught[0])
    pushed = gradient.abs().amax(dim=-1).transpose(0, 1) > 0
    assert torch.equal(pushed, seen[0] == dynamics.hidden_token)
    assert pushed.any()


def test_hidden_tokens_are_not_seen(build: Callable[..., Any]) -> None:
    """Other tokens at hidden places give the model the very same input."""
    dynamics, tokens = build(), video_tokens()
    torch.manual_seed(5)
    _, seen, _ = watched_loss(dynamics, tokens, video_actions())
    hidden = seen == dynamics.hidden_token
    assert torch.equal(seen[~hidden], tokens[~hidden])
    torch.manual_seed(5)
    other = torch.where(hidden, (tokens + 1) % CODES, tokens)
    assert torch.equal(watched_loss(dynamics, other, video_actions())[1], seen)


def test_targets_at_visible_places_do_not_matter(build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With an input that is held fixed, other tokens at visible places leave the loss as it is; hidden ones not."""
    dynamics, tokens = build(), video_tokens()
    mask = dynamics.draw_mask(tokens)
    seen = tokens.masked_fill(mask, dynamics.hidden_token)
    monkeypatch.setattr(dynamics, "draw_mask", lambda _: mask)
    monkeypatch.setattr(dynamics, "_corrupt", lambda _: seen)
    truth = dynamics.loss(tokens, video_actions()).loss
    other = (tokens + 1) % CODES
    assert torch.equal(dynamics.loss(torch.where(mask, tokens, other), video_actions()).loss, truth)
    assert not torch.isclose(dynamics.loss(torch.where(mask, other, tokens), video_actions()).loss, truth)


def many_masks(dynamics: MaskGITDynamics) -> Tensor:
    """(B, T) shares hidden, over so many places that they are the ratios within about 0.02."""
    shares = dynamics.draw_mask(torch.zeros(200, FRAMES, 4096, dtype=torch.int64)).float().mean(dim=-1)
    assert (shares[:, 0] == 0).all()
    return shares[:, 1:]


@pytest.mark.parametrize("least", [0.2, 0.5, 1.0])
def test_one_ratio_for_each_video(build: Callable[..., Any], least: float) -> None:
    shares = many_masks(build(mask_ratio_per="sample", min_mask_ratio=least))
    assert shares.std(dim=1).max() < 0.03
    means = shares.mean(dim=1)
    assert least - 0.03 < means.min() < least + 0.05
    assert means.max() > 0.95
    assert means.std() == pytest.approx((1 - least) / 12**0.5, rel=0.2, abs=1e-3)


@pytest.mark.parametrize("clean", [0.0, 0.5])
def test_one_ratio_for_each_frame(build: Callable[..., Any], clean: float) -> None:
    shares = many_masks(build(mask_ratio_per="frame", min_mask_ratio=0.5, clean_frames=clean))
    assert (shares == 0).float().mean() == pytest.approx(clean, abs=0.06)
    drawn = shares[shares > 0]
    assert 0.46 < drawn.min() < 0.55
    assert drawn.max() > 0.97
    assert drawn.mean() == pytest.approx(0.75, abs=0.03)
    assert shares.std(dim=1).mean() > 0.1


@pytest.mark.parametrize("per", ["sample", "frame"])
def test_something_is_always_hidden(build: Callable[..., Any], per: str) -> None:
    """Else the loss of an all-visible batch would be no number."""
    dynamics = build(mask_ratio_per=per, min_mask_ratio=0.0, clean_frames=1.0)
    for _ in range(20):
        mask = dynamics.draw_mask(torch.zeros(1, 2, 1, dtype=torch.int64))
        assert not mask[:, 0].any()
        assert mask.any()


def test_corruption_changes_the_visible_context_only(build: Callable[..., Any]) -> None:
    """Hidden places stay hidden, and about the share asked for is replaced, more of it in later frames."""
    limit = 0.8
    dynamics = build(context_corruption=limit, mask_ratio_per="sample", min_mask_ratio=0.3)
    tokens, actions = torch.randint(CODES, (400, FRAMES, PLACES)), torch.randint(ACTIONS, (400, FRAMES - 1))
    torch.manual_seed(2)
    mask = dynamics.draw_mask(tokens)
    torch.manual_seed(2)
    _, seen, _ = watched_loss(dynamics, tokens, actions)
    assert torch.equal(seen == dynamics.hidden_token, mask)
    replaced = ((seen != tokens) & ~mask).sum(dim=(0, 2)) / (~mask).sum(dim=(0, 2))
    expected = limit / 2 * torch.linspace(0.5, 1, FRAMES) * (1 - 1 / CODES)
    torch.testing.assert_close(replaced, expected, atol=0.04, rtol=0)
    per_video = ((seen != tokens) & ~mask).sum(dim=(1, 2)) / (~mask).sum(dim=(1, 2))
    assert per_video.min() < 0.05
    assert 0.5 < per_video.max() <= 1


def test_no_corruption_unless_asked(build: Callable[..., Any]) -> None:
    tokens = video_tokens()
    assert torch.equal(build(context_corruption=0.0)._corrupt(tokens), tokens)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_all_weights_learn(build: Callable[..., Any], conditioning: str) -> None:
    dynamics = build(action_conditioning=conditioning)
    dynamics.loss(video_tokens(), video_actions()).loss.backward()
    idle = [name for name, weight in dynamics.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []


def test_codes_that_look_alike_start_alike(tiny_config: WorldConfig) -> None:
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
