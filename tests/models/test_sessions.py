"""Sessions put together and taken apart."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genie_gym.models.world_model import GenieWorldModel

Videos = Callable[[int, int], Tensor]


def test_joined_sessions_go_on_as_if_alone(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """Of different ages, within the context and beyond it; what they came from can still be played."""
    actions = torch.randint(8, (3, 24), generator=torch.Generator().manual_seed(0))
    states = []
    for row, age in enumerate((0, 3, 12)):
        state, _ = tiny_world.reset(random_videos(3, 1)[row : row + 1], [row])
        for action in actions[row, :age]:
            state, _ = tiny_world.step(state, action[None])
        states.append(state)
    joined = tiny_world.join(states)
    for step in range(12, 18):
        joined, together = tiny_world.step(joined, actions[:, step])
    apart = tiny_world.split(joined)
    for row in range(3):
        state = states[row]
        for action in actions[row, 12:18]:
            state, alone = tiny_world.step(state, action[None])
        torch.testing.assert_close(together[row], alone[0], atol=1e-4, rtol=0)
        after, last = tiny_world.step(apart[row], actions[row, 18:19])
        assert after.ages == (state.ages[0] + 1,)
        torch.testing.assert_close(last, tiny_world.step(state, actions[row, 18:19])[1], atol=1e-4, rtol=0)


def test_sessions_that_are_sampled_differently_stay_apart(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    states = [tiny_world.reset(random_videos(1, 1), [0], maskgit_steps=steps)[0] for steps in (1, 2)]
    for given in (states, []):
        with pytest.raises(ValueError, match="states must be at least one, all sampled alike"):
            tiny_world.join(given)
