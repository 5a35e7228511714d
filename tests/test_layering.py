"""Tests that modules import only what their layer allows, by reading every import statement."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = {
    "genie_gym.checks": 0,
    "genie_gym.config_io": 0,
    "genie_gym.configs": 0,
    "genie_gym.extras": 0,
    "genie_gym.failures": 0,
    "genie_gym.foreign": 0,
    "genie_gym.parallel": 0,
    "genie_gym.plugins": 0,
    "genie_gym.preset_arguments": 0,
    "genie_gym.presets": 0,
    "genie_gym.real_actions": 0,
    "genie_gym.system": 0,
    "genie_gym.nn": 1,
    "genie_gym.players": 2,
    "genie_gym.models": 2,
    "genie_gym.data": 2,
    "genie_gym.serving": 3,
    "genie_gym.envs": 4,
    "genie_gym.training": 4,
    "genie_gym.metrics": 4,
    "genie_gym.bench": 5,
    "genie_gym.checkpoint_commands": 5,
    "genie_gym.cli": 5,
    "genie_gym.curation": 5,
    "genie_gym.doctor": 5,
    "genie_gym.labels": 5,
    "genie_gym.plan": 5,
    "genie_gym.play": 5,
    "genie_gym.results": 5,
    "genie_gym.sb3": 5,
    "genie_gym.torch_env": 5,
    "agents": 6,
    "experiments": 7,
    "genie_gym": 3,  # the package's __init__, which loads worlds on demand; a test below covers what its import loads
}
"""Layer of every package or module. It may import lower layers, and its own layer except for STRANGERS."""

STRANGERS = {
    ("genie_gym.models", "genie_gym.data"),
    ("genie_gym.data", "genie_gym.models"),
    ("genie_gym.envs", "genie_gym.training"),
    ("genie_gym.configs", "genie_gym.presets"),
}
"""Pairs (importer, imported) that must not import each other although their layers would allow it."""

ONLY_IN = {
    "gymnasium": (
        "genie_gym.envs",
        "genie_gym.bench",
        "genie_gym.data.env_games",
        "genie_gym.data.frame_writer",
        "genie_gym.players",
        "genie_gym.sb3",
        "genie_gym.__init__",
        "agents",
        "experiments.ablations.against_player",
    ),
    "stable_baselines3": ("genie_gym.sb3", "agents"),
    "procgen": ("genie_gym.data.procgen",),
    "matplotlib": ("experiments", "agents.benchmark"),
    "av": ("genie_gym.data.video",),
    "pyarrow": ("genie_gym.data.lerobot", "experiments"),
    "huggingface_hub": ("genie_gym.models.hub", "genie_gym.models.listing"),
}
"""Libraries, with the packages and modules that may import them."""

NO_TORCH = (
    "genie_gym.__init__",
    "genie_gym.checks",
    "genie_gym.config_io",
    "genie_gym.configs",
    "genie_gym.extras",
    "genie_gym.presets",
    "genie_gym.real_actions",
)


def lies_in(module: str, rooms: tuple[str, ...]) -> bool:
    """Return whether ``module`` is one of ``rooms`` or inside one."""
    return any(module == room or module.startswith(room + ".") for room in rooms)


def room_of(module: str) -> str | None:
    """Return the room of a dotted name, or ``None`` for a library."""
    return next((room for room in FLOORS if lies_in(module, (room,))), None)


def imported_names(module: str, source: str) -> set[str]:
    """Return every dotted name that ``source`` imports anywhere, ``from a import b`` as ``a.b``."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *filter(None, [node.module])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def violations(module: str, source: str) -> list[str]:
    """Return the forbidden imports of ``source``, the text of ``module`` (packages as ``name.__init__``)."""
    here = room_of(module)
    assert here is not None, f"{module} is in none of the packages"
    found = []
    for name in sorted(imported_names(module, source)):
        there, library = room_of(name), name.split(".")[0]
        if there is None:
            allowed = lies_in(module, ONLY_IN.get(library, (module,)))
            allowed = allowed and not (library == "torch" and lies_in(module, NO_TORCH))
        else:
            allowed = FLOORS[there] <= FLOORS[here] and (here, there) not in STRANGERS
        if not allowed:
            found.append(f"{module} imports {name}")
    return found


def read_modules() -> dict[str, str]:
    """Return the source of every module of the three packages by dotted name."""
    paths = [path for package in ("genie_gym", "agents", "experiments") for path in (ROOT / package).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text() for path in paths}


def test_imports_follow_the_layers() -> None:
    modules = read_modules()
    assert "genie_gym.configs" in modules
    found = [line for module, source in modules.items() for line in violations(module, source)]
    assert not found, "\n".join(found)


