"""Linear layers with weights that are packed once for the kernels."""

import math

import torch
from torch import Tensor

from genie_gym.serving import kernels
from genie_gym.serving.libraries import KINDS, Grids, PackedWeights, multiply_into, pack_weights, rows_library
from genie_gym.serving.threads import kernel_threads


class Product:
    """``F.linear`` or a convolution with frozen weights that are packed once, and packed anew when they change.

    Each row of the result depends on that row alone. A copy or a pickle packs its own weights.
    """

    def __init__(self) -> None:
        self._state: object = None
        self._packed: tuple[PackedWeights, list[Tensor]] | None = None

    def __reduce__(self) -> tuple[type, tuple]:
        """Copy nothing: packed weights are pointers into this process's memory."""
        return type(self), ()

    @staticmethod
    def takes(features: Tensor, weight: Tensor) -> bool:
        """Return whether the kernels take these features, and the weights are frozen.

        Weights in training are refused: PyTorch's fused optimizers change a parameter without changing its version.
        """
        return not weight.requires_grad and kernels.are_usable(features)

    def __call__(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Map (..., inputs) to (..., outputs); only for arguments that ``takes`` accepts.

        Args:
            features: (..., inputs).
            weight: (outputs, inputs).
            bias: (outputs,).
        """
        held = self._pack(weight, bias, features.dtype)
        out = features.new_empty(*features.shape[:-1], held[0].outputs)
        multiply_into(out, features, held[0], rows_library())
        return out

    def convolve(self, features: Tensor, weight: Tensor, bias: Tensor | None, grid: tuple[int, int]) -> Tensor:
        """Convolve grids of tokens (..., N, inputs) to (..., N, outputs); only for arguments that ``takes`` accepts.

        Args:
            features: (..., N, inputs), N tokens row by row.
            weight: (outputs, inputs, 3, 3).
            bias: (outputs,).
            grid: Rows and columns; N is their product.
        """
        held = self._pack(weight, bias, features.dtype)
        features = features.contiguous()
        out = features.new_empty(*features.shape[:-1], held[0].outputs)
        sizes = Grids(features[..., 0].numel() // math.prod(grid), *grid, features.shape[-1])
        rows_library().genie_convolve(
            KINDS[features.dtype], out.data_ptr(), features.data_ptr(), held[0], sizes, kernel_threads()
        )
        return out

    def _pack(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> tuple[PackedWeights, list[Tensor]]:
        """Return the weights packed, anew if they have changed, and the tensors that have to outlive them.

        The result stays valid even if another thread packs anew meanwhile.
        """
        kept = [weight] if bias is None else [weight, bias]
        state = (dtype, *((each.data_ptr(), each._version) for each in kept))
        if self._packed is None or state != self._state:
            flat = weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).flatten(1)  # (outputs, 9 inputs)
            self._packed, self._state = pack_weights(flat, bias, dtype, rows_library()), state
        return self._packed
