"""Decoders that predict the next frame as a mixture of shifted copies of the last one.

After Finn, Goodfellow and Levine 2016, "Unsupervised learning for physical interaction through video prediction" (sec.
3.2). In shapes M is the number of transitions, S the number of shifted copies and R = 2 reach + 1.
"""

from types import EllipsisType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.configs import MovingActionConfig
from genie_gym.nn.convolution import SteeredUNet
from genie_gym.nn.layers import Linear
from genie_gym.nn.quantizer import latent_dim

Box = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""
_HIDDEN_FEATURES = 256
_PAINT_MARGIN = 2
"""Width in pixels of the border around the agent's box that may be painted too."""
_SEEN_MARGIN = 13
"""Least width in pixels of the border around the agent's box that is seen when it is painted."""
_STILL_LOGIT = 2.0
"""Initial logit of no shift, where all other shifts start at 0."""
_KEPT_LOGIT = 4.0
"""Initial logit of the mask that paints, where masks of shifted copies start at 0, and all paint at no change.

So the decoder begins by copying the last frame. Otherwise a picture of which only a few pixels move is blurred at
first, and it takes hundreds of steps to unlearn that."""


class MovingDecoder(nn.Module):
    """Predict the change from the last frame to the next from past frames, their motion, and one vector.

    The whole frame is shifted in a few ways, each by a distribution over vertical and one over horizontal shifts. Masks
    mix the shifted copies pixel by pixel, and one more mask paints what no copy provides. Masks and paint depend only
    on past frames: the vector can select how things move, but not how they look.

    The vector's shifts are added to those predicted from past motion, so it stands for a change of motion, whatever the
    motion was. The largest shifts of motion and vector are each ``reach`` pixels: their sums reach twice as far. The
    vector also paints the agent's box, if there is one, and a small margin around it. With two codebooks, the first
    half of the vector controls horizontal shifts and paint and the second half vertical shifts; otherwise the whole
    vector controls all of them.

    Args:
        config: Sizes of the decoder; the vector is a code of its quantizer.
        motion: Features of the past motion.
    """

    def __init__(self, config: MovingActionConfig, motion: int) -> None:
        super().__init__()
        self.config = config
        # Predicts masks and paint. Digests of labels depend on the names of weights, so this one keeps its name.
        self.where = SteeredUNet(3 * config.history, config.width, config.moves + 4, None)
        self.where.set_outputs(config.moves, _KEPT_LOGIT)
        for paint in range(config.moves + 1, config.moves + 4):
            self.where.set_outputs(paint, 0.0)
        self.hidden = Linear(motion, _HIDDEN_FEATURES)
        self.shifts = _build_shift_head(_HIDDEN_FEATURES, config)
        self.parts = 2 if config.quantizer.kind == "vq" and len(config.quantizer.levels) == 2 else 1
        part, axes = latent_dim(config.quantizer) // self.parts, 2 // self.parts
        self.added_shifts = nn.ModuleList(_build_shift_head(part, config, axes) for _ in range(self.parts))
        has_box = config.agent_box is not None
        self.player = SteeredUNet(3 * config.history, config.width, 4, part) if has_box else None

    def forward(self, pixels: Tensor, motion: Tensor, vector: Tensor) -> Tensor:
        """Return changes (M, C, H, W) in float32.

        Args:
            pixels: (M, history C, H, W) past frames, oldest first.
            motion: (M, motion) features of their motion.
            vector: (M, steer) features that select the shifts.
        """
        changes = self._move(pixels, motion, vector)
        if self.player is None:
            return changes
        box, size = find_box(self.config), tuple(pixels.shape[-2:])
        painted, seen = grow_box(box, _PAINT_MARGIN, size), grow_box(box, _SEEN_MARGIN, size, 8)
        output = self.player(pixels[box_index(seen)], vector.chunk(self.parts, dim=1)[0]).float()
        inner = painted[0] - seen[0], painted[1] - seen[1], *painted[2:]
        mask, paint = output[box_index(inner)].split([1, 3], dim=1)  # (M, 1, height, width), (M, C, height, width)
        result, index = changes.clone(), box_index(painted)
        result[index] += mask.sigmoid() * (paint - changes[index])
        return result

    def _move(self, pixels: Tensor, motion: Tensor, vector: Tensor) -> Tensor:
        """Return the changes without the painted agent."""
        last = pixels[:, -3:].float()  # (M, history C, H, W) -> (M, C, H, W)
        logits, paint = self.where(pixels, None).float().split([self.config.moves + 1, 3], dim=1)
        masks = logits.softmax(dim=1)  # (M, S + 1, H, W)
        moved = shift_frames(last, *self._shifts(motion, vector))  # (M, S, C, H, W)
        mixed = (masks[:, :-1, None] * (moved - last[:, None])).sum(dim=1)  # (M, S, C, H, W) -> (M, C, H, W)
        return mixed + masks[:, -1:] * paint

    def _shifts(self, motion: Tensor, vector: Tensor) -> tuple[Tensor, ...]:
        """Return distributions (M, S, 2 R - 1) over vertical and over horizontal shifts."""
        continued = self._to_distributions(self.shifts(F.relu(self.hidden(motion))))  # (M, 2, S, R)
        parts = reversed(vector.chunk(self.parts, dim=1))  # vertical first, as in the distributions
        logits = [head(part) for head, part in zip(self.added_shifts, parts, strict=True)]
        added = self._to_distributions(torch.cat(logits, dim=1))  # (M, 2, S, R)
        return add_shifts(continued, added).unbind(dim=1)

    def _to_distributions(self, logits: Tensor) -> Tensor:
        """Return softmax over shifts: (M, 2 S R) -> (M, 2, S, R)."""
        return logits.float().unflatten(1, (2, self.config.moves, -1)).softmax(dim=-1)


