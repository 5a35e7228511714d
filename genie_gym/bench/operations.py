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
        maskgit_steps: Passes a frame. The present frame goes along in the first, as one frame more, of which the last
            block only remembers keys and values.
    """
    part, tokens = config.dynamics, config.tokens_per_frame
    width, codes = part.transformer.width, config.tokenizer.quantizer.codes
    own, inner = tokens // part.fold**2, width // part.fold
    places = own + (part.action_conditioning == "token")
    condition = width if part.action_conditioning == "film" else 0
    frame = _transformer(part.transformer, places, config.context_length + 1, condition)
    spared = _after_remembering(part.transformer, places, config.context_length + 1, condition)
    logits = _linear(tokens, inner, inner) + _linear(tokens, inner, codes)
    gathered = spread = _linear(own, width, part.fold * width) if part.fold > 1 else 0
    passes = (maskgit_steps + 1) * (frame + gathered) + maskgit_steps * (logits + spread)
    return passes - spared + _decoder(config)


def _decoder(config: WorldConfig) -> int:
    """One frame through the tokenizer's decoder, and the linear path beside it."""
    part, tokens = config.tokenizer, config.tokens_per_frame
    dim, width, pixels = latent_dim(part.quantizer), part.decoder.width, 3 * part.patch_size**2
    linear = _linear(tokens, dim, width) + _linear(tokens, width, pixels) + _linear(tokens, dim, pixels)
    return linear + _transformer(part.decoder, tokens // part.fold**2, config.context_length)


def _transformer(config: TransformerConfig, places: int, slots: int, condition: int = 0) -> int:
    """One frame that attends to ``slots`` frames, itself among them, with ``condition`` features for FiLM."""
    block = _feed_forward(config, places, condition)
    if config.attention in ("st", "spatial"):
        block += _project(config, places) + _attend(config, places, places)
    if config.attention in ("st", "full"):
        block += _project(config, places) + _attend(config, places, _seen(config, places, slots))
    return config.layers * block


def _after_remembering(config: TransformerConfig, places: int, slots: int, condition: int) -> int:
    """What a block does for a frame once its keys and values are in their slots."""
    if config.attention == "spatial":
        return 0
    return _attend(config, places, _seen(config, places, slots)) + _feed_forward(config, places, condition)


def _seen(config: TransformerConfig, places: int, slots: int) -> int:
    """Tokens in ``slots`` frames that one token attends to."""
    return slots if config.attention == "st" else slots * places


def _project(config: TransformerConfig, places: int) -> int:
    """Queries, keys and values."""
    return _linear(places, config.width, config.heads * (2 * config.head_dim + config.value_head_dim))


def _attend(config: TransformerConfig, places: int, seen: int) -> int:
    """``places`` tokens, each of which sees ``seen``: scores, mixed values, projected back."""
    queries, values = config.heads * config.head_dim, config.heads * config.value_head_dim
    return 2 * places * seen * (queries + values) + _linear(places, values, config.width)


def _feed_forward(config: TransformerConfig, places: int, condition: int) -> int:
    hidden, seen = config.feed_forward_width, 9 if config.attention == "conv" else 1
    steering = _linear(1, condition, 2 * config.width) if condition else 0
    return steering + _linear(places, seen * config.width, hidden) + _linear(places, hidden, config.width)


def _linear(rows: int, inputs: int, outputs: int) -> int:
    return 2 * rows * inputs * outputs
