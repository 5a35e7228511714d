"""Recordings, labels, clones and mappings of one mode, on which all methods of the benchmark rest."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from agents.cloning import REAL, clone, find_clone
from agents.config import CloningConfig
from agents.demonstrations import Demonstrations
from agents.game import make_game
from agents.labelling import NO_LABEL, digest_labels, label_dataset
from agents.mapping import ActionMapping, FeatureMapping
from agents.policy import LatentPolicy
from agents.windows import Footage, Windows, draw_labelled, read_footage, read_real_actions
from genie_gym.data.clips import ClipDataset
from genie_gym.models.world_model import GenieWorldModel


class CloneStore:
    """Recordings, labels, clones and mappings of one mode, each made on first use and saved.

    Latent policies are cloned from files without real actions; only ``oracle`` and ``labelled_only`` read any. Clones
    of the videos have the ``config``, those of labelled samples the ``labelled_config``, without past actions; they lie
    in the folder ``work`` with labels and uncompressed frames. Frames of the videos that are in memory already are
    shared as ``footage``; without it they are read on first use.
    """

    def __init__(
        self,
        recordings: Demonstrations,
        world: GenieWorldModel,
        config: CloningConfig,
        labelled_config: CloningConfig,
        work: Path,
        device: str = "cpu",
        footage: Footage | None = None,
    ) -> None:
        self.world, self.game = world, make_game(recordings.mode)
        self.recordings, self.work, self._device, self._footage = recordings, work, device, footage
        self._config, self._labelled_config = config, labelled_config
        self._num_latents, self._context = world.config.num_latent_actions, config.policy.context_length

    def prepare(self, cloned: bool) -> None:
        """Record and label the labelled games and, if clones are needed, the videos."""
        self._label(self._labelled)
        if cloned:
            self._label(self._videos)
            read_footage(self._videos, self.work)

    def latent_policy(self, seed: int) -> LatentPolicy:
        """Return the policy cloned from the videos' latent actions."""
        source = digest_labels(self.world)
        windows = lambda: Windows(self.footage, self._label(self._videos), self._num_latents, self._context)  # noqa: E731
        return self._clone(f"lam-{seed}", self._num_latents, source, windows, self._config, seed)

    def oracle(self, seed: int) -> LatentPolicy:
        """Return the policy cloned from the same videos' real actions."""
        number, folder = self.game.num_actions, self.recordings.folders.oracle  # recorded with the footage
        windows = lambda: Windows(self.footage, read_real_actions(folder), number, self._context)  # noqa: E731
        return self._clone(f"oracle-{seed}", number, REAL, windows, self._config, seed)

    def labelled_only(self, labels: int | None, seed: int) -> LatentPolicy:
        """Return the policy cloned from the labelled samples alone, without past actions: they would be more labels."""
        name, number, among = f"labelled-{labels}-{seed}", self.game.num_actions, self._draw(labels, seed)
        windows = lambda: Windows(self._labelled_footage, self._labelled_actions, number, self._context)  # noqa: E731
        return self._clone(name, number, REAL, windows, self._labelled_config, seed, among)

    def make_shared(self, name: str, seed: int) -> object:
        """Make a seed's ``lam`` (``latent_policy``) or ``oracle``, which several methods share."""
        return {"lam": self.latent_policy, "oracle": self.oracle}[name](seed)

    def lacks(self, name: str, seed: int) -> bool:
        """Return whether a seed's resource of that name for ``make_shared`` is not made yet."""
        return not any((self.work / f"{name}-{seed}").glob("*/config.json"))

    def draw_actions(self, labels: int | None, seed: int) -> np.ndarray:
        """Return the real actions (labels,) of the seed's labelled samples."""
        return self._labelled_actions[self._draw(labels, seed)]

    def mapping(self, labels: int | None, seed: int) -> ActionMapping:
        """Return the paper's dictionary from the seed's ``labels`` samples, or from all."""
        numbers = self._draw(labels, seed)
        latents, actions = self._labelled_latents[numbers], self._labelled_actions[numbers]
        return ActionMapping.fit(latents, actions, self._num_latents, self.game)

    def feature_mapping(self, labels: int | None, seed: int) -> FeatureMapping:
        """Return a mapping from the same samples that also sees the features of the seed's latent policy."""
        numbers, policy = self._draw(labels, seed), self.latent_policy(seed)
        windows = Windows(self._labelled_footage, self._labelled_latents, self._num_latents, self._context)
        seen = windows.videos_at(numbers).to(policy.device), windows.past_at(numbers).to(policy.device)
        latents, actions = self._labelled_latents[numbers], self._labelled_actions[numbers]
        return FeatureMapping(latents, policy.features(*seen).cpu(), actions, self._num_latents, game=self.game)

    @functools.cached_property
    def footage(self) -> Footage:
        """Frames of the videos, which are the oracle's frames too."""
        if self._footage is not None:
            return self._footage
        return read_footage(self._videos, self.work).upload(self._device)

    def _draw(self, labels: int | None, seed: int) -> np.ndarray:
        """Return the frames of the seed's ``labels`` samples, or of all samples."""
        if labels is None:
            return np.flatnonzero(self._labelled_actions != NO_LABEL)
        return draw_labelled(self._labelled_actions, labels, seed)

    def _clone(
        self,
        name: str,
        actions: int,
        source: str,
        windows: Callable[[], Windows],
        config: CloningConfig,
        seed: int,
        among: np.ndarray | None = None,
    ) -> LatentPolicy:
        """Return the policy of that name. Windows, gigabytes of them, are opened only if it is not cloned yet."""
        out, config = self.work / name, replace(config, training=replace(config.training, seed=seed))
        policy = find_clone(config, source, out, self._device)
        if policy is None:
            policy = clone(windows(), config, actions, source, out, among=among, device=self._device)
        assert policy is not None, "without a time limit the policy is finished"
        return policy

    def _label(self, dataset: ClipDataset) -> np.ndarray:
        return label_dataset(self.world, dataset, self.work / "labels")

    @functools.cached_property
    def _videos(self) -> ClipDataset:
        return ClipDataset(self.recordings.record_videos(), clip_length=2)

    @functools.cached_property
    def _labelled(self) -> ClipDataset:
        return ClipDataset(self.recordings.record_labelled(), clip_length=2)

    @functools.cached_property
    def _labelled_footage(self) -> Footage:
        return read_footage(self._labelled)

    @functools.cached_property
    def _labelled_actions(self) -> np.ndarray:
        return read_real_actions(self.recordings.record_labelled())

    @functools.cached_property
    def _labelled_latents(self) -> np.ndarray:
        return self._label(self._labelled)
