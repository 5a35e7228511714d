"""Play one of the other projects for ``experiments.peers.time_peers``, with its own modules and random weights.

    PYTHONPATH=CHECKOUT python peer_player.py NAME SIZES

Questions and answers are lines of JSON on standard input and output. It imports nothing of this project.
"""

import importlib
import inspect
import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any

_BINS = 4
"""Values of each feature of tinyworlds' codes: five features have 1,024 codes."""
_LATENT_DIM = 32

_Sizes = dict[str, int]
_Frame = Callable[[], object]


def build_tinyworlds(sizes: _Sizes) -> tuple[_Frame, int]:
    """Return a function that generates the next frame of every row, and the number of parameters."""
    torch, tokenizers, models = (
        importlib.import_module(name) for name in ("torch", "models.video_tokenizer", "models.dynamics")
    )
    features, shape = round(math.log(sizes["codes"], _BINS)), (sizes["side"], sizes["side"])
    tokenizer = tokenizers.VideoTokenizer(
        frame_size=shape,
        patch_size=sizes["patch_size"],
        embed_dim=sizes["tokenizer_width"],
        num_heads=sizes["tokenizer_heads"],
        hidden_dim=sizes["tokenizer_feed_forward_width"],
        num_blocks=sizes["tokenizer_layers"],
        latent_dim=features,
        num_bins=_BINS,
    ).eval()
    action_dim = max(1, round(math.log2(sizes["latent_actions"])))
    dynamics = models.DynamicsModel(
        frame_size=shape,
        patch_size=sizes["patch_size"],
        embed_dim=sizes["width"],
        num_heads=sizes["heads"],
        hidden_dim=sizes["feed_forward_width"],
        num_blocks=sizes["layers"],
        num_bins=_BINS,
        n_actions=sizes["latent_actions"],
        conditioning_dim=action_dim,
        latent_dim=features,
    ).eval()
    videos = 2 * torch.rand(sizes["rows"], sizes["context"], 3, *shape) - 1
    actions = torch.sign(torch.randn(sizes["rows"], sizes["context"], action_dim))

    def generate() -> None:
        with torch.no_grad():
            codes = tokenizer.quantizer.get_latents_from_indices(tokenizer.tokenize(videos))
            latents = dynamics.forward_inference(
                context_latents=codes,
                prediction_horizon=1,
                num_steps=sizes["maskgit_steps"],
                index_to_latents_fn=lambda index: tokenizer.quantizer.get_latents_from_indices(index, dim=-1),
                conditioning=actions,
                temperature=1.0,
            )
            tokenizer.detokenize(latents)

    return generate, sum(each.numel() for model in (tokenizer, dynamics) for each in model.parameters())


def build_jafar(sizes: _Sizes) -> tuple[_Frame, int]:
    """Return a function that generates the next frame of every row, compiled, and the number of parameters."""
    jax, genie = (importlib.import_module(name) for name in ("jax", "genie"))
    model = genie.Genie(**_choose(genie.Genie, _name_sizes(sizes)))
    videos = jax.numpy.zeros((sizes["rows"], sizes["context"], sizes["side"], sizes["side"], 3), jax.numpy.float32)
    actions = jax.numpy.zeros((sizes["rows"], sizes["context"], 1), int)
    rng = jax.random.PRNGKey(0)
    weights = model.init(rng, {"videos": videos, "mask_rng": rng})

    @jax.jit
    def generate(weights: Any, rng: Any) -> Any:
        batch = {"videos": videos, "latent_actions": actions, "rng": rng}
        return model.apply(weights, batch, sizes["maskgit_steps"], 1.0, False, method=genie.Genie.sample)

    parameters = sum(each.size for each in jax.tree_util.tree_leaves(weights))
    return lambda: jax.block_until_ready(generate(weights, rng)), parameters


def build_jasmine(sizes: _Sizes) -> tuple[_Frame, int]:
    """Return a function that generates the next frame of every row, compiled, and the number of parameters."""
    jax, nnx, genie = (importlib.import_module(name) for name in ("jax", "flax.nnx", "jasmine.models.genie"))
    values = {**_name_sizes(sizes), "rngs": nnx.Rngs(0), "param_dtype": jax.numpy.float32}
    values |= {"dtype": jax.numpy.bfloat16, "dyna_type": "maskgit", "use_flash_attention": False, "decode": False}
    model = genie.GenieMaskGIT(**_choose(genie.GenieMaskGIT, values))
    videos = jax.numpy.zeros((sizes["rows"], sizes["context"], sizes["side"], sizes["side"], 3), jax.numpy.bfloat16)
    actions, frames = jax.numpy.zeros(sizes["rows"] * sizes["context"], int), sizes["context"] + 1

    @nnx.jit
    def generate(model: Any, rng: Any) -> Any:
        batch = {"videos": videos, "latent_actions": actions, "rng": rng}
        return model.sample(batch, frames, 1.0, False, sizes["maskgit_steps"])

    parameters = sum(each.size for each in jax.tree_util.tree_leaves(nnx.state(model, nnx.Param)))
    return lambda: jax.block_until_ready(generate(model, jax.random.key(0))), parameters


def _name_sizes(sizes: _Sizes) -> dict[str, Any]:
    """Return the arguments of Jafar's and Jasmine's models; their latent action models do not play."""
    stack = {"dim": "width", "ffn_dim": "feed_forward_width", "num_blocks": "layers", "num_heads": "heads"}
    named: dict[str, Any] = {}
    for part, own in (("tokenizer", "tokenizer_"), ("lam", "tokenizer_"), ("dyna", "")):
        named |= {f"{part}_{theirs}": sizes[own + ours] for theirs, ours in stack.items()}
    named |= {"patch_size": sizes["patch_size"], "lam_patch_size": sizes["patch_size"], "in_dim": 3}
    named |= {"num_latent_actions": sizes["latent_actions"], "num_actions": sizes["latent_actions"]}
    named |= {"latent_patch_dim": _LATENT_DIM, "latent_action_dim": _LATENT_DIM, "num_patch_latents": sizes["codes"]}
    named |= {"tokenizer_type": "vqvae", "use_gt_actions": False, "lam_co_train": False}
    return {**named, "dropout": 0.0, "mask_limit": 0.5}


def _choose(model: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that a model takes: its versions differ."""
    return {name: value for name, value in values.items() if name in inspect.signature(model).parameters}


def main() -> None:
    """Answer questions until standard input ends."""
    builders = {"tinyworlds": build_tinyworlds, "jafar": build_jafar, "jasmine": build_jasmine}
    sizes = json.loads(sys.argv[2])
    generate, parameters = builders[sys.argv[1]](sizes)
    generate()
    for line in sys.stdin:
        question, found = json.loads(line), {"parameters": parameters}
        if "seconds" in question:
            generate()
            began, processor, calls = time.perf_counter(), time.process_time(), 0
            while calls == 0 or time.perf_counter() - began < question["seconds"]:
                generate()
                calls += 1
            frames, spent = calls * sizes["rows"], time.process_time() - processor
            found = {"cpu_ms": 1e3 * spent / frames, "fps": frames / (time.perf_counter() - began)}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
