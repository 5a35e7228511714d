"""Draws and sums over a shared batch: rows get the numbers of the whole batch; alone, nothing changes."""

import pytest
import torch

from genie_gym.configs import TransformerConfig
from genie_gym.nn import ranks
from genie_gym.nn.layers import BatchNorm
from genie_gym.nn.ranks import Share, share_batch
from genie_gym.nn.st_transformer import Block, SpatioTemporalTransformer


@pytest.mark.parametrize("dim", [0, 1])
def test_shares_draw_the_rows_of_the_whole_batch(dim: int) -> None:
    shape = [(6, 3), (3, 6)][dim]
    torch.manual_seed(1)
    whole = ranks.draw_rows(torch.rand, shape, dim)
    parts = []
    for first, rows in ((0, 2), (2, 2), (4, 2)):
        torch.manual_seed(1)
        with share_batch(Share(first, rows, 6)):
            parts.append(ranks.draw_rows(torch.rand, [(2, 3), (3, 2)][dim], dim))
            after = torch.rand(())
    assert torch.equal(torch.cat(parts, dim), whole)
    torch.manual_seed(1)
    torch.rand(shape)
    assert torch.equal(after, torch.rand(()))  # every share leaves the generator at the same place


def test_a_share_of_another_size_is_refused() -> None:
    with share_batch(Share(0, 2, 6)), pytest.raises(AssertionError, match="a share of 2 rows, got 3"):
        ranks.draw_rows(torch.rand, (3, 1))


def test_alone_nothing_changes() -> None:
    values = torch.rand(4, 5)
    assert ranks.mean_over_ranks(values) is values
    assert ranks.sum_over_ranks(values) is values
    assert ranks.gather_rows(values) is values
    assert torch.equal(ranks.roll_rows(values), values.roll(1, dims=0))
    assert torch.equal(ranks.variance_over_ranks(values), values.var())
    assert torch.equal(ranks.pick_points(values, torch.tensor([3, 0])), values[[3, 0]])
    features = torch.rand(7, 3)
    ours, theirs = BatchNorm(3), torch.nn.BatchNorm1d(3, affine=False)
    assert torch.equal(ours(features), theirs(features))
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_checkpointed_blocks_have_the_same_gradients_and_keep_no_keys() -> None:
    config = TransformerConfig(layers=2, width=16, heads=2, head_dim=8, feed_forward_width=16)
    transformer, features = SpatioTemporalTransformer(config, 4), torch.randn(3, 2, 5, 16)
    gradients = []
    for is_checkpointed in (False, True):
        for block in transformer.modules():
            if isinstance(block, Block):
                block.is_checkpointed = is_checkpointed
        transformer.zero_grad()
        out, keys_values = transformer(features)
        out.square().sum().backward()
        assert (keys_values[0] is None) == is_checkpointed
        gradients.append([parameter.grad.clone() for parameter in transformer.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    with torch.no_grad():
        assert transformer(features)[1][0] is not None