def find_box(config: MovingActionConfig) -> Box:
    """Return the agent's box of a config that has one.

    Raises:
        ValueError: If the box has still to be found in training data.
    """
    if config.agent_box == "find":
        raise ValueError("agent_box must be found before training (training.agent_box), got 'find'")
    assert config.agent_box is not None
    return config.agent_box


def find_border(config: MovingActionConfig) -> int:
    """Return the width in pixels of the border of a config that is left out of the loss.

    Raises:
        ValueError: If it has still to be found in training data.
    """
    if config.border == "find":
        raise ValueError("border must be found before training (training.agent_box), got 'find'")
    return config.reach if config.border is None else config.border


def box_index(box: Box) -> tuple[EllipsisType, slice, slice]:
    """Return the index of a box in frames (..., H, W)."""
    top, left, height, width = box
    return ..., slice(top, top + height), slice(left, left + width)


def grow_box(box: Box, margin: int, size: tuple[int, ...], multiple: int = 1) -> Box:
    """Return the box with a margin around it, moved and cut to lie in a frame of ``size`` (H, W).

    Its sides are rounded up to a ``multiple`` where the frame has room.
    """
    starts, sides = [], []
    for start, inner, limit in zip(box[:2], box[2:], size, strict=True):
        side = min(-(-(inner + 2 * margin) // multiple) * multiple, limit)
        starts.append(min(max(0, start - (side - inner) // 2), limit - side))
        sides.append(side)
    return starts[0], starts[1], sides[0], sides[1]


def _build_shift_head(features: int, config: MovingActionConfig, axes: int = 2) -> Linear:
    """Return a layer from features to logits of shifts, along both axes or one, which prefer no shift at first."""
    layer = Linear(features, axes * config.moves * (2 * config.reach + 1))
    with torch.no_grad():
        layer.bias.view(axes * config.moves, -1)[:, config.reach] += _STILL_LOGIT
    return layer


def add_shifts(one: Tensor, other: Tensor) -> Tensor:
    """Return the distribution of the sum of two independent shifts.

    Args:
        one: (..., R) probabilities that sum to 1; the middle entry is that of no shift.
        other: (..., R) probabilities of the other shift.

    Returns:
        (..., 2 R - 1) probabilities.
    """
    reach = other.shape[-1] // 2
    windows = F.pad(one, (2 * reach, 2 * reach)).unfold(-1, 2 * reach + 1, 1)  # (..., R) -> (..., 2 R - 1, R)
    return (windows * other.flip(-1).unsqueeze(-2)).sum(dim=-1)  # a convolution of both


def shift_frames(frames: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the expectation of each frame under several pairs of distributions over shifts; edges are repeated.

    Args:
        frames: (M, C, H, W).
        rows: (M, S, R) probabilities; entry ``reach + d`` takes the pixel ``d`` rows below.
        columns: (M, S, R) probabilities; entry ``reach + d`` takes the pixel ``d`` columns to the right.

    Returns:
        (M, S, C, H, W).
    """
    height, width = frames.shape[-2:]
    shifted = torch.einsum("mkij,mcjw->mkciw", _shift_matrix(rows, height), frames)  # (M, S, C, H, W)
    return torch.einsum("mkciw,mkvw->mkciv", shifted, _shift_matrix(columns, width))


def _shift_matrix(probabilities: Tensor, size: int) -> Tensor:
    """Return matrices that shift ``size`` pixels: (M, S, R) -> (M, S, size, size).

    Row i holds the probabilities of the shifts at columns i - reach to i + reach.
    """
    reach = probabilities.shape[-1] // 2
    positions = torch.arange(size, device=probabilities.device)
    offsets = torch.arange(-reach, reach + 1, device=probabilities.device)
    sources = (positions + offsets[:, None]).clamp(0, size - 1)  # (R, size); beyond the edge the edge is repeated
    return torch.einsum("mkr,rij->mkij", probabilities, F.one_hot(sources, size).to(probabilities.dtype))
