"""The random numbers of ``draw_uniforms`` as operations on tensors: the same numbers on a CPU and on a GPU.

They are those of numpy's ``default_rng([seed, age]).random(dtype=float32)``, bit for bit. Its ``SeedSequence`` hashes
seed and age to eight words of 32 bits: the start and the increment of a PCG64, a linear generator of 128 bits. Each of
its states is a constant times the start plus a constant times the increment. In limbs of 16 bits all states of
a frame are therefore one matrix product, which float64 computes without rounding.
"""

import numpy as np
import torch
from torch import Tensor

MOST_SEEDS = 2**32
"""Exclusive upper bound of seeds and ages: each is one word of 32 bits."""

_WORD = 2**32 - 1
_POOL = 4
_START_HASH, _HASH_FACTOR = 0x43B0D7E5, 0x931E8875
_START_OUTPUT, _OUTPUT_FACTOR = 0x8B51F9DD, 0x58F38DED
_MIX_LEFT, _MIX_RIGHT = 0xCA01F9DD, 0x4973F715
_MULTIPLIER = 2549297995355413924 << 64 | 4865540595714422341
_LIMBS = 8
_LIMB = 2**16 - 1


class SeededUniforms:
    """Draws random numbers for rows from their seeds and ages.

    Args:
        count: Number of random numbers per row.
        device: Device of seeds, ages and numbers; it must know float64.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.count = count
        hashes = _powers(_START_HASH, _HASH_FACTOR, _POOL * _POOL + 1)
        outputs = _powers(_START_OUTPUT, _OUTPUT_FACTOR, 2 * _POOL + 1)
        self._hashes, self._outputs = (torch.tensor(values, device=device) for values in (hashes, outputs))
        self._others = torch.tensor([[j for j in range(_POOL) if j != i] for i in range(_POOL)], device=device)
        factors, constants = _state_factors((count + 1) // 2)
        self._factors, self._constants = factors.to(device), constants.to(device)

    def __call__(self, seeds: Tensor, ages: Tensor) -> Tensor:
        """Return (B, count) float32 in [0, 1) for (B,) int64 seeds and ages, all in [0, 2**32)."""
        words = self._hash(torch.stack([seeds, ages], dim=1))  # (B, 8)
        limbs = torch.stack([words & _LIMB, words >> 16], dim=2).flatten(1)  # (B, 16)
        sums = (limbs.double() @ self._factors).long() + self._constants  # (8, B, outputs), low limbs first
        state, carry = [], torch.zeros_like(sums[0])
        for limb in sums.unbind():
            total = limb + carry
            state.append(total & _LIMB)
            carry = total >> 16
        # PCG64's output: both halves of the state, xor-ed, and rotated by the uppermost 6 bits
        low, middle, high, upper = (one ^ other for one, other in zip(state[:4], state[4:], strict=True))
        mixed, turns = low | middle << 16 | high << 32 | upper << 48, state[-1] >> 10
        rotated = (mixed >> turns & ~(-2 << (63 - turns))) | mixed << (-turns & 63)
        pairs = torch.stack([rotated >> 8 & 0xFFFFFF, rotated >> 40 & 0xFFFFFF], dim=2)  # (B, outputs, 2)
        return pairs.flatten(1)[:, : self.count].float() * 2.0**-24

    def _hash(self, entropy: Tensor) -> Tensor:
        """Hash (B, 2) words to (B, 8) words as numpy's ``SeedSequence`` does."""
        pool = torch.cat([entropy, torch.zeros_like(entropy)], dim=1)
        pool = _scramble(pool, self._hashes[: _POOL + 1])
        for source in range(_POOL):
            first, others = _POOL + 3 * source, self._others[source]
            hashed = _scramble(pool[:, source : source + 1], self._hashes[first : first + _POOL])
            mixed = (_MIX_LEFT * pool.index_select(1, others) - _MIX_RIGHT * hashed) & _WORD
            pool = pool.index_copy(1, others, mixed ^ mixed >> 16)
        return _scramble(pool.repeat(1, 2), self._outputs)


def _scramble(words: Tensor, constants: Tensor) -> Tensor:
    """Hash (B, n or 1) words with n + 1 successive constants: (B, n)."""
    product = (words ^ constants[:-1]) * constants[1:] & _WORD
    return product ^ product >> 16


def _powers(start: int, factor: int, count: int) -> list[int]:
    return [start * pow(factor, power, 2**32) & _WORD for power in range(count)]


def _state_factors(outputs: int) -> tuple[Tensor, Tensor]:
    """Return what takes the limbs of the eight words to the limbs of PCG64's states, before carries.

    With a multiplier a, a start s and an increment 2 q + 1, state i is a^(i + 1) s + g (2 q + 1), where g is the sum of
    the powers of a up to a^(i + 1).

    Returns:
        (8, 16, outputs) float64 factors, and (8, 1, outputs) int64 constants.
    """
    factors = np.zeros((_LIMBS, 2 * _LIMBS, outputs))
    constants = np.zeros((_LIMBS, 1, outputs), dtype=np.int64)
    power, total = _MULTIPLIER, 1 + _MULTIPLIER
    for output in range(outputs):
        power = power * _MULTIPLIER % 2**128
        total = (total + power) % 2**128
        constants[:, 0, output] = _split(total)
        for part, number in enumerate((power, 2 * total % 2**128)):
            for limb in range(_LIMBS):
                # the words hold 128 bits as two halves of 64, the upper half first
                place = _LIMBS * part + (limb + _LIMBS // 2) % _LIMBS
                factors[limb:, place, output] = _split(number)[: _LIMBS - limb]
    return torch.from_numpy(factors), torch.from_numpy(constants)


def _split(number: int) -> list[int]:
    return [number >> 16 * limb & _LIMB for limb in range(_LIMBS)]
