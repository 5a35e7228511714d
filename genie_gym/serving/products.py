"""Linear layers with weights that are packed once for the kernels."""

from torch import Tensor

from genie_gym.serving import kernels
from genie_gym.serving.libraries import PackedWeights, multiply_into, pack_weights, rows_library


class Product:
    """``F.linear`` with frozen weights that are packed once, and packed anew when they change.

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
            weight: (outputs, inputs); or a convolution's (outputs, channels, height, width), whose inputs are then in
                the order (height, width, channels).
            bias: (outputs,).
        """
        kept = [weight] if bias is None else [weight, bias]
        state = (features.dtype, *((each.data_ptr(), each._version) for each in kept))
        if self._packed is None or state != self._state:
            flat = weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).flatten(1)
            self._packed, self._state = pack_weights(flat, bias, features.dtype, rows_library()), state
        held = self._packed  # keeps the tensors alive even if another thread packs anew meanwhile
        out = features.new_empty(*features.shape[:-1], held[0].outputs)
        multiply_into(out, features, held[0], rows_library())
        return out
