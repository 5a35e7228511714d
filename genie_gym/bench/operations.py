"""How many floating-point operations a step of a world needs, counted from its config.

A matrix product of (m, k) and (k, n) counts 2 m k n; nothing else counts. Attention counts head by head: where a
device multiplies more than that, zeros say, to have fewer and larger products, the rest is of no use and not counted.
"""

from genie_gym.configs import TransformerConfig, WorldConfig
from genie_gym.nn.quantizer import latent_dim


def step_operations(config: WorldConfig, maskgit_steps: int) -> int:
    """Operations of ``GenieWorldModel.step`` for one row, whose caches hold their full number of slots.

    Args:
        config: Of the world.
        maskgit_steps: Passes a frame. The present frame goes along in the first, as one frame more.
    """
    part, tokens = config.dynamics, config.tokens_per_frame
    width, codes = part.transformer.width, config.tokenizer.quantizer.codes
    places = tokens + (part.action_conditioning == "token")
    condition = width if part.action_conditioning == "film" else 0
    frame = _transformer(part.transformer, places, config.context_length + 1, condition)
    logits = _linear(tokens, width, width) + _linear(tokens, width, codes)
    return (maskgit_steps + 1) * frame + maskgit_steps * logits + _decoder(config)


def _decoder(config: WorldConfig) -> int:
    """One frame through the tokenizer's decoder, and the linear path beside it."""
    part, tokens = config.tokenizer, config.tokens_per_frame
    dim, width, pixels = latent_dim(part.quantizer), part.decoder.width, 3 * part.patch_size**2
    linear = _linear(tokens, dim, width) + _linear(tokens, width, pixels) + _linear(tokens, dim, pixels)
    return linear + _transformer(part.decoder, tokens, config.context_length)


def _transformer(config: TransformerConfig, places: int, slots: int, condition: int = 0) -> int:
    """One frame that attends to ``slots`` frames, itself among them, with ``condition`` features for FiLM."""
    width, hidden = config.width, config.feed_forward_width
    block = _linear(places, width, hidden) + _linear(places, hidden, width)
    if condition:
        block += _linear(1, condition, 2 * width)
    if config.attention != "full":
        block += _attention(config, places, places)
    if config.attention != "spatial":
        block += _attention(config, places, slots if config.attention == "st" else slots * places)
    return config.layers * block


def _attention(config: TransformerConfig, places: int, seen: int) -> int:
    """``places`` tokens, each of which sees ``seen``: projections, scores, mixed values."""
    queries, values = config.heads * config.head_dim, config.heads * config.value_head_dim
    projections = _linear(places, config.width, 2 * queries + values) + _linear(places, values, config.width)
    return projections + 2 * places * seen * (queries + values)


def _linear(rows: int, inputs: int, outputs: int) -> int:
    return 2 * rows * inputs * outputs
