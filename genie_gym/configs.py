"""Every hyperparameter of genie-gym: frozen dataclasses, and the presets built from them.

Configs import no torch. ``__post_init__`` only validates; what follows from other fields is a property.
Presets name the part of "Genie: Generative Interactive Environments" (arXiv 2402.15391) they come from.
The paper never states its feed-forward width; ``feed_forward_width`` is fitted to its parameter counts.
"""

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Config = TypeVar("Config")
Mode = Literal["easy", "hard"]
"""Procgen's distribution mode: how hard its levels are."""

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
"""What a world can be played in."""


def _require(claim: bool, field: str, value: object, rule: str) -> None:
    if not claim:
        raise ValueError(f"{field} must be {rule}, got {value!r}")


def _require_positive(config: object, *fields: str) -> None:
    for field in fields:
        value = getattr(config, field)
        _require(value > 0, f"{type(config).__name__}.{field}", value, "positive")


def _require_share(config: object, *fields: str) -> None:
    for field in fields:
        value = getattr(config, field)
        _require(0 <= value <= 1, f"{type(config).__name__}.{field}", value, "in [0, 1]")


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerConfig:
    """A stack of blocks over (B, T, N, D) features."""

    layers: int
    """Blocks."""
    width: int
    """Features a token, D."""
    heads: int
    """Attention heads."""
    head_dim: int = 64
    """Features a head of queries and keys (the paper's k/q size)."""
    value_dim: int | None = None
    """Features a head of values; ``None`` takes ``head_dim``."""
    feed_forward_width: int
    """Hidden features of the one feed-forward of a block."""
    attention: Literal["st", "spatial", "full", "conv"] = "st"
    """``st``: space, then causal time (the paper); ``spatial``: frame by frame (ViT); ``full``: all tokens
    of this frame and the earlier ones at once (C-ViViT); ``conv``: none, and a feed-forward that sees a token's
    eight neighbours beside it, frame by frame (a residual network; tokenizer only)."""

    def __post_init__(self) -> None:
        _require_positive(self, "layers", "width", "heads", "head_dim", "feed_forward_width")
        _require(self.head_dim % 2 == 0, "TransformerConfig.head_dim", self.head_dim, "even")
        _require(self.value_head_dim > 0, "TransformerConfig.value_dim", self.value_dim, "positive")
        known = ("st", "spatial", "full", "conv")
        _require(self.attention in known, "attention", self.attention, f"one of {known}")

    @property
    def value_head_dim(self) -> int:
        return self.head_dim if self.value_dim is None else self.value_dim


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizerConfig:
    """The discrete bottleneck."""

    kind: Literal["vq", "fsq"] = "vq"
    """``vq``: learned codebook with cosine distances; ``fsq``: a fixed grid (finite scalar quantization)."""
    codes: int
    """Codebook size, K."""
    dim: int = 32
    """Features a code; under ``fsq`` the number of levels decides."""
    levels: tuple[int, ...] = ()
    """``fsq``: grid steps per feature; ``vq``: where given, codes of each of several codebooks over equal parts of the
    features. Their product is ``codes``."""
    commitment_weight: float = 0.25
    """Weight of the loss that pulls latents to their codes (not stated in the paper; VQ-VAE's 0.25)."""
    diversity_weight: float = 0.0
    """``vq``: weight of ln K minus the entropy of a batch's soft code use; keeps a small codebook alive."""
    decay: float = 0.99
    """Moving average of the codes; the paper states none."""
    start_after: int = 0
    """``vq``: training batches before the codes start. Until then latents go on as they are, half of them hidden, so
    that they learn to say what a decoder cannot know, before they are clustered."""
    restart_after: int = 20
    """Training batches without use after which a code restarts from a latent of the batch."""

    def __post_init__(self) -> None:
        _require(self.kind in ("vq", "fsq"), "QuantizerConfig.kind", self.kind, "vq or fsq")
        _require(self.codes >= 2, "QuantizerConfig.codes", self.codes, "at least 2")
        _require_positive(self, "dim", "restart_after")
        for field in ("commitment_weight", "diversity_weight", "start_after"):
            value = getattr(self, field)
            _require(value >= 0, f"QuantizerConfig.{field}", value, "0 or more")
        _require_share(self, "decay")
        if self.kind == "fsq" or self.levels:
            _require(all(level >= 2 for level in self.levels), "QuantizerConfig.levels", self.levels, "2 or more each")
            is_product = math.prod(self.levels) == self.codes
            _require(is_product, "QuantizerConfig.levels", self.levels, f"a product of {self.codes}")
        if self.kind == "vq" and self.levels:
            parts = len(self.levels)
            _require(self.dim % parts == 0, "QuantizerConfig.dim", self.dim, f"a multiple of the {parts} codebooks")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerConfig:
    """Video tokenizer, a VQ-VAE over spatio-temporal transformers (paper sec. 2.1, C.2)."""

    patch_size: int
    """Pixels a side of the patch behind one token."""
    encoder: TransformerConfig
    """Patches to latents."""
    decoder: TransformerConfig
    """Codes to patches."""
    quantizer: QuantizerConfig
    """One code a patch."""
    fold: int = 1
    """Patches a side of the square that shares one place of the transformers; 1 gives each its own (the paper).
    With 2 four times the tokens cost as much as one."""

    def __post_init__(self) -> None:
        _require_positive(self, "patch_size", "fold")


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentActionConfig:
    """Latent action model, a VQ-VAE over transitions (paper sec. 2.1, C.1)."""

    backbone: Literal["st", "conv"] = "st"
    """``st``: the paper's transformers; ``conv``: a small strided encoder and U-Net, alive in seconds."""
    inputs: Literal["pixels", "tokens"] = "pixels"
    """What the ``st`` backbone reads and rebuilds: pixels (the paper) or token embeddings (table 2)."""
    quantizer: QuantizerConfig
    """One code a transition; ``codes`` is A, the number of latent actions."""
    patch_size: int = 16
    """``st``: pixels a side of a patch."""
    encoder: TransformerConfig | None = None
    """``st``: frames up to t + 1 to a latent."""
    decoder: TransformerConfig | None = None
    """``st``: frames up to t and codes to frame t + 1."""
    hidden_frames: float = 0.0
    """``st``: share of the decoder's frames after the first that are hidden in training, so that it needs
    the code."""
    width: int = 32
    """``conv``: channels at the finest scale."""
    history: int = 3
    """``conv``: frames up to t that encoder and decoder see."""
    error_unit: Literal["batch", "transition", "log"] = "batch"
    """On pixels, the squared error counts in units of that of copying: of the whole batch, so that fast
    transitions weigh most, or of each transition itself; ``log``: each transition's error by its logarithm, as if
    each had a noise of its own, so that what is told well already is worth telling better."""
    horizon: int = 1
    """On pixels, frames after t that the decoder rebuilds from frames up to t and the one code: 1 in the paper.
    An action is an acceleration, and shows the more, the later one looks; labels still hang on the next frame alone."""
    moves: int = 0
    """``conv``: ways in which the decoder can move the frame. With 1 or more the code says how things move and
    nothing else, unless there is a ``centre``: it is not spent on looks. With 0 it steers a U-Net that paints."""
    reach: int = 8
    """``conv`` with ``moves``: pixels that a frame moves at most, along rows and along columns."""
    accelerates: bool = False
    """``conv`` with ``moves``: whether the code's shifts are added to those that the past motion tells, and all else
    outside the ``centre`` is the past's, so that a code says what changes of the motion, the same whatever moved
    before; else the two tell the shifts together. Where the quantizer has two codebooks, the first one's code says what
    changes along columns, and paints the centre, and the second one's what changes along rows."""
    error_margin: int = 0
    """On pixels, width of a border whose error does not count: what scrolls in there no past tells."""
    centre: int = 0
    """``conv`` with ``moves``: side in pixels of the square in the middle of the frame where a camera that follows its
    player keeps it, and the decoder is shown little, so that the code has to tell the player's pose, and not what
    changed of it: which key is held shows in the pose before it shows in any motion."""
    centre_shown: Literal["first", "mirrored"] = "first"
    """What the decoder is shown there: the clip's first frame throughout, or each frame as the mean of itself and its
    mirror image, which tells everything but which way the player faces."""
    centre_weight: float = 1.0
    """How much the error in that square counts, where 1 is as much as that of the frame."""

    def __post_init__(self) -> None:
        _require(self.backbone in ("st", "conv"), "LatentActionConfig.backbone", self.backbone, "st or conv")
        _require(self.inputs in ("pixels", "tokens"), "LatentActionConfig.inputs", self.inputs, "pixels or tokens")
        unit = self.error_unit
        units = ("batch", "transition", "log")
        _require(unit in units, "LatentActionConfig.error_unit", unit, f"one of {units}")
        _require_positive(self, "patch_size", "width", "history", "horizon", "reach")
        for field in ("moves", "error_margin", "centre", "centre_weight"):
            value = getattr(self, field)
            _require(value >= 0, f"LatentActionConfig.{field}", value, "0 or more")
        _require(self.centre % 2 == 0, "LatentActionConfig.centre", self.centre, "even")
        _require(self.moves > 0 or self.centre == 0, "LatentActionConfig.centre", self.centre, "0 without moves")
        accelerates = self.accelerates
        _require(
            self.moves > 0 or not accelerates, "LatentActionConfig.accelerates", accelerates, "false without moves"
        )
        shown, ways = self.centre_shown, ("first", "mirrored")
        _require(shown in ways, "LatentActionConfig.centre_shown", shown, f"one of {ways}")
        _require_share(self, "hidden_frames")
        if self.inputs == "tokens":
            _require(self.horizon == 1, "LatentActionConfig.horizon", self.horizon, "1 where inputs are tokens")
            margin = self.error_margin
            _require(margin == 0, "LatentActionConfig.error_margin", margin, "0 where inputs are tokens")
        if self.moves:
            _require(self.horizon == 1, "LatentActionConfig.horizon", self.horizon, "1 where the decoder moves")
        if self.backbone == "st":
            _require(self.moves == 0, "LatentActionConfig.moves", self.moves, "0 for the st backbone")
            for field in ("encoder", "decoder"):
                value = getattr(self, field)
                _require(value is not None, f"LatentActionConfig.{field}", value, "given for the st backbone")
                kind = value.attention
                _require(kind != "conv", f"LatentActionConfig.{field}.attention", kind, "st, spatial or full")
        else:
            _require(self.inputs == "pixels", "LatentActionConfig.inputs", self.inputs, "pixels for conv")
            _require(self.width % 8 == 0, "LatentActionConfig.width", self.width, "a multiple of 8 for conv")


