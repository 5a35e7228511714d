"""Packed twins of modules: the same weights and the same results up to rounding, computed by C++ kernels.

``pack`` changes the class of each known module in place, as PyTorch's ``fully_shard`` does, so parameters, names and
references stay. A twin falls back to PyTorch for input that the kernels do not take: gradients, GPUs, other sizes.

Modules are known by an allow-list of exact types and children. A transformer with a block that is not on the list is
left to PyTorch, with a warning, and never computed as if it were a known one.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.models.dynamics import MaskGITDynamics
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.models.world_state import WorldState
from genie_gym.nn.attention import (
    CacheIndex,
    CacheWindow,
    CausalAttention,
    FullAttention,
    KeyValues,
    KVCache,
    SpatialAttention,
    TemporalAttention,
)
from genie_gym.nn.layers import GridConvolution, LayerNorm, Linear
from genie_gym.nn.st_transformer import Block, FeedForward, SpatioTemporalTransformer
from genie_gym.serving import kernels
from genie_gym.serving.products import Product
from genie_gym.serving.step_kernel import StepKernel, stack_indices
from genie_gym.serving.threads import torch_on_one_thread

_MOST_WINDOWS = 256
"""Number of cache windows whose indices and biases are kept."""

logger = logging.getLogger(__name__)


def pack(module: nn.Module) -> nn.Module:
    """Swap all known modules inside ``module``, itself included, for packed twins, and return it."""
    unpack(module)
    unknown = {name for name, each in module.named_modules() if _is_transformer(each) and not _check_blocks(each, name)}
    for name, each in module.named_modules():
        if type(each) in PACKED and name not in unknown:
            each.__class__ = PACKED[type(each)]
            each.reset_packing()
    return module


def unpack(module: nn.Module) -> nn.Module:
    """Undo ``pack``: give all modules inside ``module`` their own classes back, and return it."""
    plain = {packed: own for own, packed in PACKED.items()}
    for each in module.modules():
        if type(each) in plain:
            each.__class__ = plain[type(each)]
            for name in ("product", "step_kernel", "structure", "windows"):
                each.__dict__.pop(name, None)
    return module


class Packed:
    """A base of all packed twins."""

    def reset_packing(self) -> None:
        """Forget packed weights; by default a twin has none of its own."""


class PackedProduct(Packed):
    """A base of twins that multiply by packed weights of their own."""

    product: Product

    def reset_packing(self) -> None:
        """Forget packed weights."""
        self.product = Product()


class PackedLinear(PackedProduct, Linear):
    """A ``Linear`` whose frozen weights are packed for the kernels."""

    def forward(self, features: Tensor) -> Tensor:
        if self.product.takes(features, self.weight):
            return self.product(features, self.weight, self.bias)
        return super().forward(features)


class PackedGridConvolution(PackedProduct, GridConvolution):
    """A ``GridConvolution`` as matrix products over the neighbourhoods of the tokens."""

    def forward(self, features: Tensor) -> Tensor:
        if self.product.takes(features, self.weight):
            return self.product.convolve(features, self.weight, self.bias, self.grid)
        return super().forward(features)


class PackedFeedForward(Packed, FeedForward):
    """A ``FeedForward`` with the GELU computed in place."""

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.expand(features)
        if kernels.are_usable(hidden):
            return self.contract(kernels.gelu_(hidden))
        return self.contract(F.gelu(hidden, approximate="tanh"))


class PackedSpatialAttention(Packed, SpatialAttention):
    """A ``SpatialAttention`` whose heads are one kernel, QK-norm included."""

    def attend(self, projected: Tensor) -> Tensor:
        if kernels.are_usable_for_heads(projected, self.head_dim, self.value_dim):
            return kernels.attend_in_space(projected, self.heads, self.query_norm, self.key_norm)
        return super().attend(projected)


class PackedTemporalAttention(Packed, TemporalAttention):
    """A ``TemporalAttention`` whose cached step is one kernel, QK-norm included."""

    def write_and_attend(
        self, projected: Tensor, cache: KVCache, indices: Sequence[CacheIndex], bias: Tensor, outputs: int
    ) -> Tensor:
        if not kernels.are_usable_for_heads(projected, self.head_dim, self.value_dim):
            return super().write_and_attend(projected, cache, indices, bias, outputs)
        norms, stacked = (self.query_norm, self.key_norm), stack_indices(indices, projected.shape[1])
        return kernels.attend_in_time(projected, cache, stacked, bias, norms, outputs)


class Structure:
    """The modules inside a module at this moment, to notice when one is added, replaced or given a hook."""

    def __init__(self, module: nn.Module) -> None:
        self._modules = [(each, tuple(each._modules.values())) for each in module.modules()]

    def is_current(self) -> bool:
        """Return whether all modules are still there, and none has a hook."""
        return all(
            tuple(each._modules.values()) == children and not (each._forward_hooks or each._forward_pre_hooks)
            for each, children in self._modules
        )


class PackedTransformer(Packed, SpatioTemporalTransformer):
    """A transformer whose residual additions are fused with the next norm, and whose step is one kernel if possible."""

    step_kernel: StepKernel | None
    structure: "Structure"
    windows: dict[tuple[int, int], tuple[CacheWindow, Tensor, Tensor]]

    def reset_packing(self) -> None:
        """Forget packed weights, and record the present modules, to notice later changes."""
        self.step_kernel, self.windows = None, {}
        self.structure = Structure(self)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> tuple[Tensor, list[KeyValues | None]]:
        if not self._takes(features):
            return super().forward(features, condition)
        with torch_on_one_thread():
            return self._run_blocks(features, condition)

    def _run_blocks(self, features: Tensor, condition: Tensor | None) -> tuple[Tensor, list[KeyValues | None]]:
        all_keys_values: list[KeyValues | None] = []
        addend: Tensor | None = None
        for block in self.blocks:
            found: list[KeyValues] = []

            def attend(causal: CausalAttention, normed: Tensor, found: list[KeyValues] = found) -> Tensor:
                mixed, keys_values = causal(normed)
                found.append(keys_values)
                return mixed

            features, addend = _run_block(block, features, addend, condition, attend)
            all_keys_values.append(found[0] if found else None)
        return kernels.add_norm(features, addend, self.norm)[1], all_keys_values

    def step(
        self, features: Tensor, caches: Sequence[KVCache | None], window: CacheWindow, condition: Tensor | None = None
    ) -> Tensor:
        if not self._takes(features):
            return super().step(features, caches, window, condition)
        if StepKernel.takes(self, features):
            kernel = self._current_kernel(features.dtype)
            return kernel.step(features, caches, *self._place(window, features), condition)
        biases, addend = self.gather_biases(window, features), None
        for number, (block, cache, bias) in enumerate(zip(self.blocks, caches, biases, strict=True)):
            outputs = 1 if number + 1 == len(self.blocks) else len(features)

            def attend(
                causal: CausalAttention,
                normed: Tensor,
                cache: KVCache | None = cache,
                bias: Tensor = bias,
                outputs: int = outputs,
            ) -> Tensor:
                assert cache is not None
                return causal.step(normed, cache, window.indices, bias, outputs)

            features, addend = _run_block(block, features, addend, condition, attend)
        return kernels.add_norm(features, addend, self.norm)[1][-1:]

    def _takes(self, features: Tensor) -> bool:
        """Return whether the kernels take these features, and the modules are still those that were packed."""
        return kernels.are_usable(features) and self.structure.is_current()

    def _current_kernel(self, dtype: torch.dtype) -> StepKernel:
        """Return a kernel with the present weights, packed anew if they have changed."""
        if self.step_kernel is None or not self.step_kernel.is_current(dtype):
            self.step_kernel = StepKernel(self, dtype)
            self.windows.clear()
        return self.step_kernel

    def _place(self, window: CacheWindow, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return a window's cache indices (F, B) and biases; kept for windows that all rows share."""
        batch = features.shape[1]
        kept = self.windows.get((id(window), batch))
        if kept is not None and kept[0] is window:
            return kept[1:]
        place = stack_indices(window.indices, batch), self.gather_biases(window, features)
        if len(window.distance) == 1:
            if len(self.windows) >= _MOST_WINDOWS:
                self.windows.clear()
            self.windows[id(window), batch] = window, *place
        return place


