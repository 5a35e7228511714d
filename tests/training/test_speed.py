"""What TensorBoard tells of a run's speed: operations counted by hand, and no share of a peak that is not known."""

import torch
from torch import nn

from genie_gym.training.speed import FlopCounter, Meter, find_peak, read_peak


def test_operations_count_thrice_with_gradients_and_once_without() -> None:
    layer, features = nn.Linear(10, 20), torch.randn(5, 10)
    with FlopCounter() as counter:
        layer(features)
        with torch.no_grad():
            layer(features)
    assert counter.flops == 4 * 2 * 5 * 10 * 20


def test_the_first_step_has_no_speed_and_an_unknown_peak_no_share() -> None:
    meter = Meter(torch.device("cpu"))
    meter.tick()
    assert set(meter.count(8, 32)) == {"memory/peak_gb"}
    meter.tick()
    values = meter.count(8, 32)
    assert set(values) == {"memory/peak_gb", "speed/frames_per_second", "speed/tokens_per_second"}
    ratio = values["speed/tokens_per_second"] / values["speed/frames_per_second"]
    torch.testing.assert_close(ratio, torch.tensor(4.0))
    assert find_peak(torch.device("cpu"), "bfloat16") is None


def test_the_share_of_the_peak_is_operations_over_peak() -> None:
    meter = Meter(torch.device("cpu"), peak=1e6, flops=500)
    meter.count(8, 0)
    meter.tick()
    values = meter.count(8, 0)
    assert "speed/tokens_per_second" not in values
    steps = values["speed/frames_per_second"] / 8
    torch.testing.assert_close(values["speed/mfu"], steps * 500 / 1e6)


def test_peak_memory_grows_with_what_is_held() -> None:
    before = read_peak(torch.device("cpu"))
    held = torch.ones(50_000_000)
    assert read_peak(torch.device("cpu")) >= before
    assert read_peak(torch.device("cpu")) >= held.numel() * 4
