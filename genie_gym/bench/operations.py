"""Number of floating-point operations in a step of a world, counted from its config.

A matrix product of (m, k) and (k, n) counts 2 m k n; nothing else counts. Attention is counted head by head: padding
that a kernel may add to multiply fewer, larger matrices is not useful work and not counted.
"""

from genie_gym.configs import TransformerConfig, WorldConfig
from genie_gym.nn.quantizer import latent_dim


def part_operations(config: WorldConfig, maskgit_steps: int) -> dict[str, int]:
    """Return the operations of ``GenieWorldModel.step`` for one row with full KV caches, by part.

    Parts are named as by ``time_parts``; one without products is left out.

    Args:
        config: Config of the world.
        maskgit_steps: MaskGIT steps per frame. The first pass also adds the present frame to the caches; of that
            frame, the last block computes only keys and values.
    """
    part, tokens = config.dynamics, config.tokens_per_frame
    stack, codes = part.transformer, config.tokenizer.quantizer.codes
    folded, inner = tokens // part.fold**2, stack.width // part.fold
    positions = folded + (part.action_conditioning == "token")
    condition = stack.width if part.action_conditioning == "film" else 0
    blocks = stack.layers * (maskgit_steps + 1)
    finished = blocks - (stack.attention != "spatial")  # those that compute more than keys and values
    in_space = blocks * (stack.attention in ("st", "spatial"))
    in_time, mixed = (number * (stack.attention in ("st", "full")) for number in (blocks, finished))
    mix = _linear(positions, stack.heads * stack.value_head_dim, stack.width)
    products = (in_space + in_time) * _project(stack, positions) + (in_space + mixed) * mix
    logits = _linear(tokens, inner, inner) + _linear(tokens, inner, codes)
    fold = _linear(folded, stack.width, part.fold * stack.width) if part.fold > 1 else 0  # folding in, or out
    attended = _attended(stack, positions, config.context_length + 1)
    return {
        "embed": (maskgit_steps + 1) * fold,
        "products": products + finished * _feed_forward(stack, positions),
        "attention in space": in_space * _score(stack, positions, positions),
        "attention in time": mixed * _score(stack, positions, attended),
        "film": finished * _linear(1, condition, 2 * stack.width),
        "logits": maskgit_steps * (logits + fold),
        "decode": _decoder(config),
    }


def _decoder(config: WorldConfig) -> int:
    """Return the operations of decoding one frame, with the linear path parallel to the decoder."""
    part, tokens = config.tokenizer, config.tokens_per_frame
    dim, width, pixels = latent_dim(part.quantizer), part.decoder.width, 3 * part.patch_size**2
    linear = _linear(tokens, dim, width) + _linear(tokens, width, pixels) + _linear(tokens, dim, pixels)
    return linear + _transformer(part.decoder, tokens // part.fold**2, config.context_length)


def _transformer(config: TransformerConfig, positions: int, frames: int) -> int:
    """Return the operations for one frame that attends to ``frames``, itself included."""
    block = _feed_forward(config, positions)
    if config.attention in ("st", "spatial"):
        block += _project(config, positions) + _attend(config, positions, positions)
    if config.attention in ("st", "full"):
        block += _project(config, positions) + _attend(config, positions, _attended(config, positions, frames))
    return config.layers * block


def _attended(config: TransformerConfig, positions: int, frames: int) -> int:
    """Return how many tokens of ``frames`` frames one token attends to."""
    return frames if config.attention == "st" else frames * positions


def _project(config: TransformerConfig, positions: int) -> int:
    """Return the operations for queries, keys and values."""
    return _linear(positions, config.width, config.heads * (2 * config.head_dim + config.value_head_dim))


def _attend(config: TransformerConfig, positions: int, attended: int) -> int:
    """Return the operations for scores, weighted values and the output projection."""
    mix = _linear(positions, config.heads * config.value_head_dim, config.width)
    return _score(config, positions, attended) + mix


def _score(config: TransformerConfig, positions: int, attended: int) -> int:
    """Return the operations for scores and weighted values."""
    return 2 * positions * attended * config.heads * (config.head_dim + config.value_head_dim)


def _feed_forward(config: TransformerConfig, positions: int) -> int:
    hidden, kernel = config.feed_forward_width, 9 if config.attention == "conv" else 1
    return _linear(positions, kernel * config.width, hidden) + _linear(positions, hidden, config.width)


def _linear(rows: int, inputs: int, outputs: int) -> int:
    return 2 * rows * inputs * outputs