@dataclass(frozen=True, kw_only=True, slots=True)
class DynamicsConfig:
    """MaskGIT dynamics model (paper sec. 2.1, C.3)."""

    transformer: TransformerConfig
    """Tokens and latent actions to logits."""
    action_conditioning: Literal["additive", "token", "film"] = "additive"
    """``additive``: an embedding added to every token of the frame the action leads to (the paper);
    ``token``: one more token in that frame; ``film``: a scale and shift in every block."""
    min_mask_ratio: float = 0.5
    """Mask ratios are drawn from U(min_mask_ratio, 1)."""
    mask_ratio_per: Literal["sample", "frame"] = "sample"
    """One ratio for a whole video (the paper) or for each of its frames."""
    clean_frames: float = 0.0
    """Share of frames left wholly visible, as past frames are when the world is played (``frame`` only)."""
    context_corruption: float = 0.0
    """Largest share of visible tokens replaced by random ones in training, drawn for each video and growing
    over its frames; against drift."""
    fold: int = 1
    """Tokens a side of the square that shares one place of the transformer; 1 gives each its own (the paper)."""

    def __post_init__(self) -> None:
        _require_positive(self, "fold")
        width, side = self.transformer.width, self.fold
        _require(width % side == 0, "DynamicsConfig.fold", side, f"a divisor of the width {width}")
        known = ("additive", "token", "film")
        _require(self.action_conditioning in known, "action_conditioning", self.action_conditioning, f"one of {known}")
        _require(self.mask_ratio_per in ("sample", "frame"), "mask_ratio_per", self.mask_ratio_per, "sample or frame")
        _require_share(self, "min_mask_ratio", "clean_frames", "context_corruption")
        full = self.transformer.attention == "st"
        _require(full, "DynamicsConfig.transformer.attention", self.transformer.attention, "st")


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How a new frame's tokens are drawn (paper sec. 2.2, C.3)."""

    maskgit_steps: int = 25
    """Passes of the dynamics a frame."""
    temperature: float = 1.0
    """Divides the logits; 2 in the paper, 1 on CoinRun."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """Share of tokens still hidden after each pass (not stated in the paper; MaskGIT's cosine)."""
    order: Literal["confidence", "random"] = "confidence"
    """Which tokens are kept first."""
    choice_temperature: float = 1.0
    """Noise in the order by confidence, fading over the passes; MaskGIT's 4.5 for images."""

    def __post_init__(self) -> None:
        _require_positive(self, "maskgit_steps", "temperature")
        _require(isinstance(self.maskgit_steps, int), "SamplingConfig.maskgit_steps", self.maskgit_steps, "an int")
        _require(self.schedule in ("cosine", "linear"), "SamplingConfig.schedule", self.schedule, "cosine or linear")
        _require(self.order in ("confidence", "random"), "SamplingConfig.order", self.order, "confidence or random")
        noise = self.choice_temperature
        _require(noise >= 0, "SamplingConfig.choice_temperature", noise, "0 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldConfig:
    """The three models of a world and how it is sampled. Travels inside the checkpoint."""

    height: int = 64
    """Pixels."""
    width: int = 64
    """Pixels."""
    context_length: int = 16
    """Frames that temporal attention sees, in training and when played."""
    tokenizer: TokenizerConfig
    latent_action_model: LatentActionConfig
    dynamics: DynamicsConfig
    sampling: SamplingConfig = SamplingConfig()
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    """What the world computes in when it is played; ``auto``: what the device is fastest in."""
    action_names: tuple[str, ...] = ()
    """What a person calls each latent action; empty where nobody has named them."""

    def __post_init__(self) -> None:
        _require_positive(self, "height", "width", "context_length")
        for side in ("height", "width"):
            value, patch = getattr(self, side), self.tokenizer.patch_size
            _require(value % patch == 0, f"WorldConfig.{side}", value, f"a multiple of the patch size {patch}")
            margin = self.latent_action_model.error_margin
            _require(2 * margin < value, "LatentActionConfig.error_margin", margin, f"less than half of {value}")
            centre = self.latent_action_model.centre
            _require(centre <= value, "LatentActionConfig.centre", centre, f"no more than {value}")
            if self.latent_action_model.backbone == "conv":
                _require(value % 8 == 0 and value >= 16, f"WorldConfig.{side}", value, "16, 24, 32, .. for conv")
        _require(self.precision in PRECISIONS, "WorldConfig.precision", self.precision, f"one of {PRECISIONS}")
        names = self.action_names
        if names:
            texts = isinstance(names, tuple) and all(isinstance(name, str) and name for name in names)
            _require(
                texts and len(names) == self.num_latent_actions,
                "WorldConfig.action_names",
                names,
                f"{self.num_latent_actions} texts",
            )
            _require(len(set(names)) == len(names), "WorldConfig.action_names", names, "each another")
        for part in (self.tokenizer, self.dynamics):
            fits = not any(count % part.fold for count in self.grid)
            _require(fits, f"{type(part).__name__}.fold", part.fold, f"a divisor of the grid {self.grid}")

    @property
    def grid(self) -> tuple[int, int]:
        """Token rows and columns of a frame."""
        return self.height // self.tokenizer.patch_size, self.width // self.tokenizer.patch_size

    @property
    def tokens_per_frame(self) -> int:
        """N."""
        return self.grid[0] * self.grid[1]

    @property
    def num_latent_actions(self) -> int:
        """A."""
        return self.latent_action_model.quantizer.codes


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """An optimiser and its learning-rate schedule."""

    kind: Literal["adamw", "muon", "muon-conv"] = "adamw"
    """``muon``: the weights of linear layers by their orthogonalised momentum, the rest by AdamW; ``muon-conv``: those
    of convolutions too, each kernel a matrix of (out, in x rows x columns)."""
    learning_rate: float = 3e-4
    """Peak."""
    final_learning_rate: float = 3e-4
    """At the last step of ``cosine`` and ``wsd``."""
    schedule: Literal["constant", "cosine", "wsd"] = "constant"
    """After warm-up: flat, half a cosine, or flat and then linear over the last fifth."""
    warmup_steps: int = 1000
    """Linear from zero."""
    betas: tuple[float, float] = (0.9, 0.9)
    """The paper's .9 .9."""
    weight_decay: float = 1e-4
    """On matrices only."""
    clip_norm: float = 1.0
    """Largest gradient norm."""

    def __post_init__(self) -> None:
        _require_positive(self, "learning_rate", "final_learning_rate", "clip_norm")
        kinds = ("adamw", "muon", "muon-conv")
        _require(self.kind in kinds, "OptimizerConfig.kind", self.kind, f"one of {kinds}")
        known = ("constant", "cosine", "wsd")
        _require(self.schedule in known, "OptimizerConfig.schedule", self.schedule, f"one of {known}")
        _require(self.warmup_steps >= 0, "OptimizerConfig.warmup_steps", self.warmup_steps, "0 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One phase of training."""

    train_steps: int
    """Batches."""
    batch_size: int
    """Clips a batch."""
    clip_length: int = 16
    """Frames a clip."""
    optimizer: OptimizerConfig = OptimizerConfig()
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Weights stay float32; features are computed in this."""
    compile: bool = False
    """``torch.compile`` the loss."""
    seed: int = 0
    """Of batches, masks and noise; with the step it decides everything."""
    checkpoint_every: int = 200
    """Steps between resumable checkpoints."""
    log_every: int = 10
    """Steps between TensorBoard scalars."""
    picture_every: int = 200
    """Steps between TensorBoard picture grids; 0 for none."""

    def __post_init__(self) -> None:
        _require_positive(self, "train_steps", "batch_size", "checkpoint_every", "log_every")
        _require(self.clip_length >= 1, "TrainConfig.clip_length", self.clip_length, "at least 1")
        known = ("float32", "bfloat16")
        _require(self.precision in known, "TrainConfig.precision", self.precision, f"one of {known}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordConfig:
    """A recording of Procgen games."""

    game: str = "coinrun"
    """Any of Procgen's 16 games."""
    mode: Mode = "hard"
    """Procgen's distribution mode."""
    frames: int = 100_000
    """Frames in all."""
    num_envs: int = 64
    """Games played at once."""
    start_level: int = 0
    """First level seed."""
    num_levels: int = 10_000
    """Level seeds; 0 means without end."""
    frames_per_shard: int = 65_536
    """Frames a file."""
    seed: int = 0
    """Of the order of levels and of the players."""

    def __post_init__(self) -> None:
        _require(self.mode in ("easy", "hard"), "RecordConfig.mode", self.mode, "easy or hard")
        _require_positive(self, "frames", "num_envs", "frames_per_shard")
        for field in ("start_level", "num_levels"):
            value = getattr(self, field)
            _require(value >= 0, f"RecordConfig.{field}", value, "0 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """A world and how its phases are trained, each on clips of its own length."""

    world: WorldConfig
    tokenizer_training: TrainConfig
    action_training: TrainConfig | None = None
    """Of the latent action model alone and first, after which its labels stay; ``None`` trains it together with the
    dynamics, as in the paper."""
    world_training: TrainConfig
    """Of the dynamics and, unless it was trained first, the latent action model."""

    def __post_init__(self) -> None:
        for phase in ("action_training", "world_training"):
            training = getattr(self, phase)
            length = 2 if training is None else training.clip_length
            _require(length >= 2, f"Preset.{phase}.clip_length", length, "at least 2, to hold a transition")
        reads_tokens = self.world.latent_action_model.inputs == "tokens"
        apart = self.action_training is not None
        _require(not (reads_tokens and apart), "Preset.action_training", self.action_training, "None on tokens")


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON values."""
    return dataclasses.asdict(config)


def from_dict(kind: type[Config], values: dict[str, Any]) -> Config:
    """The inverse of ``to_dict``.

    Raises:
        ValueError: Naming the class and the unknown or missing field.
    """
    _require(isinstance(values, dict), kind.__name__, values, "made of named fields")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    _require(not unknown, kind.__name__, unknown, f"made of the fields {sorted(fields)}")
    built = {name: _build(hints[name], value) for name, value in values.items()}
    try:
        return kind(**built)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from error


def vary(config: Config, overrides: dict[str, Any]) -> Config:
    """The config with values at dotted paths replaced, all at once: ``{"tokenizer.quantizer.codes": 512}``.

    Args:
        config: Stays as it is.
        overrides: Values by path; a dictionary of several fields stands for a config.

    Raises:
        ValueError: If there is no such field, or the values do not fit.
    """
    values = to_dict(config)
    for path, value in overrides.items():
        *parents, name = path.split(".")
        inner: Any = values
        for parent in parents:
            inner = inner.get(parent) if isinstance(inner, dict) else None
        _require(isinstance(inner, dict) and name in inner, type(config).__name__, path, "varied at a field it has")
        inner[name] = value
    return from_dict(type(config), values)


def _build(hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value)
    return tuple(value) if isinstance(value, list) else value
