"""The settings of ratings and of a classifier of clips; imports no torch."""

from dataclasses import dataclass

from genie_gym.checks import check_fields, is_integer, require
from genie_gym.data.config import require_rate

LEAST, MOST = 1, 5
"""Worst and best rating."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierConfig:
    """A classifier of clips: what it learns from, what it looks at, and how sure it has to be."""

    good: tuple[int, ...] = (5,)
    """ratings of good clips; others than good and bad ones are not learned from (the paper's 5)"""
    bad: tuple[int, ...] = (1,)
    """ratings of bad clips (the paper's 1)"""
    precision: float = 0.95
    """least precision on validation videos, by which the threshold on the confidence is chosen"""
    height: int = 64
    """height in pixels of the frames that it looks at"""
    width: int = 64
    """width in pixels of the frames that it looks at"""
    frames: int = 8
    """number of frames of a clip that it looks at; its confidence is that of their mean logit"""
    channels: int = 64
    """number of channels of the first stage; 64 for the ResNet-18 of 11 million parameters"""
    train_steps: int = 300
    """number of training batches"""
    batch_size: int = 32
    """number of frames per training batch, half of them of good clips; even"""
    learning_rate: float = 1e-3
    """peak learning rate of AdamW"""
    validation_share: float = 0.2
    """share of the videos by which the threshold is chosen"""
    test_share: float = 0.2
    """share of the videos on which precision and recall are reported"""
    seed: int = 0
    """seed of the split, the weights and the batches"""

    def __post_init__(self) -> None:
        sizes = "height width frames channels train_steps batch_size learning_rate"
        shares, multiples = "precision validation_share test_share", {"batch_size": 2}
        check_fields(self, positive=sizes, not_negative="seed", shares=shares, multiples=multiples)
        for name in ("good", "bad"):
            ratings = getattr(self, name)
            fits = bool(ratings) and all(is_integer(rating, LEAST, MOST + 1) for rating in ratings)
            require(fits, f"ClassifierConfig.{name}", ratings, f"ratings from {LEAST} to {MOST}")
        both = sorted(set(self.good) & set(self.bad))
        require(not both, "ClassifierConfig.good", self.good, f"other ratings than the bad ones, {self.bad}")
        held_out = self.validation_share + self.test_share
        require(0 < held_out < 1, "ClassifierConfig.validation_share + test_share", held_out, "in (0, 1)")


@dataclass(frozen=True, kw_only=True, slots=True)
class RateConfig:
    """The clips that are shown to be rated."""

    clip_frames: int = 160
    """number of frames in a clip (the paper's are 16 seconds at 10 frames a second)"""
    fps: float | None = 10.0
    """frames per second at which videos are read; None for the frames as they are in the files"""
    clips_per_video: int = 2
    """number of clips drawn from each video"""
    frames: int = 16
    """number of frames of a clip that are shown, at equal distances"""
    height: int = 180
    """height in pixels of the shown frames"""
    width: int = 320
    """width in pixels of the shown frames"""
    seed: int = 0
    """seed by which clips are drawn"""

    def __post_init__(self) -> None:
        sizes = "clip_frames clips_per_video frames height width fps"
        check_fields(self, positive=sizes, not_negative="seed")
        require_rate("RateConfig.fps", self.fps)
        require(self.frames <= self.clip_frames, "RateConfig.frames", self.frames, f"at most {self.clip_frames}")
