"""The kernels equal their twins in PyTorch, whose gradients train; and stay out of the way where they cannot run."""

import copy
import logging
import math
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.configs import TransformerConfig
from genie_gym.models.maskgit import draw
from genie_gym.nn.attention import SpatialAttention, TemporalAttention
from genie_gym.nn.frame_cache import FrameCache
from genie_gym.nn.layers import GridConvolution, Linear
from genie_gym.nn.st_transformer import SpatioTemporalTransformer
from genie_gym.serving import build, kernels
from genie_gym.serving.packed_transformer import PackedTransformer, can_step

TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
HEADS = pytest.mark.parametrize(("head_dim", "value_dim"), [(8, 8), (32, 32), (24, 40), (64, 16)])

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the kernels")


@pytest.fixture(autouse=True)
def without_gradients(request: pytest.FixtureRequest) -> Iterator[None]:
    callspec = getattr(request.node, "callspec", None)
    dtype = torch.float32 if callspec is None else callspec.params.get("dtype", torch.float32)
    if not kernels.can_multiply(dtype):
        pytest.skip(f"no instructions for {dtype} here")
    with torch.no_grad():
        yield


def tolerance(dtype: torch.dtype) -> float:
    """Of values around 1: a few units in the last place of each type."""
    return {torch.float32: 2e-5, torch.bfloat16: 4e-2, torch.float16: 1e-2}[dtype]


def assert_near(one: Tensor, other: Tensor, dtype: torch.dtype) -> None:
    assert one.dtype == dtype
    torch.testing.assert_close(one.float(), other.float(), atol=tolerance(dtype), rtol=tolerance(dtype))


@TYPES
@pytest.mark.parametrize("width", [16, 48, 256])
def test_sums_and_norms(dtype: torch.dtype, width: int) -> None:
    features, addend = (torch.randn(3, 5, width).to(dtype) for _ in range(2))
    norm = nn.LayerNorm(width)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    sums, normed = kernels.add_norm(features, addend, norm)
    assert torch.equal(sums, features + addend)
    assert_near(normed, F.layer_norm((features + addend).float(), (width,), norm.weight, norm.bias), dtype)
    same, alone = kernels.add_norm(features, None, norm)
    assert torch.equal(same, features)
    assert_near(alone, F.layer_norm(features.float(), (width,), norm.weight, norm.bias), dtype)


@TYPES
def test_gelu_over_all_its_range(dtype: torch.dtype) -> None:
    most = torch.finfo(dtype).max
    features = torch.cat(
        [torch.linspace(-12, 12, 1000), torch.tensor([-most, -1e4, -90.0, 0.0, 90.0, 1e4, most, 1e-30])]
    )
    wanted = F.gelu(features.to(dtype).double(), approximate="tanh")
    assert_near(kernels.gelu_(features.to(dtype).clone()), wanted, dtype)


@TYPES
@pytest.mark.parametrize("codes", [16, 64, 1024])
def test_draws_invert_the_distribution_function(dtype: torch.dtype, codes: int) -> None:
    logits, uniforms = (4 * torch.randn(6, 7, codes)).to(dtype), torch.rand(6, 7)
    uniforms[0, 0], uniforms[0, 1] = 0, 1 - 2**-24
    tokens, log_shares = kernels.draw(logits, 0.7, uniforms)
    shares = torch.softmax(logits.double() / 0.7, dim=-1)
    after = shares.cumsum(dim=-1).gather(-1, tokens[..., None])[..., 0]
    chosen = shares.gather(-1, tokens[..., None])[..., 0]
    assert (after - chosen <= uniforms + 1e-5).all()
    assert (uniforms <= after + 1e-5).all()
    torch.testing.assert_close(log_shares.double(), chosen.log(), atol=1e-4, rtol=0)
    twin, _ = draw(logits, 0.7, uniforms)
    assert (twin == tokens).float().mean() > 0.95  # a number on the border between two falls on either side


