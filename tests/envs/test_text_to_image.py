"""Drawing a text by a function from a file or by a diffusers pipeline, and the prompt command."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genie_gym import cli
from genie_gym.data.frames import resize
from genie_gym.envs.text_to_image import load_text_to_image

FACTORY = """
from PIL import Image

def painter(red, seed=0, device=""):
    return lambda text: Image.new("RGB", (96, 64), (red, len(text), seed))
"""


@pytest.fixture
def painter(tmp_path: Path) -> Path:
    path = tmp_path / "painter.py"
    path.write_text(FACTORY)
    return path


def test_a_function_from_a_file_draws_a_text(painter: Path) -> None:
    draw = load_text_to_image(f"{painter}:painter(9)", seed=4)
    assert np.asarray(draw("abc"))[0, 0].tolist() == [9, 3, 4]


@pytest.mark.parametrize("spec", ["painter", "diffusers(", "missing.py:painter(1)", "diffusers(a, 1, 2, 3)"])
def test_unknown_functions_are_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="text_to_image"):
        load_text_to_image(spec)


def test_a_pipeline_is_deterministic_and_loads_safetensors_only(monkeypatch: pytest.MonkeyPatch) -> None:
    received: dict[str, Any] = {}

    class Pipeline:
        @classmethod
        def from_pretrained(cls, model: str, **options: Any) -> "Pipeline":
            if model == "absent":
                raise OSError("no such model")
            received.update(options, model=model)
            return cls()

        def to(self, device: str) -> "Pipeline":
            return self

        def __call__(self, text: str, generator: Any, **options: Any) -> Any:
            import torch

            received.update(options, text=text)
            pixels = torch.randint(256, (8, 8, 3), generator=generator).numpy().astype(np.uint8)
            return SimpleNamespace(images=[Image.fromarray(pixels)])

    monkeypatch.setitem(sys.modules, "diffusers", SimpleNamespace(AutoPipelineForText2Image=Pipeline))
    draw = load_text_to_image("diffusers(some/model, 4, 1.5)", seed=3)
    first = np.asarray(draw("a cave"))
    assert np.array_equal(first, np.asarray(draw("a cave")))
    assert not np.array_equal(first, np.asarray(load_text_to_image("diffusers(some/model)", seed=5)("a cave")))
    assert received["use_safetensors"]
    draw("a cave")
    assert (received["num_inference_steps"], received["guidance_scale"], received["text"]) == (4, 1.5, "a cave")
    with pytest.raises(ValueError, match="text_to_image must be a model that diffusers can open, got 'absent'"):
        load_text_to_image("diffusers(absent)")


def test_the_error_without_diffusers_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match="genie-gym\\[text\\]"):
        load_text_to_image("diffusers")


def test_the_command_describes_the_fit_and_plays(
    painter: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    settings = ["--checkpoint", str(tiny_checkpoint), "--frames", "2", "--fit", "pad", "--out", str(tmp_path / "out")]
    drawn = ["--text-to-image", f"{painter}:painter(200)"]
    monkeypatch.setattr(sys, "argv", ["genie-gym", "prompt", "a red cave", *settings, *drawn])
    cli.main()
    assert "96 x 64 pixels, 32 rows added, scaled to 64 x 64" in capsys.readouterr().out
    seen = np.asarray(Image.open(tmp_path / "out" / "prompt.png"))
    assert np.array_equal(seen, resize(np.full((64, 96, 3), (200, 10, 0), np.uint8), 64, 64, "pad"))
    assert (tmp_path / "out" / "demo.png").stat().st_size > 0