class PackedDynamics(PackedProduct, MaskGITDynamics):
    """A ``MaskGITDynamics`` whose logits are a packed product with the token embedding."""

    def logits(self, features: Tensor) -> Tensor:
        if not self.product.takes(features, self.token_embedding.weight):
            return super().logits(features)
        return self.product(self.head(features), self.token_embedding.weight[: self.codes], self.output_bias)


class PackedWorld(Packed, GenieWorldModel):
    """A ``GenieWorldModel`` that plays with PyTorch on one thread beside the kernels' threads."""

    def step(self, state: WorldState, latent_actions: Tensor) -> tuple[WorldState, Tensor]:
        with torch_on_one_thread():
            return super().step(state, latent_actions)

    def advance(self, state: WorldState, latent_actions: Tensor) -> WorldState:
        with torch_on_one_thread():
            return super().advance(state, latent_actions)

    def show(self, state: WorldState, rows: Sequence[int] | slice = slice(None)) -> Tensor:
        with torch_on_one_thread():
            return super().show(state, rows)


def playing_threads(world: GenieWorldModel) -> AbstractContextManager[None]:
    """Return a context for work between the steps of a world: PyTorch on one thread if kernels play the world."""
    return torch_on_one_thread() if isinstance(world, PackedWorld) else nullcontext()