PRODUCTS = pytest.mark.parametrize(
    ("rows", "inputs", "outputs"),
    [(1, 32, 16), (7, 64, 48), (64, 256, 768), (75, 96, 100), (130, 80, 256), (9, 512, 40), (600, 32, 100)],
)


@TYPES
@PRODUCTS
def test_products(dtype: torch.dtype, rows: int, inputs: int, outputs: int) -> None:
    """Of whole tiles and of what is left over on any side."""
    features, weight, bias = torch.randn(rows, inputs), torch.randn(outputs, inputs) / inputs**0.5, torch.randn(outputs)
    features, weight = features.to(dtype), weight.to(dtype)
    out = kernels.multiply(features, weight, bias, kernels.transformer_library(32, 32))
    assert_near(out, F.linear(features.float(), weight.float(), bias.to(dtype).float()), dtype)


@TYPES
def test_layers_multiply_as_their_twins(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """With weights as they are now: changed in place, copied, or of another precision."""
    layers = nn.ModuleList([Linear(32, 40), Linear(32, 40, bias=False), GridConvolution(32, 40, (3, 5))])
    layers.requires_grad_(False)
    features = torch.randn(2, 3, 15, 32).to(dtype)
    for layer in layers:
        for change in range(3):
            if change == 1:
                layer.weight.mul_(-2)
            own = copy.deepcopy(layer) if change == 2 else layer
            told = own(features)
            with monkeypatch.context() as context:
                context.setattr(kernels, "are_usable", lambda features: False)
                assert_near(told / 4, own(features) / 4, dtype)


def test_what_an_optimizer_changes_is_not_multiplied_as_it_was() -> None:
    """Fused ones leave no trace at the parameter."""
    layer, features = Linear(32, 48), torch.randn(5, 32)
    before = layer(features)
    layer.weight.grad = torch.randn_like(layer.weight)
    torch.optim.AdamW([layer.weight], lr=0.1, fused=True).step()
    after = layer(features)
    assert (after - before).abs().max() > 0.1
    assert_near(after, F.linear(features, layer.weight, layer.bias), torch.float32)
    assert_near(layer.requires_grad_(False)(features), after, torch.float32)


@TYPES
@pytest.mark.parametrize("layer", [Linear(32, 40), GridConvolution(32, 40, (3, 5))], ids=["linear", "convolution"])
def test_no_other_row_changes_a_bit_of_a_layer(dtype: torch.dtype, layer: nn.Module) -> None:
    layer.requires_grad_(False)
    features = torch.randn(1, 9, 15, 32).to(dtype)
    together = layer(features)
    for row in range(9):
        assert torch.equal(layer(features[:, row : row + 1]), together[:, row : row + 1])


@pytest.fixture(scope="module")
def emulated() -> Any:
    """The kernels with functions in place of the processor's tiles (AMX)."""
    library = kernels.transformer_library(24, 24, "EMULATE_TILES=1")
    if library is None or library.genie_lanes() != 16:
        pytest.skip("tiles go with vectors of 16 floats")
    return library


@PRODUCTS
def test_products_by_tiles(emulated: Any, rows: int, inputs: int, outputs: int) -> None:
    """Whole numbers come out exactly; nothing else is written, whatever lies behind the last row."""
    features, weight = (torch.randint(-2, 3, (size, inputs)).bfloat16() for size in (rows, outputs))
    bias = torch.randint(-9, 9, (outputs,)).float()
    wanted = (features.float() @ weight.float().T + bias).bfloat16()
    assert torch.equal(kernels.multiply(features, weight, bias, emulated), wanted)


def test_tiles_are_tried_before_they_are_trusted(emulated: Any) -> None:
    assert emulated.genie_has_tiles()
    assert kernels.tiles_are_right(emulated)

    class Broken:
        genie_lanes, genie_panel = emulated.genie_lanes, emulated.genie_panel

        @staticmethod
        def genie_multiply(*arguments: Any) -> None:
            """Writes nothing."""

    assert not kernels.tiles_are_right(Broken())


def test_a_step_by_tiles_equals_its_twin(
    stack: SpatioTemporalTransformer, emulated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = torch.randn(6, 5, 11, 48).bfloat16()
    plain = step_twice(stack, features)
    monkeypatch.setattr(kernels, "transformer_library", lambda *dims: emulated)
    assert (step_twice(copy.deepcopy(stack), features).float() - plain.float()).abs().mean() < 0.01


@TYPES
@HEADS
@pytest.mark.parametrize("places", [1, 5, 64, 100])
def test_attention_in_space(dtype: torch.dtype, head_dim: int, value_dim: int, places: int, shake: Any) -> None:
    attention = shake(SpatialAttention(32, 2, head_dim, value_dim))
    projected = torch.randn(2, 3, places, 2 * (2 * head_dim + value_dim)).to(dtype)
    with torch.enable_grad():
        wanted = attention.attend(projected.float())
    assert_near(attention.attend(projected), wanted, dtype)


@TYPES
@HEADS
@pytest.mark.parametrize("slots", [1, 16, 17, 40])
@pytest.mark.parametrize("is_common", [True, False])
def test_attention_in_time(
    dtype: torch.dtype, head_dim: int, value_dim: int, slots: int, is_common: bool, shake: Any
) -> None:
    """Mixed values, and the keys and values left in the slots; unseen slots may hold anything."""
    attention, frames, batch, places = shake(TemporalAttention(32, 2, head_dim, value_dim, 8)), min(2, slots), 3, 5
    projected = torch.randn(frames, batch, places, 2 * (2 * head_dim + value_dim)).to(dtype)
    own = attention.empty_cache(batch, places, slots, dtype)
    for part in own:
        part.copy_(torch.randn(part.shape))
    bias = torch.randn(1 if is_common else batch, 2, frames, slots).to(dtype)
    if slots > 2:
        bias[..., 2] = -math.inf
        own.values[..., 2, :] = torch.finfo(dtype).max
    first = [0] * batch if is_common else [0, slots // 2, slots - 1]
    where = [torch.tensor([(row + frame) % slots for row in first]) for frame in range(frames)]
    copies = type(own)(*(part.float() for part in own))
    with torch.enable_grad():
        wanted = attention.remember_and_attend(projected.float(), copies, where, bias.float(), 1)
    mixed = attention.remember_and_attend(projected, own, where, bias, 1)
    assert_near(mixed, wanted, dtype)
    for part, copied in zip(own, copies, strict=True):
        seen = [slot for slot in range(slots) if slot != 2]
        assert_near(part[:, :, :, seen], copied[:, :, :, seen], dtype)


@pytest.fixture
def stack(shake: Callable[..., nn.Module]) -> SpatioTemporalTransformer:
    return build_stack(shake)


@pytest.fixture
def steered_stack(shake: Callable[..., nn.Module]) -> SpatioTemporalTransformer:
    """With FiLM."""
    return build_stack(shake, condition_width=4)


def build_stack(shake: Callable[..., nn.Module], condition_width: int | None = None) -> SpatioTemporalTransformer:
    config = TransformerConfig(layers=3, width=48, heads=2, head_dim=24, feed_forward_width=80)
    transformer = SpatioTemporalTransformer(config, 8, condition_width)
    assert isinstance(shake(transformer, size=0.3), SpatioTemporalTransformer)
    return transformer.eval().requires_grad_(False)


def step_twice(stack: SpatioTemporalTransformer, features: Tensor, condition: Tensor | None = None) -> Tensor:
    """The last of (T + 2) frames after T in the cache and two more at once, then the last one again."""
    batch, places = features.shape[1:3]
    cache = FrameCache(stack, batch, places, drafts=2, dtype=features.dtype)
    rows = (slice(-2), slice(-2, None), slice(-1, None))
    before, two, one = (None if condition is None else condition[each] for each in rows)
    cache.begin(range(batch), len(features) - 2, stack(features[:-2], before)[1])
    both = stack.step(features[-2:], cache.slots, cache.window(0, 2, features.device), two)
    again = stack.step(features[-1:], cache.slots, cache.window(1, 1, features.device), one)
    return torch.cat([both, again])


@TYPES
@pytest.mark.parametrize("batch", [1, 3, 40])
@pytest.mark.parametrize("places", [7, 64])
def test_a_step_equals_its_twin(stack: SpatioTemporalTransformer, dtype: torch.dtype, batch: int, places: int) -> None:
    features = torch.randn(6, batch, places, 48)
    assert can_step(stack, features)
    played = step_twice(stack, features.to(dtype))
    with torch.enable_grad():
        wanted = step_twice(stack, features)
    error = (played.float() - wanted).abs()
    assert error.max() < 1e-4 if dtype == torch.float32 else error.mean() < tolerance(dtype) / 2


@TYPES
@pytest.mark.parametrize("batch", [1, 3, 40])
def test_a_steered_step_equals_its_twin(
    steered_stack: SpatioTemporalTransformer, dtype: torch.dtype, batch: int
) -> None:
    """With a condition of its own for each frame and row; chunks of rows and threads do not mix them up."""
    features, condition = torch.randn(6, batch, 64, 48), torch.randn(6, batch, 1, 4)
    assert can_step(steered_stack, features)
    played = step_twice(steered_stack, features.to(dtype), condition.to(dtype))
    with torch.enable_grad():
        wanted = step_twice(steered_stack, features, condition)
    error = (played.float() - wanted).abs()
    assert error.max() < 1e-4 if dtype == torch.float32 else error.mean() < tolerance(dtype) / 2
    if batch > 1:
        other = step_twice(steered_stack, features.to(dtype), condition.roll(1, dims=1).to(dtype))
        assert (other - played).abs().amax(dim=(0, 2, 3)).min() > 10 * tolerance(dtype)


@TYPES
def test_odd_sizes_are_left_to_pytorch(dtype: torch.dtype, shake: Callable[..., nn.Module]) -> None:
    config = TransformerConfig(layers=2, width=48, heads=3, head_dim=8, value_dim=5, feed_forward_width=33)
    odd = cast(SpatioTemporalTransformer, shake(SpatioTemporalTransformer(config, 8), size=0.3)).requires_grad_(False)
    features = torch.randn(6, 2, 7, 48)
    assert not can_step(odd, features.to(dtype))
    error = (step_twice(odd, features.to(dtype)).float() - step_twice(odd, features)).abs()
    assert error.mean() < tolerance(dtype) / 2


@TYPES
def test_neither_threads_nor_other_rows_change_a_bit(stack: SpatioTemporalTransformer, dtype: torch.dtype) -> None:
    features = torch.randn(6, 40, 11, 48).to(dtype)
    together = step_twice(stack, features)
    torch.set_num_threads(3)
    try:
        assert torch.equal(step_twice(stack, features), together)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(step_twice(stack, features[:, 17:18]), together[:, 17:18])


def test_a_new_bias_is_looked_up_anew(stack: SpatioTemporalTransformer) -> None:
    """Biases of windows are kept while weights stay; rows that go round together, as in ``step_twice``, share them."""
    features = torch.randn(6, 2, 7, 48)
    before = step_twice(stack, features)
    assert stack.blocks[0].causal.distance_bias is not None
    stack.blocks[0].causal.distance_bias.add_(torch.randn_like(stack.blocks[0].causal.distance_bias))
    after = step_twice(stack, features)
    with torch.enable_grad():
        wanted = step_twice(stack, features)
    torch.testing.assert_close(after, wanted, atol=1e-4, rtol=0)
    assert (after - before).abs().max() > 1e-2


def test_new_weights_are_packed_anew(stack: SpatioTemporalTransformer) -> None:
    """After training, loading or a change of precision the next step computes with what is there then."""
    features = torch.randn(6, 2, 7, 48)
    before = step_twice(stack, features)
    stack.blocks[1].feed_forward.expand.weight.mul_(3)
    after = step_twice(stack, features)
    with torch.enable_grad():
        wanted = step_twice(stack, features)
    torch.testing.assert_close(after, wanted, atol=1e-4, rtol=0)
    assert (after - before).abs().max() > 1e-2
    stack.load_state_dict({name: weight / 2 for name, weight in stack.state_dict().items()})
    with torch.enable_grad():
        wanted = step_twice(stack, features)
    torch.testing.assert_close(step_twice(stack, features), wanted, atol=1e-4, rtol=0)
    stack.to(torch.bfloat16)
    low = step_twice(stack, features.bfloat16())
    assert low.dtype == torch.bfloat16
    assert (low.float() - wanted).abs().mean() < 0.02


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda stack: pickle.loads(pickle.dumps(stack))])
def test_copies_keep_their_own_weights(stack: SpatioTemporalTransformer, clone: Callable[[Any], Any]) -> None:
    features = torch.randn(6, 2, 7, 48)
    before = step_twice(stack, features)
    other = clone(stack)
    for weight in other.parameters():
        weight.zero_()
    assert torch.equal(step_twice(stack, features), before)
    assert step_twice(other, features).abs().max() == 0


def test_a_not_a_number_is_not_lost(stack: SpatioTemporalTransformer) -> None:
    features = torch.randn(6, 2, 7, 48)
    features[-1, 0, 3, 5] = math.nan
    played = step_twice(stack, features)
    assert played[:, 0].isnan().any()
    assert not played[:, 1].isnan().any()
    assert kernels.gelu_(torch.full((16,), math.nan)).isnan().all()


def test_gradients_go_through_pytorch(stack: SpatioTemporalTransformer) -> None:
    features = torch.randn(6, 2, 7, 48)
    assert kernels.are_usable(features)
    assert not kernels.are_usable(features.double())
    assert not kernels.are_usable(features[..., :40])
    assert not kernels.are_usable(features.to("meta"))
    with torch.enable_grad():
        assert not kernels.are_usable(features)
        assert stack(features.requires_grad_())[0].requires_grad


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )


ASK = "import torch; from genie_gym.serving import kernels; print(kernels.rows_library() is not None)"


def test_they_are_compiled_once_and_it_is_said(tmp_path: Path) -> None:
    first, second = (run_python(ASK, XDG_CACHE_HOME=str(tmp_path)) for _ in range(2))
    assert first.stdout.split() == second.stdout.split() == ["True"]
    assert "Compiling rows.cpp" in first.stderr
    assert "Compiling" not in second.stderr
    assert [path.suffix for path in (tmp_path / "genie-gym" / "kernels").iterdir()] == [".so"]


def test_they_can_be_switched_off(tmp_path: Path) -> None:
    done = run_python(ASK, XDG_CACHE_HOME=str(tmp_path), **{build.SWITCH: "off"})
    assert done.stdout.split() == ["False"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("compiler", "message"), [("no-such-compiler", "No C++ compiler"), ("false", "failed")])
def test_without_a_compiler_it_is_said_and_pytorch_plays(tmp_path: Path, compiler: str, message: str) -> None:
    done = run_python(ASK, XDG_CACHE_HOME=str(tmp_path), CXX=compiler)
    assert done.stdout.split() == ["False"]
    assert message in done.stderr


def test_without_a_place_it_is_said_and_pytorch_plays(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run_python(ASK, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert done.stdout.split() == ["False"]
    assert "No place for it" in done.stderr


def test_an_unknown_switch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build.SWITCH, "perhaps")
    with pytest.raises(ValueError, match=f"{build.SWITCH} must be on or off, got 'perhaps'"):
        build.load_library.__wrapped__("rows")


def test_a_source_that_does_not_compile_is_shown(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    source = tmp_path / "broken.cpp"
    source.write_text("int broken(")
    with caplog.at_level(logging.WARNING):
        assert not build.compile_library(["g++", "-shared"], source, tmp_path / "broken.so")
    assert "error" in caplog.text
    assert not (tmp_path / "broken.so").exists()


def test_weights_are_packed_for_one_type(stack: SpatioTemporalTransformer) -> None:
    packed = PackedTransformer(stack, torch.float32)
    assert packed.is_current(torch.float32)
    assert not packed.is_current(torch.bfloat16)
