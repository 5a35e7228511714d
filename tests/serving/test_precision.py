"""The precision that ``auto`` chooses on each kind of processor."""

import pytest
import torch

from genie_gym.configs import PRECISIONS
from genie_gym.models.loading import require_precision
from genie_gym.serving import kernels, native_precision, precision

CPU = torch.device("cpu")
XEON = {"avx512f", "avx512_bf16", "avx512_fp16"}


@pytest.mark.parametrize(
    ("flags", "tiles", "wanted"),
    [
        (set(), False, "float32"),
        ({"avx2", "fma"}, False, "float32"),
        ({"avx512f", "avx512_bf16"}, False, "bfloat16"),
        (XEON, False, "float32"),
        (XEON | {"amx_bf16"}, True, "bfloat16"),
        (XEON | {"amx_bf16"}, False, "float32"),
    ],
    ids=["unknown", "avx2", "bf16", "fp16 without tiles", "tiles", "tiles that may not be used"],
)
def test_a_precision_that_is_slow_or_overflows_is_not_chosen(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], tiles: bool, wanted: str
) -> None:
    monkeypatch.setattr(precision, "processor_flags", lambda: frozenset(flags))
    monkeypatch.setattr(kernels, "may_use_tiles", lambda: tiles)
    assert native_precision(CPU) == wanted


def test_the_processor_decides_nothing_for_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "processor_flags", lambda: frozenset({"avx512_bf16"}))
    assert native_precision(torch.device("mps")) == "float32"


def test_without_kernels_pytorch_may_use_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "rows_library", lambda: None)
    assert kernels.may_use_tiles()


def test_float16_which_overflows_is_refused() -> None:
    assert "float16" not in PRECISIONS
    with pytest.raises(ValueError, match=r"precision must be None or one of .*bfloat16.*, got 'float16'"):
        require_precision("float16")
