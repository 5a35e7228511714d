"""A decoder that moves what was there: the next frame as a mixture of shifted copies of the last one."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.nn.convolution import SteeredUNet
from genie_gym.nn.layers import Linear

HIDDEN = 256
AROUND = 2
"""Pixels around a square that is painted which are painted as well."""
STILL = 2.0
"""Start of the logit of not moving, against 0 of every other shift."""


class MovingDecoder(nn.Module):
    """Past frames, what is known of their motion, and one vector to the change from the last frame to the next.

    The frame is moved as a whole in each of a few ways, by a distribution over shifts of rows and one of columns
    (Finn, Goodfellow and Levine 2016, "Unsupervised learning for physical interaction through video prediction",
    sec. 3.2). Past frames say which pixel goes which way, and paint what none of them brings. Unless it ``paints``, the
    vector has a hand in nothing but the shifts: it can say how things move, and never what they look like.

    Args:
        history: Past frames.
        width: Channels at the finest scale.
        motion: Features of the past motion.
        steer: Features of the vector.
        moves: Ways to move.
        reach: Pixels that a frame moves at most, along rows and along columns.
        paints: Whether the vector also steers who goes which way, and what is painted.
    """

    def __init__(
        self, history: int, width: int, motion: int, steer: int, moves: int, reach: int, paints: bool = False
    ) -> None:
        super().__init__()
        self.moves, self.paints = moves, paints
        self.where = SteeredUNet(3 * history, width, moves + 4, steer if paints else None)
        self.hidden = Linear(motion + steer, HIDDEN)
        self.shifts = _open_shifts(HIDDEN, moves, reach)

    def forward(self, pixels: Tensor, motion: Tensor, vector: Tensor) -> Tensor:
        """Past frames (M, history C, H, W), oldest first, (M, motion), (M, steer) to changes (M, C, H, W), float32."""
        last = pixels[:, -3:].float()
        shares, paint = self.where(pixels, vector if self.paints else None).float().split([self.moves + 1, 3], dim=1)
        shares = shares.softmax(dim=1)
        moved = shift_frames(last, *self._shifts(motion, vector))
        kept, painted = shares[:, :-1, None], shares[:, -1:]
        return (kept * (moved - last[:, None])).sum(dim=1) + painted * paint

    def _shifts(self, motion: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Distributions (M, moves, 2 reach + 1) over shifts of rows and of columns."""
        told = F.relu(self.hidden(torch.cat([motion, vector], dim=1)))
        rows, columns = self._distribute(self.shifts(told)).unbind(dim=1)
        return rows, columns

    def _distribute(self, logits: Tensor) -> Tensor:
        """(M, 2 moves (2 reach + 1)) -> (M, 2, moves, 2 reach + 1)."""
        return logits.float().unflatten(1, (2, self.moves, -1)).softmax(dim=-1)


class AcceleratingDecoder(MovingDecoder):
    """The vector's shifts are added to those that the past motion tells: it says what changes, whatever moved before.

    Which pixel goes which way hangs on the past alone, so that the vector can move nothing but by its shifts. Where it
    ``paints``, it paints in the middle. Where it ``has_axes``, its first half says how columns shift, and paints, and
    its second half how rows do.

    Args:
        history: As for ``MovingDecoder``, and so on; the vector's shifts reach as far as the motion's.
        width: The same.
        motion: The same.
        steer: The same.
        moves: The same.
        reach: The same.
        paints: Side in pixels of the square in the middle that the vector paints, and ``AROUND`` it; 0 for none.
        has_axes: Whether the halves of the vector have an axis each.
    """

    def __init__(  # noqa: PLR0913
        self,
        history: int,
        width: int,
        motion: int,
        steer: int,
        moves: int,
        reach: int,
        paints: int = 0,
        has_axes: bool = False,
    ) -> None:
        super().__init__(history, width, motion, steer, moves, reach)
        self.hidden = Linear(motion, HIDDEN)
        self.parts, axes = (2, 1) if has_axes else (1, 2)
        told = steer // self.parts
        self.added_shifts = nn.ModuleList(_open_shifts(told, moves, reach, axes) for _ in range(self.parts))
        self.square, self.player = paints, SteeredUNet(3 * history, width, 4, told) if paints else None

    def forward(self, pixels: Tensor, motion: Tensor, vector: Tensor) -> Tensor:
        """As ``MovingDecoder`` does."""
        changes = super().forward(pixels, motion, vector)
        if self.player is None:
            return changes
        share, paint = self.player(pixels, vector.chunk(self.parts, dim=1)[0]).float().split([1, 3], dim=1)
        share = share.sigmoid() * self._find_square(pixels)
        return changes + share * (paint - changes)

    def _shifts(self, motion: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Distributions (M, moves, 4 reach + 1) over shifts of rows and of columns."""
        known = self._distribute(self.shifts(F.relu(self.hidden(motion))))
        told = reversed(vector.chunk(self.parts, dim=1))
        logits = [layer(each) for layer, each in zip(self.added_shifts, told, strict=True)]
        rows, columns = add_shifts(known, self._distribute(torch.cat(logits, dim=1))).unbind(dim=1)
        return rows, columns

    def _find_square(self, pixels: Tensor) -> Tensor:
        """(H, W): 1 in the square and ``AROUND`` it, else 0."""
        inside = torch.zeros(pixels.shape[-2:], device=pixels.device)
        rows, columns = (
            slice(max(0, (side - self.square) // 2 - AROUND), (side + self.square) // 2 + AROUND)
            for side in inside.shape
        )
        inside[rows, columns] = 1
        return inside


def _open_shifts(features: int, moves: int, reach: int, axes: int = 2) -> Linear:
    """To logits of shifts of rows and columns, or of one of the two, none of which is likelier than none."""
    layer = Linear(features, axes * moves * (2 * reach + 1))
    with torch.no_grad():
        layer.bias.view(axes * moves, -1)[:, reach] += STILL
    return layer


def add_shifts(one: Tensor, other: Tensor) -> Tensor:
    """The distribution of the sum of two independent shifts.

    Args:
        one: (..., 2 reach + 1), sums of one; the middle entry is the share of not moving.
        other: The same of the other shift.

    Returns:
        (..., 4 reach + 1).
    """
    reach = other.shape[-1] // 2
    windows = F.pad(one, (2 * reach, 2 * reach)).unfold(-1, 2 * reach + 1, 1)
    return (windows * other.flip(-1).unsqueeze(-2)).sum(dim=-1)


def shift_frames(frames: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Each frame moved in several ways, expected over two distributions of shifts; its edges go on for ever.

    Args:
        frames: (M, C, H, W).
        rows: (M, moves, 2 reach + 1), sums of one; entry ``reach + d`` is the share of the pixel ``d`` rows below.
        columns: The same of the pixel ``d`` columns to the right.

    Returns:
        (M, moves, C, H, W).
    """
    height, width = frames.shape[-2:]
    across = torch.einsum("mkij,mcjw->mkciw", _shift_matrix(rows, height), frames)
    return torch.einsum("mkciw,mkvw->mkciv", across, _shift_matrix(columns, width))


def _shift_matrix(shares: Tensor, size: int) -> Tensor:
    """(M, moves, 2 reach + 1) -> (M, moves, size, size): row i has the shares at columns i - reach .. i + reach."""
    reach = shares.shape[-1] // 2
    places = torch.arange(size, device=shares.device)
    offsets = torch.arange(-reach, reach + 1, device=shares.device)
    seen = (places + offsets[:, None]).clamp(0, size - 1)
    return torch.einsum("mkr,rij->mkij", shares, F.one_hot(seen, size).to(shares.dtype))
