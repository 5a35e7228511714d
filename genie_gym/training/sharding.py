"""A trainee on one process, replicated (DDP) or cut into shards (FSDP2), behind one interface."""

import contextlib
import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from genie_gym.configs import TrainConfig
from genie_gym.nn.st_transformer import Block
from genie_gym.training.distributed import Ranks


@dataclass(frozen=True)
class Engine:
    """What trains a module, whatever holds its weights."""

    module: nn.Module
    """module whose parameters are trained, on this rank whole or in part; names are those of the given module"""
    call: Callable[..., Any]
    """function from a batch, and the name of a method of the module if it is not ``loss``, to the method's result"""
    wait: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    """context of backward passes after which gradients are not yet averaged over ranks"""
    restore: Callable[[], None] = lambda: None
    """function that puts the trained weights, whole, into the given module; every rank has to call it"""


def parallelise(trainee: nn.Module, config: TrainConfig, ranks: Ranks, device: torch.device) -> Engine:
    """Return an engine that trains the module on these ranks as the config's ``sharding`` says.

    All ranks begin with the weights of the first one. With ``fsdp`` a sharded copy is trained, and the given module
    holds no weights until they are restored.

    Args:
        trainee: Module with a method ``loss``; ``forward(batch, method)`` has to call its methods.
        config: Config of the phase, with a precision in place of ``auto``.
        ranks: This rank and the number of them.
        device: Device to train on; weights of ``fsdp`` may be on the CPU still.
    """
    if ranks.size == 1:
        _prepare_blocks(trainee, config)
        return Engine(trainee, trainee)
    for tensor in trainee.state_dict().values():
        _broadcast(tensor, device)
    if config.sharding == "fsdp":
        return _shard(trainee, config, device)
    _prepare_blocks(trainee, config)
    # Some weights have no gradient, such as a hidden frame's embedding where frames are never hidden.
    options: dict[str, Any] = {"find_unused_parameters": True, "gradient_as_bucket_view": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch 2.13 has another name for the first option
        replica = DistributedDataParallel(trainee, broadcast_buffers=False, init_sync=False, **options)

    def call(batch: Any, method: str = "loss") -> Any:
        # DDP prepares every call for a backward pass, which only losses have.
        return replica(batch) if method == "loss" else trainee(batch, method)

    return Engine(trainee, call, replica.no_sync)


def _broadcast(tensor: Tensor, device: torch.device) -> None:
    """Set a tensor to that of the first rank, over the network of the device."""
    sent = tensor.detach().to(device).contiguous()
    dist.broadcast(sent, 0)
    tensor.copy_(sent)


def _prepare_blocks(module: nn.Module, config: TrainConfig) -> None:
    for block in module.modules():
        if isinstance(block, Block):
            block.is_checkpointed = config.checkpoint_blocks
    if config.compile:
        compile_blocks(module)


def compile_blocks(module: nn.Module) -> None:
    """Compile each transformer block in a module, for each shape by itself: kernels for any shape are slower."""
    for block in module.modules():
        if isinstance(block, Block):
            block.compile(dynamic=False)


def _shard(trainee: nn.Module, config: TrainConfig, device: torch.device) -> Engine:
    """Return an engine of a copy whose transformer blocks, and the rest of it, are sharded by FSDP2."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    # Blocks return views, and nothing writes into them, of which PyTorch warns.
    warnings.filterwarnings("ignore", r"FSDP2-wrapped module \(.*\) returned a view tensor")
    # The copy takes the weights over, so that they are never held twice.
    taken = {id(each): nn.Parameter(each.detach(), each.requires_grad) for each in trainee.parameters()}
    sharded = copy.deepcopy(trainee, taken)
    for parameter in trainee.parameters():
        parameter.data = parameter.data.new_empty(0)
    taken.clear()
    _prepare_blocks(sharded, config)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    is_half = config.precision == "bfloat16"
    policy = MixedPrecisionPolicy(torch.bfloat16 if is_half else None, torch.float32, cast_forward_inputs=False)
    for block in sharded.modules():
        if isinstance(block, Block):
            fully_shard(block, mesh=mesh, mp_policy=policy)
    # The rest is small, and some of it computes in float32 in any precision: it stays float32.
    fully_shard(sharded, mesh=mesh)
    sharded.to(device)  # buffers

    def restore() -> None:
        pairs = zip(trainee.parameters(), sharded.parameters(), strict=True)
        for whole, part in pairs:
            whole.data = whole_tensor(part.detach()).to(whole.device)
        for kept, buffer in zip(trainee.buffers(), sharded.buffers(), strict=True):
            kept.copy_(buffer)

    return Engine(sharded, sharded, restore=restore)


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor of which each rank may hold a part as a whole; every rank has to call this."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def fill_tensor(tensor: Tensor, whole: Tensor) -> None:
    """Copy a whole tensor, which every rank has, into one of which each rank may hold a part."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if isinstance(tensor, DTensor):
        placed = whole.to(tensor.device)
        tensor.copy_(distribute_tensor(placed, tensor.device_mesh, tensor.placements, src_data_rank=None))
    else:
        tensor.copy_(whole)


def zeros_like(parameter: Tensor) -> Tensor:
    """Return zeros of a parameter's shape, contiguous, of which each rank holds the part that it holds of that."""
    from torch.distributed.tensor import DTensor

    if isinstance(parameter, DTensor):
        return torch.zeros_like(parameter.detach())
    return torch.zeros(parameter.shape, dtype=parameter.dtype, device=parameter.device)
