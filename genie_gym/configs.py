"""All hyperparameters of genie-gym as frozen dataclasses; this module does not import torch.

"The paper" is arXiv 2402.15391. It does not state its feed-forward width: ``feed_forward_width`` fits parameter counts.
"""

import math
from dataclasses import dataclass
from typing import Literal

from genie_gym.checks import check_fields, require
from genie_gym.real_actions import RealActionConfig

Mode = Literal["easy", "hard"]
"""Procgen's distribution mode: how hard its levels are."""
PRECISIONS = ("auto", "float32", "bfloat16")
"""Precisions in which a world can be played and models can be trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerConfig:
    """A stack of transformer blocks over features (T, B, N, D): time, batch, tokens of a frame, features."""

    layers: int
    """number of blocks"""
    width: int
    """features per token, D"""
    heads: int
    """number of attention heads"""
    head_dim: int = 64
    """features per head of queries and keys (the paper's k/q size)"""
    value_dim: int | None = None
    """features per head of values; ``None`` takes ``head_dim``"""
    feed_forward_width: int
    """hidden features of the one feed-forward layer of a block"""
    attention: Literal["st", "spatial", "full", "conv"] = "st"
    """mixing between tokens. ``st``: spatial, then causal temporal attention (the paper); ``spatial``: frame by frame
    (ViT); ``full``: all tokens of this frame and the earlier ones at once (C-ViViT); ``conv``: no attention, and a
    feed-forward over 3 x 3 tokens of one frame (a residual network; tokenizer only)"""

    def __post_init__(self) -> None:
        sizes = "layers width heads head_dim value_dim feed_forward_width"
        check_fields(self, positive=sizes, multiples={"head_dim": 2})

    @property
    def value_head_dim(self) -> int:
        """Features per head of values."""
        return self.head_dim if self.value_dim is None else self.value_dim


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizerConfig:
    """The discrete bottleneck of the tokenizer or of the latent action model."""

    kind: Literal["vq", "fsq"] = "vq"
    """learned codebook with cosine distances (``vq``) or fixed grid (``fsq``, finite scalar quantization)"""
    codes: int
    """codebook size: K for tokens, A for latent actions"""
    dim: int = 32
    """features per code of a ``vq``; ignored for an ``fsq``, which has one feature per entry of ``levels``"""
    levels: tuple[int, ...] = ()
    """grid steps per feature (``fsq``) or sizes of codebooks over equal parts of the features (``vq``), of product K"""
    commitment_weight: float = 0.25
    """weight of the loss that pulls latents to their codes (not stated in the paper; VQ-VAE's 0.25)"""
    diversity_weight: float = 0.0
    """weight of ln K minus the entropy of a batch's soft code use (``vq``); keeps all of a few codes in use"""
    decay: float = 0.99
    """decay of the moving average that updates the codes (not stated in the paper)"""
    start_after: int = 0
    """number of training batches before the codebook is fitted (``vq``). Until then latents pass unquantized, a random
    half of them zeroed: the decoder learns to predict without them, and latents encode what it cannot predict"""
    restart_after: int = 20
    """number of consecutive training batches without use after which a code is replaced by a latent of the batch"""

    def __post_init__(self) -> None:
        weights = "commitment_weight diversity_weight start_after"
        check_fields(self, positive="dim restart_after", not_negative=weights, shares="decay")
        require(self.codes >= 2, "QuantizerConfig.codes", self.codes, "at least 2")
        if self.kind == "fsq" or self.levels:
            fits = min(self.levels, default=0) >= 2 and math.prod(self.levels) == self.codes
            require(fits, "QuantizerConfig.levels", self.levels, f"factors of {self.codes}, each 2 or more")
        parts = max(1, len(self.levels))
        fits = self.kind == "fsq" or self.dim % parts == 0
        require(fits, "QuantizerConfig.dim", self.dim, f"a multiple of the {parts} codebooks")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerConfig:
    """Video tokenizer, a VQ-VAE over spatio-temporal transformers (paper sec. 2.1, C.2)."""

    patch_size: int
    """side in pixels of the patch behind one token"""
    encoder: TransformerConfig
    """network from patches to latents"""
    decoder: TransformerConfig
    """network from codes to patches"""
    quantizer: QuantizerConfig
    """codebook of the tokens"""
    fold: int = 1
    """side in patches of the square folded into one position of the transformers to save compute; 1 in the paper"""

    def __post_init__(self) -> None:
        check_fields(self, positive="patch_size fold")


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerActionConfig:
    """The paper's latent action model: ST-transformers over patches or tokens (paper sec. 2.1, C.1)."""

    backbone: Literal["st"] = "st"
    """name of this backbone in JSON"""
    quantizer: QuantizerConfig
    """codebook of the latent actions, one code per transition"""
    inputs: Literal["pixels", "tokens"] = "pixels"
    """form in which frames are read and reconstructed: pixels (the paper) or the tokenizer's tokens (its table 2)"""
    patch_size: int = 16
    """side in pixels of a patch"""
    encoder: TransformerConfig
    """network from frames up to t + 1 to the latent of transition t"""
    decoder: TransformerConfig
    """network from frames and codes up to t to frame t + 1"""
    hidden_frames: float = 0.0
    """share of the decoder's frames after the first that are hidden in training, so that it needs the code"""

    def __post_init__(self) -> None:
        check_fields(self, positive="patch_size", shares="hidden_frames")
        for field in ("encoder", "decoder"):
            kind = getattr(self, field).attention
            require(kind != "conv", f"TransformerActionConfig.{field}.attention", kind, "st, spatial or full")


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvActionConfig:
    """A small convolutional latent action model: strided encoder, and a U-Net steered by the code as decoder."""

    backbone: Literal["conv"] = "conv"
    """name of this backbone in JSON"""
    quantizer: QuantizerConfig
    """codebook of the latent actions, one code per transition"""
    width: int = 32
    """channels at the finest scale, a multiple of 8"""
    history: int = 3
    """number of frames up to t that encoder and decoder see"""

    def __post_init__(self) -> None:
        check_fields(self, positive="width history", multiples={"width": 8})


@dataclass(frozen=True, kw_only=True, slots=True)
class MovingActionConfig:
    """A convolutional latent action model whose decoder moves the last frame: codes stand for changes of motion."""

    backbone: Literal["moving"] = "moving"
    """name of this backbone in JSON"""
    quantizer: QuantizerConfig
    """codebook of the latent actions, one code per transition; of two codebooks the first controls horizontal
    shifts and the agent's box, the second vertical shifts"""
    width: int = 32
    """channels at the finest scale, a multiple of 8"""
    history: int = 3
    """number of frames up to t that encoder and decoder see"""
    moves: int = 3
    """number of shifted copies of the last frame that the decoder mixes"""
    reach: int = 8
    """largest shift in pixels, vertically and horizontally"""
    border: int | Literal["find"] | None = None
    """pixels at the edge, where content is new, outside the loss; None for the reach, ``find`` for shifts in data"""
    agent_box: tuple[int, int, int, int] | Literal["find"] | None = None
    """box (top, left, height, width) in pixels where the camera keeps the agent; ``find`` looks for it in the data.
    The decoder sees it averaged with its mirror image, which hides where the agent faces: the code has to carry it"""
    agent_weight: float = 1.0
    """weight of the error inside the ``agent_box`` relative to that of the whole frame"""
    merged_actions: int = 0
    """number of latent actions into which ``merging`` merges after training; 0 if each code is one"""
    merging: Literal["codes", "latents"] = "codes"
    """what is merged: codes that follow one another, or similar latents, whatever codes they have"""

    def __post_init__(self) -> None:
        sizes = "agent_weight merged_actions"
        check_fields(self, positive="width history moves reach", not_negative=sizes, multiples={"width": 8})
        merged, codes = self.merged_actions, self.quantizer.codes
        require(merged <= codes, "MovingActionConfig.merged_actions", merged, f"at most the {codes} codes")
        is_valid = merged > 0 or self.merging == "codes"
        require(is_valid, "MovingActionConfig.merged_actions", merged, "positive to merge latents")
        fits = self.border in (None, "find", *range(self.reach + 1))
        require(fits, "MovingActionConfig.border", self.border, f"None, 'find' or pixels up to {self.reach}")
        box = self.agent_box
        if isinstance(box, tuple):
            fits = len(box) == 4 and all(isinstance(each, int) for each in box) and min(box[:2]) >= 0 < min(box[2:])
        else:
            fits = box in (None, "find")
        require(fits, "MovingActionConfig.agent_box", box, "None, 'find' or (top, left, height, width) in pixels")


LatentActionConfig = TransformerActionConfig | ConvActionConfig | MovingActionConfig
"""Latent action model, a VQ-VAE over transitions: one config per backbone, distinguished by ``backbone`` in JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DynamicsConfig:
    """MaskGIT dynamics model (paper sec. 2.1, C.3)."""

    transformer: TransformerConfig
    """network from tokens and latent actions to logits"""
    action_conditioning: Literal["additive", "token", "film"] = "additive"
    """conditioning on latent actions. ``additive``: an embedding added to every token of the frame that the action
    leads to (the paper); ``token``: one more token in that frame; ``film``: a scale and shift in every block"""
    min_mask_ratio: float = 0.5
    """lower bound of the mask ratio in training, which is uniform up to 1"""
    mask_ratio_per: Literal["sample", "frame"] = "sample"
    """unit that shares one mask ratio: a whole video (the paper) or each of its frames"""
    clean_frames: float = 0.0
    """share of training frames left wholly visible, as past frames are in play (needs ``mask_ratio_per`` frame)"""
    context_corruption: float = 0.0
    """largest share of visible tokens made random in training against drift; drawn per video, grows over its frames"""
    pasted_context: float = 0.0
    """share of training videos in which a rectangle of visible tokens is that of another video for some frames"""
    own_context: float = 0.0
    """share of training videos in which some visible frames are the model's own predictions"""
    fold: int = 1
    """side in tokens of the square folded into one position of the transformer to save compute; 1 in the paper"""

    def __post_init__(self) -> None:
        shares = "min_mask_ratio clean_frames context_corruption pasted_context own_context"
        check_fields(self, positive="fold", shares=shares)
        width, attention = self.transformer.width, self.transformer.attention
        require(width % self.fold == 0, "DynamicsConfig.fold", self.fold, f"a divisor of the width {width}")
        require(attention == "st", "DynamicsConfig.transformer.attention", attention, "st")


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How a new frame's tokens are sampled (paper sec. 2.2, C.3)."""

    maskgit_steps: int = 25
    """number of MaskGIT steps per frame"""
    temperature: float = 1.0
    """sampling temperature of the tokens; 2 in the paper, 1 in its CoinRun case study, 0.5 in the shipped world"""
    schedule: Literal["cosine", "linear"] = "cosine"
    """schedule of the share of tokens still hidden after each step (not stated in the paper; MaskGIT's cosine)"""
    order: Literal["confidence", "random"] = "confidence"
    """order in which sampled tokens are kept: most confident ones first, or random"""
    choice_temperature: float = 1.0
    """scale of the noise added to confidences, annealed to 0 over the steps; MaskGIT uses 4.5 for images"""

    def __post_init__(self) -> None:
        check_fields(self, positive="maskgit_steps temperature", not_negative="choice_temperature")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldConfig:
    """The three models of a world and its sampling settings; stored inside the checkpoint."""

    height: int = 64
    """frame height in pixels; inside the models frames are padded to whole patches and folds"""
    width: int = 64
    """frame width in pixels"""
    fps: float | None = None
    """frames a second of the training videos and of play; ``None`` takes every frame of a file, and plays 10 of them"""
    context_length: int = 16
    """number of frames that temporal attention sees, in training and in play"""
    tokenizer: TokenizerConfig
    """video tokenizer, trained first"""
    latent_action_model: LatentActionConfig | RealActionConfig
    """latent action model; its class selects the backbone, or real actions in its place"""
    dynamics: DynamicsConfig
    """dynamics model over tokens and latent actions"""
    sampling: SamplingConfig = SamplingConfig()
    """default sampling settings in play"""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """floating-point format in play; ``auto`` picks the fastest one of the device"""
    action_names: tuple[str, ...] = ()
    """human-readable name of each latent action; empty if nobody has named them"""

    def __post_init__(self) -> None:
        check_fields(self, positive="height width fps context_length")
        part = self.latent_action_model
        for side in ("height", "width"):
            value = getattr(self, side)
            if isinstance(part, ConvActionConfig | MovingActionConfig):
                require(value >= 16, f"WorldConfig.{side}", value, "16 or more for convolutional latent actions")
            if isinstance(part, MovingActionConfig):
                require(2 * part.reach < value, "MovingActionConfig.reach", part.reach, f"less than half of {value}")
                if isinstance(part.agent_box, tuple):
                    start, length = part.agent_box[side == "width" :: 2]
                    require(start + length <= value, "MovingActionConfig.agent_box", part.agent_box, f"within {value}")
        names, actions = self.action_names, self.num_latent_actions
        is_valid = not names or (len(set(names)) == len(names) == actions and all(n and n.isprintable() for n in names))
        require(is_valid, "WorldConfig.action_names", names, f"{actions} different, printable texts")

    @property
    def cell(self) -> int:
        """Side in pixels of the squares of whole patches and folds that frames are padded to."""
        return self.tokenizer.patch_size * math.lcm(self.tokenizer.fold, self.dynamics.fold)

    @property
    def grid(self) -> tuple[int, int]:
        """Token rows and columns of a padded frame."""
        per_cell = self.cell // self.tokenizer.patch_size
        return -(-self.height // self.cell) * per_cell, -(-self.width // self.cell) * per_cell

    @property
    def tokens_per_frame(self) -> int:
        """Number of tokens per frame, N."""
        return self.grid[0] * self.grid[1]

    @property
    def num_latent_actions(self) -> int:
        """Number of latent actions, A, or of the real ones in their place."""
        if isinstance(part := self.latent_action_model, RealActionConfig):
            return part.actions
        return (part.merged_actions if isinstance(part, MovingActionConfig) else 0) or part.quantizer.codes


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """An optimiser and its learning-rate schedule."""

    kind: Literal["adamw", "muon", "muon-conv"] = "adamw"
    """optimiser of the weight matrices. ``muon``: Muon for linear layers, AdamW for the rest; ``muon-conv``: Muon for
    convolution kernels too, each as a matrix of (out, in x rows x columns)"""
    learning_rate: float = 3e-4
    """peak learning rate"""
    final_learning_rate: float = 3e-4
    """learning rate at the last step of ``cosine`` and ``wsd``"""
    schedule: Literal["constant", "cosine", "wsd"] = "constant"
    """learning rate after warm-up: constant, half a cosine, or (``wsd``) constant, then linear in the last fifth"""
    warmup_steps: int = 1000
    """number of steps over which the learning rate rises linearly from zero"""
    betas: tuple[float, float] = (0.9, 0.9)
    """decay rates of Adam's moments (the paper's 0.9 and 0.9)"""
    weight_decay: float = 1e-4
    """decoupled weight decay, on matrices and kernels only"""
    clip_norm: float = 1.0
    """largest gradient norm of each model"""

    def __post_init__(self) -> None:
        rates = "learning_rate final_learning_rate clip_norm"
        check_fields(self, positive=rates, not_negative="warmup_steps weight_decay", shares="betas")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One phase of training."""

    train_steps: int
    """number of training batches"""
    batch_size: int
    """number of clips per batch"""
    clip_length: int = 16
    """number of frames per clip"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """optimiser and learning-rate schedule"""
    precision: Literal["auto", "float32", "bfloat16"] = "bfloat16"
    """floating-point format of features; ``auto``: the one in which a step is fastest, which a resumed run keeps"""
    compile: bool = False
    """whether to ``torch.compile`` the transformers, block by block"""
    accumulate: int = 1
    """number of parts of a batch, computed one by one to save memory; codebooks and norms take each for a batch"""
    sharding: Literal["ddp", "fsdp"] = "ddp"
    """share of each process: the whole model, or (``fsdp``, AdamW only) a part, gathered block by block; no pictures"""
    checkpoint_blocks: bool = False
    """whether to keep only each transformer block's input for the backward pass: less memory, a third more work"""
    seed: int = 0
    """seed of batches, masks and noise; with the step it decides all randomness"""
    checkpoint_every: int = 200
    """number of steps between resumable checkpoints"""
    log_every: int = 10
    """number of steps between TensorBoard scalars"""
    picture_every: int = 200
    """number of steps between TensorBoard picture grids; 0 for none"""

    def __post_init__(self) -> None:
        counts = "train_steps batch_size clip_length checkpoint_every log_every accumulate"
        check_fields(self, positive=counts, not_negative="seed picture_every")
        size, kind = self.batch_size, self.optimizer.kind
        require(size % self.accumulate == 0, "TrainConfig.accumulate", self.accumulate, f"a divisor of {size} clips")
        fits = self.sharding == "ddp" or kind == "adamw"
        require(fits, "TrainConfig.sharding", self.sharding, f"ddp with {kind}, which needs whole matrices")


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """A world and its training phases, each with clips of its own length."""

    world: WorldConfig
    """the world to train"""
    tokenizer_training: TrainConfig
    """first phase, the tokenizer alone"""
    action_training: TrainConfig | None = None
    """second phase, the latent action model alone, then frozen; ``None`` (the paper) trains it with the dynamics"""
    world_training: TrainConfig
    """last phase, the dynamics and, unless it has its own phase, the latent action model"""

    def __post_init__(self) -> None:
        for phase in ("action_training", "world_training"):
            length = getattr(getattr(self, phase), "clip_length", 2)
            require(length >= 2, f"Preset.{phase}.clip_length", length, "at least 2, to hold a transition")
        part, own = self.world.latent_action_model, self.action_training
        if getattr(part, "inputs", "pixels") == "tokens" or isinstance(part, RealActionConfig):
            require(own is None, "Preset.action_training", own, "None if latent actions come from tokens or are real")
