"""Number of floating-point operations in a step of a world, counted from its config.

A matrix product of (m, k) and (k, n) counts 2 m k n; nothing else counts. Attention is counted head by head: padding
that a kernel may add to multiply fewer, larger matrices is not useful work and not counted.
"""

from genie_gym.configs import TransformerConfig, WorldConfig
from genie_gym.nn.quantizer import latent_dim


def step_operations(config: WorldConfig, maskgit_steps: int) -> int:
    """Return the operations of ``GenieWorldModel.step`` for one row with full KV caches.

    Args:
        config: Config of the world.
        maskgit_steps: MaskGIT steps per frame. The first pass also adds the present frame to the caches; of that
            frame, the last block computes only keys and values.
    """
    part, tokens = config.dynamics, config.tokens_per_frame
    width, codes = part.transformer.width, config.tokenizer.quantizer.codes
    folded, inner = tokens // part.fold**2, width // part.fold
    positions = folded + (part.action_conditioning == "token")
    condition = width if part.action_conditioning == "film" else 0
    frame = _transformer(part.transformer, positions, config.context_length + 1, condition)
    spared = _after_caching(part.transformer, positions, config.context_length + 1, condition)
    logits = _linear(tokens, inner, inner) + _linear(tokens, inner, codes)
    fold = _linear(folded, width, part.fold * width) if part.fold > 1 else 0  # folding in costs as much as folding out
    passes = (maskgit_steps + 1) * (frame + fold) + maskgit_steps * (logits + fold)
    return passes - spared + _decoder(config)


def _decoder(config: WorldConfig) -> int:
    """Return the operations of decoding one frame, with the linear path parallel to the decoder."""
    part, tokens = config.tokenizer, config.tokens_per_frame
    dim, width, pixels = latent_dim(part.quantizer), part.decoder.width, 3 * part.patch_size**2
    linear = _linear(tokens, dim, width) + _linear(tokens, width, pixels) + _linear(tokens, dim, pixels)
    return linear + _transformer(part.decoder, tokens // part.fold**2, config.context_length)


def _transformer(config: TransformerConfig, positions: int, frames: int, condition: int = 0) -> int:
    """Return the operations for one frame that attends to ``frames``, itself included, with ``condition`` for FiLM."""
    block = _feed_forward(config, positions, condition)
    if config.attention in ("st", "spatial"):
        block += _project(config, positions) + _attend(config, positions, positions)
    if config.attention in ("st", "full"):
        block += _project(config, positions) + _attend(config, positions, _attended(config, positions, frames))
    return config.layers * block


def _after_caching(config: TransformerConfig, positions: int, frames: int, condition: int) -> int:
    """Return the operations of a block for one frame after its keys and values are cached."""
    if config.attention == "spatial":
        return 0
    attended = _attended(config, positions, frames)
    return _attend(config, positions, attended) + _feed_forward(config, positions, condition)


def _attended(config: TransformerConfig, positions: int, frames: int) -> int:
    """Return how many tokens of ``frames`` frames one token attends to."""
    return frames if config.attention == "st" else frames * positions


def _project(config: TransformerConfig, positions: int) -> int:
    """Return the operations for queries, keys and values."""
    return _linear(positions, config.width, config.heads * (2 * config.head_dim + config.value_head_dim))


def _attend(config: TransformerConfig, positions: int, attended: int) -> int:
    """Return the operations for scores, weighted values and the output projection."""
    queries, values = config.heads * config.head_dim, config.heads * config.value_head_dim
    return 2 * positions * attended * (queries + values) + _linear(positions, values, config.width)


def _feed_forward(config: TransformerConfig, positions: int, condition: int) -> int:
    hidden, kernel = config.feed_forward_width, 9 if config.attention == "conv" else 1
    film = _linear(1, condition, 2 * config.width) if condition else 0
    return film + _linear(positions, kernel * config.width, hidden) + _linear(positions, hidden, config.width)


def _linear(rows: int, inputs: int, outputs: int) -> int:
    return 2 * rows * inputs * outputs
