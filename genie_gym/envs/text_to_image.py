"""Who draws a text: a pipeline of diffusers (needs the extra ``text``), or a function of any Python file."""

import functools
from typing import cast

from genie_gym.envs.prompts import TextToImage
from genie_gym.extras import need_extra
from genie_gym.plugins import build

MODEL = "stabilityai/sd-turbo"
"""Small, and draws in one pass; for research, by its licence."""


def load_text_to_image(spec: str, device: str = "cpu", seed: int = 0) -> TextToImage:
    """The function from a text to an image that ``spec`` names.

    Args:
        spec: ``diffusers``, ``diffusers(MODEL)``, ``diffusers(MODEL, PASSES, GUIDANCE)``, or
            ``FILE.py:FACTORY(ARGUMENTS)`` for what a factory of one's own returns, which gets ``device=`` and ``seed=``
            where it takes them.
        device: Where to draw.
        seed: Of the drawing.

    Raises:
        ValueError: If there is no such function.
        MissingExtraError: If it is a pipeline and diffusers is missing.
    """
    known = {"diffusers": functools.partial(open_pipeline, device=device, seed=seed)}
    return cast(TextToImage, build("text_to_image", spec, known, device=device, seed=seed))


def open_pipeline(
    model: str = MODEL, passes: int = 1, guidance: float = 0.0, *, device: str = "cpu", seed: int = 0
) -> TextToImage:
    """A text-to-image pipeline of diffusers, as a function; weights as safetensors only.

    Args:
        model: On the Hugging Face hub, or a folder.
        passes: Of the denoising.
        guidance: Towards the text; 0 for models that were distilled into few passes.
        device: Where to draw.
        seed: The same text gives the same image.

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