def test_every_module_of_the_package_has_a_layer() -> None:
    homeless = [m for m in read_modules() if room_of(m) == "genie_gym" and m != "genie_gym.__init__"]
    assert homeless == [], "add the package or module to FLOORS"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("genie_gym.nn.attention", "from genie_gym.models import dynamics"),
        ("genie_gym.nn.attention", "def late():\n    import genie_gym.envs"),
        ("genie_gym.nn.attention", "from genie_gym.serving import kernels"),
        ("genie_gym.nn.layers", "def late():\n    from genie_gym.serving.kernels import multiply"),
        ("genie_gym.models.world_model", "import genie_gym.serving.packed_transformer"),
        ("genie_gym.models.dynamics", "from ..serving import kernels"),
        ("genie_gym.data.record", "from genie_gym.serving import kernels"),
        ("genie_gym.models.dynamics", "from genie_gym.data.frames import to_float"),
        ("genie_gym.models.dynamics", "from genie_gym import data"),
        ("genie_gym.models.dynamics", "from ..data import frames"),
        ("genie_gym.data.clips", "from genie_gym.models.loading import load_world"),
        ("genie_gym.envs.genie_env", "from genie_gym.training.checkpoint import load"),
        ("genie_gym.metrics.evaluate", "from genie_gym.sb3 import GenieVecEnv"),
        ("genie_gym.cli", "import agents.policy"),
        ("agents.policy", "from experiments import table_1"),
        ("genie_gym.configs", "from genie_gym.nn import attention"),
        ("genie_gym.configs", "from torch import Tensor"),
        ("genie_gym.presets", "import torch.nn as nn"),
        ("genie_gym.__init__", "import torch"),
        ("genie_gym.__init__", "from genie_gym.envs import GenieEnv"),
        ("genie_gym.__init__", "from .envs import GenieEnv"),
        ("genie_gym.training.loop", "import gymnasium as gym"),
        ("genie_gym.envs.genie_env", "from stable_baselines3.common.vec_env import VecEnv"),
        ("genie_gym.data.record", "from procgen import ProcgenGym3Env"),
        ("genie_gym.metrics.image", "import matplotlib.pyplot as plt"),
        ("agents.cloning", "import matplotlib"),
        ("genie_gym.data.clips", "import av"),
        ("genie_gym.envs.genie_env", "from genie_gym.bench.timing import measure"),
        ("genie_gym.results.files", "from experiments.clips import LEVELS"),
        ("genie_gym.bench.report", "import matplotlib"),
        ("genie_gym.serving.loading", "from huggingface_hub import HfApi"),
    ],
)
def test_a_violation_is_caught(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("genie_gym.__init__", "import gymnasium\nfrom genie_gym.configs import WorldConfig"),
        ("genie_gym.presets", "from genie_gym.configs import WorldConfig"),
        ("genie_gym.models.loading", "import torch\nfrom genie_gym.nn.attention import Attention"),
        ("genie_gym.envs.genie_env", "import gymnasium\nfrom genie_gym.data import frames\nimport genie_gym.models"),
        ("genie_gym.envs.__init__", "from .genie_env import GenieEnv"),
        ("genie_gym.serving.kernels", "from genie_gym.models.world_model import GenieWorldModel"),
        ("genie_gym.envs.worlds", "from genie_gym.serving import kernels"),
        ("genie_gym.training.world", "from genie_gym.metrics.image import psnr"),
        ("genie_gym.cli", "from genie_gym import __version__\nfrom genie_gym.play import server"),
        ("genie_gym.cli", "from genie_gym.bench.config import BenchConfig"),
        ("genie_gym.bench.environments", "import gymnasium\nfrom genie_gym.envs import WorldHandle"),
        ("genie_gym.bench.training", "from genie_gym.training.optim import build_optimizer"),
        ("genie_gym.data.video", "import av.container"),
        ("agents.benchmark.plots", "import matplotlib, stable_baselines3, gymnasium"),
        ("experiments.table_1", "import agents.policy, matplotlib.pyplot\nimport genie_gym"),
    ],
)
def test_allowed_imports_pass(module: str, source: str) -> None:
    assert violations(module, source) == []


def loads_torch(module: str) -> bool:
    code = f"import importlib, sys; importlib.import_module({module!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return {"True": True, "False": False}[done.stdout.strip()]


def test_importing_the_package_loads_no_torch() -> None:
    light = sorted(
        {m.removesuffix(".__init__") for m in NO_TORCH} & {m.removesuffix(".__init__") for m in read_modules()}
    )
    assert [module for module in light if loads_torch(module)] == []
    assert loads_torch("genie_gym.nn.attention"), "otherwise the check above checks nothing"
