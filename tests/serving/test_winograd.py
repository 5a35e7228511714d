"""Convolutions by fewer products equal PyTorch's, and so do their gradients; and stay away where they cannot run."""

import shutil

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genie_gym.nn.convolution import ImpalaEncoder
from genie_gym.nn.layers import SquareConvolution
from genie_gym.serving import winograd

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the kernels")


def draw_case(number: int, inputs: int, outputs: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, weights, bias."""
    generator = torch.Generator().manual_seed(0)
    shapes = (number, inputs, *size), (outputs, inputs, 3, 3), (outputs,)
    pictures, weight, bias = (torch.randn(shape, generator=generator) for shape in shapes)
    return pictures.contiguous(memory_format=torch.channels_last), weight / (9 * inputs) ** 0.5, bias


def assert_near(one: Tensor, other: Tensor) -> None:
    """To a fifty-thousandth of the largest: sums of large numbers that cancel are what is saved in products."""
    scale = float(other.detach().abs().max())
    torch.testing.assert_close(one.double() / scale, other.double() / scale, atol=2e-5, rtol=0)


@pytest.mark.parametrize("size", [(16, 16), (8, 8), (7, 9), (1, 2), (4, 21)])
@pytest.mark.parametrize(("number", "inputs", "outputs"), [(1, 16, 16), (5, 32, 48), (40, 16, 32)])
def test_outputs_and_gradients(number: int, inputs: int, outputs: int, size: tuple[int, int]) -> None:
    """Beside PyTorch's in double precision; of outputs that are not whole squares, too."""
    case = [each.requires_grad_() for each in draw_case(number, inputs, outputs, size)]
    pictures, weight, bias = case
    out = winograd.convolve(pictures, weight, bias)
    wanted = F.conv2d(pictures.double(), weight.double(), bias.double(), padding=1)
    assert_near(out, wanted)
    gradient = torch.randn_like(wanted)
    found = torch.autograd.grad(out, case, gradient.float())
    for one, other in zip(found, torch.autograd.grad(wanted, case, gradient), strict=True):
        assert_near(one, other)


def test_threads_share_pictures() -> None:
    """However many there are, no output changes, and the weights' gradient but for the order of its sum."""
    pictures, weight, bias = draw_case(9, 16, 16, (8, 8))
    weight.requires_grad_()
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = winograd.convolve(pictures, weight, bias)
            results.append((out.detach(), *torch.autograd.grad(out.square().sum(), weight)))
    finally:
        torch.set_num_threads(before)
    for out, gradient in results[1:]:
        assert torch.equal(out, results[0][0])
        assert_near(gradient, results[0][1])


def test_no_bias_and_frozen_pictures() -> None:
    pictures, weight, _ = draw_case(2, 16, 16, (8, 8))
    weight.requires_grad_()
    out = winograd.convolve(pictures, weight, None)
    torch.testing.assert_close(out, F.conv2d(pictures, weight, padding=1), atol=2e-5, rtol=2e-5)
    out.sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize(
    "why", ["channels that fill no vector", "channels first", "bfloat16", "few pixels", "switched off"]
)
def test_left_to_pytorch(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, weight, bias = draw_case(4, 12 if why.startswith("channels that") else 16, 16, (16, 16))
    if why == "channels first":
        pictures = pictures.contiguous()
    if why == "bfloat16":
        pictures = pictures.bfloat16()
    if why == "few pixels":
        pictures = pictures[:3]
    if why == "switched off":
        monkeypatch.setattr(winograd, "winograd_library", lambda: None)
    layer = SquareConvolution(weight.shape[1], 16)
    layer.load_state_dict({"weight": weight, "bias": bias})
    monkeypatch.setattr(winograd, "convolve", lambda *_: pytest.fail("not for the kernel"))
    wanted = F.conv2d(pictures, weight.to(pictures.dtype), bias.to(pictures.dtype), padding=1)
    assert torch.equal(layer(pictures), wanted)


def test_an_encoder_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is made of reaches the kernel, in channels last from one layer to the next."""
    torch.manual_seed(0)
    encoder = ImpalaEncoder(12, (32, 32), 64, (64, 64), patch_size=4)
    pixels = torch.randn(16, 12, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.profiler.profile() as profile:
        out = encoder(pixels)
    names = [event.name for event in profile.events()]
    assert names.count("_Convolution") == 9
    monkeypatch.setattr(winograd, "winograd_library", lambda: None)
    torch.testing.assert_close(out, encoder(pixels), atol=1e-5, rtol=1e-4)