PACKED: dict[type[nn.Module], type[nn.Module]] = {
    Linear: PackedLinear,
    GridConvolution: PackedGridConvolution,
    FeedForward: PackedFeedForward,
    SpatialAttention: PackedSpatialAttention,
    TemporalAttention: PackedTemporalAttention,
    SpatioTemporalTransformer: PackedTransformer,
    MaskGITDynamics: PackedDynamics,
    GenieWorldModel: PackedWorld,
}
"""Packed twin of each known type."""

_ModuleType = type[nn.Module]
_PROJECTIONS: dict[str, set[_ModuleType]] = {
    "project_in": {Linear},
    "project_out": {Linear},
    "query_norm": {LayerNorm},
    "key_norm": {LayerNorm},
}
_CHILDREN: dict[_ModuleType, dict[str, set[_ModuleType]]] = {
    Block: {
        "spatial_norm": {LayerNorm},
        "spatial": {SpatialAttention},
        "causal_norm": {LayerNorm},
        "causal": {TemporalAttention, FullAttention},
        "modulate": {Linear},
        "feed_forward_norm": {LayerNorm},
        "feed_forward": {FeedForward},
    },
    SpatialAttention: _PROJECTIONS,
    TemporalAttention: _PROJECTIONS,
    FullAttention: _PROJECTIONS,
    FeedForward: {"expand": {Linear, GridConvolution}, "contract": {Linear}},
    Linear: {},
    GridConvolution: {},
    LayerNorm: {},
}
"""The children that each known type may have, with their exact types."""
_PARAMETERS: dict[_ModuleType, set[str]] = {kind: {"weight", "bias"} for kind in (Linear, GridConvolution, LayerNorm)}
_PARAMETERS |= {TemporalAttention: {"distance_bias"}, FullAttention: {"distance_bias"}}
"""The parameters that each known type may have."""


def _is_transformer(module: nn.Module) -> bool:
    return type(module) is SpatioTemporalTransformer


def _check_blocks(transformer: nn.Module, name: str) -> bool:
    """Return whether the kernels know all blocks of a transformer, and warn if not."""
    assert isinstance(transformer, SpatioTemporalTransformer)
    strange = next((found for block in transformer.blocks if (found := _find_unknown(block, "")) is not None), None)
    if strange is None and (set(transformer._modules) != {"blocks", "norm"} or _has_hooks(transformer)):
        strange = "a module beside the blocks, or a hook,"
    shapes = {tuple(weight.shape for weight in block.parameters()) for block in transformer.blocks}
    if strange is None and len(shapes) > 1:
        strange = "blocks of different sizes"
    if strange is None:
        return True
    logger.warning("The kernels do not know %s in %s: it is left to PyTorch, slower.", strange, name or "a transformer")
    return False


def _find_unknown(module: nn.Module, path: str) -> str | None:
    """Return a description of the first module or parameter that is not on the allow-list."""
    kind, where = type(module), path or "a block"
    if kind not in _CHILDREN or _has_hooks(module):
        return f"{where} ({kind.__name__})" + (" with hooks" if kind in _CHILDREN else "")
    strange = set(module._parameters) - _PARAMETERS.get(kind, set())
    if strange:
        return f"parameter {strange.pop()!r} of {where}"
    for name, child in module.named_children():
        if type(child) not in _CHILDREN[kind].get(name, set()):
            return f"{path}{'.' if path else ''}{name} ({type(child).__name__})"
        found = _find_unknown(child, f"{path}{'.' if path else ''}{name}")
        if found is not None:
            return found
    return None


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__)


def _run_block(
    block: nn.Module,
    features: Tensor,
    addend: Tensor | None,
    condition: Tensor | None,
    attend: Callable[[CausalAttention, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Run a block on ``features + addend``, and return features and an addend for the next norm to add."""
    assert isinstance(block, Block)
    if block.spatial is not None and block.spatial_norm is not None:
        features, normed = kernels.add_norm(features, addend, block.spatial_norm)
        addend = block.spatial(normed)
    if block.causal is not None and block.causal_norm is not None:
        features, normed = kernels.add_norm(features, addend, block.causal_norm)
        addend = attend(block.causal, normed)
        features = features[-len(addend) :]
    features, normed = kernels.add_norm(features, addend, block.feed_forward_norm)
    if block.modulate is not None and condition is not None:
        scale, shift = block.modulate(condition[-len(normed) :]).chunk(2, dim=-1)
        normed = normed * (1 + scale) + shift
    return features, block.feed_forward(normed)
