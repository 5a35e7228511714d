"""Fast inference of a frozen world: packed weights, C++ kernels for CPUs, and the choice of precision.

``prepare(world, precision)`` swaps modules of a world for packed twins; ``nn`` and ``models`` do not depend on them.
"""

from genie_gym.serving.loading import WorldSource, find_source, load_world
from genie_gym.serving.precision import native_precision
from genie_gym.serving.preparation import prepare

__all__ = ["WorldSource", "find_source", "load_world", "native_precision", "prepare"]
