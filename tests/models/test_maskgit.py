"""MaskGIT decoding, tested with models that know the answer and record their inputs."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genie_gym.configs import SamplingConfig
from genie_gym.models import maskgit
from genie_gym.models.maskgit import draw, hidden_after, sample
from genie_gym.serving import kernels

CODES, POSITIONS, ROWS = 12, 30, 4
HIDDEN = CODES
STEPS = [1, 2, 4, 8, 25, 40]
CONFIGS = [
    SamplingConfig(maskgit_steps=steps, schedule=schedule, order=order)  # type: ignore[arg-type]
    for steps, schedule, order in itertools.product(STEPS, ("cosine", "linear"), ("confidence", "random"))
]


def describe(config: SamplingConfig) -> str:
    return f"{config.maskgit_steps}-{config.schedule}-{config.order}"


def uniform_numbers(config: SamplingConfig, rows: int = ROWS, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, config.maskgit_steps, 2, POSITIONS, generator=generator)


def all_hidden(rows: int = ROWS) -> Tensor:
    return torch.full((rows, POSITIONS), HIDDEN)


class Oracle:
    """A model that is sure of the right tokens at all positions, and records its inputs."""

    def __init__(self, answer: Tensor) -> None:
        self.answer = answer
        self.seen: list[Tensor] = []

    def __call__(self, tokens: Tensor) -> Tensor:
        self.seen.append(tokens.clone())
        return torch.nn.functional.one_hot(self.answer, CODES).float() * 200


@pytest.fixture
def oracle() -> Oracle:
    return Oracle(torch.randint(CODES, (ROWS, POSITIONS)))


@pytest.fixture
def context_reader() -> Callable[[Tensor], Tensor]:
    """A model whose logits are unsure and depend on all tokens of their row."""
    weights = torch.randn(CODES + 1, POSITIONS, POSITIONS, CODES)

    def predict(tokens: Tensor) -> Tensor:
        rows = [weights[row, torch.arange(POSITIONS)].mean(dim=0) * 8 for row in tokens]
        return torch.stack(rows)

    return predict


@pytest.mark.parametrize("config", CONFIGS, ids=describe)
def test_an_oracle_is_reproduced(oracle: Oracle, config: SamplingConfig) -> None:
    """In exactly ``maskgit_steps`` passes, whose inputs hold only right and hidden tokens."""
    tokens = sample(oracle, all_hidden(), HIDDEN, config, uniform_numbers(config))
    assert torch.equal(tokens, oracle.answer)
    assert len(oracle.seen) == config.maskgit_steps
    for seen in oracle.seen:
        assert ((seen == oracle.answer) | (seen == HIDDEN)).all()


@pytest.mark.parametrize("config", CONFIGS, ids=describe)
def test_the_number_of_hidden_tokens_follows_the_schedule(oracle: Oracle, config: SamplingConfig) -> None:
    sample(oracle, all_hidden(), HIDDEN, config, uniform_numbers(config))
    counts = torch.stack([(seen == HIDDEN).sum(dim=-1) for seen in oracle.seen])
    progress = [step / config.maskgit_steps for step in range(config.maskgit_steps)]
    if config.schedule == "cosine":
        progress = [1 - math.cos(math.pi / 2 * each) for each in progress]
    ideal = [POSITIONS * (1 - each) for each in progress]
    assert (counts == counts[:, :1]).all()
    assert counts[0, 0] == POSITIONS
    for count, wanted in zip(counts[:, 0].tolist()[1:], ideal[1:], strict=True):
        assert wanted - 1.001 <= count <= wanted
    assert (counts.diff(dim=0) <= 0).all()
    if config.maskgit_steps > 1:
        assert counts[1, 0] < POSITIONS  # the first pass already keeps a token


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_schedule_equals_one_by_hand(schedule: str) -> None:
    config = SamplingConfig(maskgit_steps=4, schedule=schedule)  # type: ignore[arg-type]
    expected = {"cosine": [92, 70, 38, 0], "linear": [75, 50, 25, 0]}[schedule]
    assert [hidden_after(step, config, 100) for step in range(4)] == expected


@pytest.mark.parametrize("config", CONFIGS, ids=describe)
def test_given_tokens_are_kept(context_reader: Callable, config: SamplingConfig) -> None:
    """In rows with any number of given tokens, from none to all; no token stays hidden."""
    given = torch.randint(CODES, (ROWS, POSITIONS))
    is_given = torch.rand(ROWS, POSITIONS) < torch.tensor([0.0, 0.3, 0.9, 1.0])[:, None]
    tokens = torch.where(is_given, given, HIDDEN)
    before = tokens.clone()
    seen: list[Tensor] = []

    def predict(asked: Tensor) -> Tensor:
        seen.append(asked)
        return context_reader(asked)

    filled = sample(predict, tokens, HIDDEN, config, uniform_numbers(config))
    assert torch.equal(filled[is_given], given[is_given])
    assert ((filled >= 0) & (filled < CODES)).all()
    assert torch.equal(tokens, before)
    assert len(seen) == config.maskgit_steps
    for earlier, later in itertools.pairwise([*seen, filled]):
        assert torch.equal(later[earlier != HIDDEN], earlier[earlier != HIDDEN])


def test_later_passes_see_earlier_tokens(context_reader: Callable) -> None:
    """Drawing all at once and drawing in steps differ if tokens depend on each other."""
    one, many = (SamplingConfig(maskgit_steps=steps) for steps in (1, 25))
    numbers = uniform_numbers(many)
    at_once = sample(context_reader, all_hidden(), HIDDEN, one, numbers[:, :1])
    assert not torch.equal(at_once, sample(context_reader, all_hidden(), HIDDEN, many, numbers))


@pytest.mark.parametrize("config", CONFIGS[::5], ids=describe)
def test_a_row_alone_equals_the_row_in_a_batch(context_reader: Callable, config: SamplingConfig) -> None:
    numbers = uniform_numbers(config)
    together = sample(context_reader, all_hidden(), HIDDEN, config, numbers)
    for row in range(ROWS):
        alone = sample(context_reader, all_hidden(1), HIDDEN, config, numbers[row : row + 1])
        assert torch.equal(alone[0], together[row])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("steps", [2, 8])
def test_the_surest_tokens_are_kept_first(steps: int) -> None:
    """Without noise in the order, tokens that are still hidden are those the model is least sure of."""
    config = SamplingConfig(maskgit_steps=steps, choice_temperature=0.0)
    sureness = torch.rand(ROWS, POSITIONS).argsort(dim=-1) * 0.3
    seen: list[Tensor] = []

    def predict(tokens: Tensor) -> Tensor:
        seen.append(tokens)
        return torch.nn.functional.one_hot(torch.zeros_like(tokens), CODES) * (5 + sureness[..., None])

    low = torch.zeros(ROWS, steps, 2, POSITIONS)  # draws the most likely token everywhere
    sample(predict, all_hidden(), HIDDEN, config, low)
    for tokens in seen[1:]:
        for row, sure in zip(tokens == HIDDEN, sureness, strict=True):
            assert sure[row].max() < sure[~row].min()


def test_noise_in_the_order_fades() -> None:
    """By hand: positions are ranked by log-probability plus Gumbel noise, a quarter less of it per step."""
    config = SamplingConfig(maskgit_steps=4, choice_temperature=4.5)
    numbers, sureness = uniform_numbers(config, 200), torch.linspace(0, 6, POSITIONS)
    numbers[:, :, 0] = 0.0  # draws token 0 everywhere
    logits = torch.nn.functional.one_hot(torch.zeros(POSITIONS, dtype=torch.int64), CODES) * sureness[:, None]
    seen: list[Tensor] = []

    def predict(tokens: Tensor) -> Tensor:
        seen.append(tokens)
        return logits.expand(len(tokens), -1, -1)

    sample(predict, all_hidden(200), HIDDEN, config, numbers)
    gumbel = -(-numbers[:, :, 1].log()).log()
    for step, factor in enumerate((0.75, 0.5, 0.25)):
        score = logits.log_softmax(dim=-1)[:, 0] + 4.5 * factor * gumbel[:, step]
        score = score.masked_fill(seen[step] != HIDDEN, float("inf"))
        left = hidden_after(step, config, POSITIONS)
        expected = torch.zeros(200, POSITIONS, dtype=torch.bool).scatter(1, score.argsort(dim=1)[:, :left], True)
        assert torch.equal(seen[step + 1] == HIDDEN, expected)


def test_a_random_order_depends_on_its_numbers_alone(oracle: Oracle) -> None:
    config = SamplingConfig(maskgit_steps=4, order="random")
    numbers = uniform_numbers(config)
    sample(oracle, all_hidden(), HIDDEN, config, numbers)
    left = hidden_after(0, config, POSITIONS)
    expected = numbers[:, 0, 1].argsort(dim=-1)[:, :left].sort(dim=-1).values
    assert torch.equal(torch.nonzero(oracle.seen[1] == HIDDEN)[:, 1].view(ROWS, left), expected)


def test_noise_changes_the_order_by_confidence(oracle: Oracle) -> None:
    """If the model is equally sure everywhere, each position is kept first equally often."""
    config = SamplingConfig(maskgit_steps=2, choice_temperature=4.5)
    rows = 4000
    watched = Oracle(oracle.answer[:1].expand(rows, -1))
    sample(watched, all_hidden(rows), HIDDEN, config, uniform_numbers(config, rows))
    still_hidden = (watched.seen[1] == HIDDEN).float().mean(dim=0)
    torch.testing.assert_close(still_hidden, torch.full((POSITIONS,), 21 / 30), atol=0.04, rtol=0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("codes", [2, 12, 1024])
def test_drawn_tokens_have_the_softmax_distribution(codes: int, temperature: float) -> None:
    """Over an even grid of uniform numbers each token is drawn as often as its probability."""
    logits, count = 2 * torch.randn(codes), 4096
    numbers = (torch.arange(count) + 0.5) / count
    tokens, log_probabilities = draw(logits.expand(count, -1), temperature, numbers)
    probabilities = torch.softmax(logits / temperature, dim=-1)
    found = torch.bincount(tokens, minlength=codes) / count
    assert (found - probabilities).abs().max() <= 1.5 / count
    torch.testing.assert_close(log_probabilities, probabilities[tokens].log(), atol=1e-4, rtol=0)


def test_draws_in_a_sample_have_the_softmax_distribution() -> None:
    """With logits that do not depend on tokens, a random order leaves their distribution unchanged.

    An order by confidence changes it if steps are few, on purpose.
    """
    config = SamplingConfig(maskgit_steps=8, order="random")
    logits, rows = 1.5 * torch.randn(CODES), 3000
    numbers = uniform_numbers(config, rows)
    tokens = sample(lambda asked: logits.expand(*asked.shape, -1), all_hidden(rows), HIDDEN, config, numbers)
    found = torch.bincount(tokens.flatten(), minlength=CODES) / tokens.numel()
    torch.testing.assert_close(found, torch.softmax(logits, dim=-1), atol=5e-3, rtol=0)


def test_temperature_raises_the_entropy() -> None:
    logits, entropies = 3 * torch.randn(CODES), []
    for temperature in (0.25, 0.5, 1.0, 2.0, 4.0):
        config = SamplingConfig(maskgit_steps=4, temperature=temperature)
        numbers = uniform_numbers(config, 300)
        tokens = sample(lambda asked: logits.expand(*asked.shape, -1), all_hidden(300), HIDDEN, config, numbers)
        found = torch.bincount(tokens.flatten(), minlength=CODES) / tokens.numel()
        entropies.append(torch.special.entr(found).sum().item())
    assert entropies == sorted(entropies)
    assert entropies[0] < 0.6 * entropies[2]
    assert entropies[-1] > 1.2 * entropies[2]


@pytest.mark.parametrize("chunk", [1, 2 * POSITIONS * CODES, 3 * POSITIONS * CODES + 1])
def test_drawing_in_chunks_of_rows_gives_the_same_tokens(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Chunks of one, two and three of seven rows: each row with its own logits and numbers, none left out."""
    config, rows = SamplingConfig(maskgit_steps=3), 7
    logits, numbers = 3 * torch.randn(rows, POSITIONS, CODES), uniform_numbers(config, rows)
    whole = sample(lambda asked: logits, all_hidden(rows), HIDDEN, config, numbers)
    calls: list[int] = []
    monkeypatch.setattr(maskgit, "_CHUNK_LOGITS", chunk)
    draw_rows = maskgit._draw_rows
    monkeypatch.setattr(maskgit, "_draw_rows", lambda part, *rest: (calls.append(len(part)), draw_rows(part, *rest))[1])
    assert torch.equal(sample(lambda asked: logits, all_hidden(rows), HIDDEN, config, numbers), whole)
    most = max(1, chunk // (POSITIONS * CODES))
    assert max(calls) == most
    assert sum(calls) == 3 * rows


@pytest.mark.parametrize("number", [0.0, 2**-24, 0.5, 1 - 2**-24])
def test_uniform_numbers_at_the_ends_draw_possible_tokens(number: float) -> None:
    logits = torch.full((CODES,), -200.0)
    logits[3:6] = 0.0
    tokens, log_probabilities = draw(logits[None], 1.0, torch.tensor([number]))
    assert 3 <= tokens.item() < 6
    assert log_probabilities.item() == pytest.approx(-math.log(3), abs=1e-4)


@pytest.mark.parametrize("draw_tokens", [draw, kernels.draw_tokens], ids=["pytorch", "kernels"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_infinite_logits_are_refused(value: float, draw_tokens: maskgit.Draw) -> None:
    """NaN too; minus infinity is allowed, for a token that is never drawn."""
    config, numbers = SamplingConfig(maskgit_steps=1), uniform_numbers(SamplingConfig(maskgit_steps=1), 2)
    logits = torch.randn(2, POSITIONS, CODES)
    logits[1, 3, 2] = value
    with torch.no_grad():
        with pytest.raises(FloatingPointError, match=r"logits must be finite, got others in torch\.float32"):
            sample(lambda asked: logits, all_hidden(2), HIDDEN, config, numbers, draw_tokens)
        logits[1, 3, 2] = -float("inf")
        assert sample(lambda asked: logits, all_hidden(2), HIDDEN, config, numbers, draw_tokens)[1, 3] != 2
