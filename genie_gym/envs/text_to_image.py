"""Images drawn from text prompts by a diffusers pipeline (extra ``text``) or a function of any Python file."""

import functools
from typing import cast

from genie_gym.envs.prompts import TextToImage
from genie_gym.extras import need_extra
from genie_gym.plugins import build_from_spec

_DEFAULT_MODEL = "stabilityai/sd-turbo"  # small, and draws in one step; its licence allows research only


def load_text_to_image(spec: str, device: str = "cpu", seed: int = 0) -> TextToImage:
    """Build the function from a text to an image that ``spec`` names.

    Args:
        spec: ``diffusers``, ``diffusers(MODEL)``, ``diffusers(MODEL, PASSES, GUIDANCE)``, or
            ``FILE.py:FACTORY(ARGUMENTS)`` for a factory in a Python file, which is passed ``device=`` and ``seed=`` if
            it takes them.
        device: Torch device to draw on.
        seed: Seed of the drawing.

    Raises:
        ValueError: If there is no such factory or model.
        MissingExtraError: If ``spec`` names a pipeline and diffusers is missing.
    """
    known = {"diffusers": functools.partial(open_pipeline, device=device, seed=seed)}
    return cast(TextToImage, build_from_spec("text_to_image", spec, known, device=device, seed=seed))


def open_pipeline(
    model: str = _DEFAULT_MODEL, passes: int = 1, guidance: float = 0.0, *, device: str = "cpu", seed: int = 0
) -> TextToImage:
    """Open a text-to-image pipeline of diffusers as a function; only safetensors weights are loaded.

    Args:
        model: Name on the Hugging Face hub, or a folder.
        passes: Number of denoising steps.
        guidance: Guidance scale; 0 for models that were distilled into few steps.
        device: Torch device to draw on.
        seed: Seed of the drawing: the same text always gives the same image.

    Raises:
        MissingExtraError: If diffusers is missing.
        ValueError: If there is no such model.
    """
    with need_extra("text", "Drawing a text needs diffusers"):
        import diffusers
    import torch

    try:
        pipeline = diffusers.AutoPipelineForText2Image.from_pretrained(model, use_safetensors=True).to(device)
    except (OSError, ValueError) as error:
        raise ValueError(f"text_to_image must be a model that diffusers can open, got {model!r}: {error}") from error

    def draw(text: str) -> object:
        generator = torch.Generator(device).manual_seed(seed)
        return pipeline(text, num_inference_steps=passes, guidance_scale=guidance, generator=generator).images[0]

    return cast(TextToImage, draw)
