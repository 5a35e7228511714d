"""The clips that a person rates: drawn from all videos, read ahead while the person looks, and undone on demand."""

import io
import logging
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from genie_gym.checks import require
from genie_gym.curation.clips import ShownClip, iterate_clips
from genie_gym.curation.config import RateConfig
from genie_gym.curation.ratings import Rating, Ratings
from genie_gym.data.manifest import Chosen
from genie_gym.data.sources import read_ahead

logger = logging.getLogger(__name__)


class Deck:
    """Clips to rate one by one; ``present`` is the one that is shown, None when all are rated.

    From each video ``clips_per_video`` clips are drawn, the videos in random order. The same seed draws the same clips,
    so that a later session goes on with those that are not rated.

    Raises:
        ValueError: If the ratings are of clips at another frame rate.
    """

    def __init__(self, videos: Sequence[Chosen], ratings: Ratings, config: RateConfig) -> None:
        self.ratings, self.config = ratings, config
        order = np.random.default_rng(config.seed).permutation(len(videos))
        require(ratings.fps == config.fps, f"{ratings.path}: fps", ratings.fps, f"that of this session, {config.fps}")
        self._videos = [videos[number].at_rate(config.fps) for number in order]
        self._coming = self._read()
        self._undone: list[ShownClip] = []
        self._shown: list[ShownClip] = []
        self.present = next(self._coming, None)

    @property
    def can_undo(self) -> bool:
        """Whether a rating of this session can be taken back."""
        return bool(self._shown)

    def rate(self, rating: int) -> None:
        """Rate the present clip and turn to the next; ``ValueError`` for no rating, or if there is no clip."""
        if self.present is None:
            raise ValueError("all clips are rated")
        self.ratings.add(Rating(self.present.path, self.present.span, rating))
        self._shown.append(self.present)
        self.present = self._undone.pop() if self._undone else next(self._coming, None)

    def undo(self) -> None:
        """Take back the last rating of this session and show its clip again; nothing happens if there is none."""
        if self._shown:
            self.ratings.undo()
            if self.present is not None:
                self._undone.append(self.present)
            self.present = self._shown.pop()

    def _read(self) -> Iterator[ShownClip]:
        left = [video for video in self._videos if self._count_rated(video) < self.config.clips_per_video]
        for clips in read_ahead(lambda number: self._draw(left[number]), range(len(left)), workers=1):
            yield from (clip for clip in clips if not self.ratings.is_rated(clip.path, clip.span))

    def _count_rated(self, video: Chosen) -> int:
        path = video.path.resolve()
        return sum(each.path.resolve() == path for each in self.ratings.given)

    def _draw(self, video: Chosen) -> list[ShownClip]:
        """Draw clips of a video, each equally likely, while it is read once (reservoir sampling)."""
        config, drawn = self.config, list[ShownClip]()
        rng = np.random.default_rng([config.seed, zlib.crc32(video.path.name.encode())])
        size = (config.height, config.width)
        try:
            for number, clip in enumerate(iterate_clips(video, config.clip_frames, config.frames, size)):
                place = number if number < config.clips_per_video else int(rng.integers(number + 1))
                if place < config.clips_per_video:
                    drawn[place : place + 1] = [clip]
        except ValueError as error:
            logger.warning("not shown: %s", error)
            return []
        return drawn


def animate(frames: np.ndarray, seconds: float) -> bytes:
    """Encode (K, H, W, 3) uint8 frames as an animated PNG that loops and takes ``seconds``."""
    first, *others = [Image.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    duration = round(1000 * seconds / len(frames))
    first.save(file, format="PNG", save_all=True, append_images=others, duration=duration, loop=0)
    return file.getvalue()
