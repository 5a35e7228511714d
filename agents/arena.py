"""What all methods of the benchmark rest on: recordings, their labels, the policies cloned from them, mappings."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from agents.cloning import REAL, clone, find_clone
from agents.config import CloningConfig
from agents.demonstrations import Demonstrations
from agents.labelling import NO_LABEL, digest_labels, label_dataset
from agents.mapping import ActionMapping, FeatureMapping, Mapping
from agents.policy import LatentPolicy
from agents.windows import Footage, Windows, draw_labelled, read_footage, read_real_actions
from genie_gym.data.clips import ClipDataset
from genie_gym.data.procgen import NUM_REAL_ACTIONS
from genie_gym.models.world_model import GenieWorldModel


class Arena:
    """What all methods of one mode share: recordings, labels, and the policies of each seed; each made when asked for.

    The latent policies' windows come from files that hold no real actions; only ``oracle`` and ``labelled`` do.

    Args:
        recordings: Of the mode.
        world: Whose latent action model labels.
        config: Of clones of the videos.
        labelled_config: Of clones of labelled samples, without past actions.
        work: Folder of labels, unpacked frames and clones by these configs.
        device: Where to clone and to play.
    """

    def __init__(
        self,
        recordings: Demonstrations,
        world: GenieWorldModel,
        config: CloningConfig,
        labelled_config: CloningConfig,
        work: Path,
        device: str = "cpu",
    ) -> None:
        self._recordings, self._world, self._work, self._device = recordings, world, work, device
        self._config, self._labelled_config = config, labelled_config

    def prepare(self, cloned: bool) -> None:
        """Make what stays on disk of the labelled games and, where they are to be ``cloned``, of the videos."""
        self._label(self._labelled)
        if cloned:
            self._label(self._videos)
            read_footage(self._videos, self._work)

    def latent_policy(self, seed: int) -> LatentPolicy:
        """Cloned from the videos' latent actions."""
        source, windows = digest_labels(self._world), lambda: self._latent_windows
        return self._clone(f"lam-{seed}", self._latents, source, windows, self._config, seed)

    def oracle(self, seed: int) -> LatentPolicy:
        """Cloned from the same videos' real actions."""
        return self._clone(f"oracle-{seed}", NUM_REAL_ACTIONS, REAL, lambda: self._oracle_windows, self._config, seed)

    def labelled_only(self, labels: int, seed: int) -> LatentPolicy:
        """Cloned from the labelled samples alone; told nothing of past actions, which would be more labels."""
        name, windows, among = f"labelled-{labels}-{seed}", lambda: self._labelled_windows, self._draw(labels, seed)
        return self._clone(name, NUM_REAL_ACTIONS, REAL, windows, self._labelled_config, seed, among)

    def lacks(self, method: str, seed: int) -> bool:
        """Whether the policy ``lam`` or ``oracle`` of a seed is still to be cloned."""
        return not (self._work / f"{method}-{seed}" / "policy" / "config.json").exists()

    def draw_actions(self, labels: int, seed: int) -> np.ndarray:
        """(labels,) the samples' real actions."""
        return self._labelled_actions[self._draw(labels, seed)]

    def mapping(self, method: str, labels: int | None, seed: int) -> Mapping:
        """From the seed's latent actions to real ones, by ``labels`` samples, or all."""
        numbers = self._draw(labels, seed)
        latents, actions = self._labelled_latents[numbers], self._labelled_actions[numbers]
        if method == "lam_features":
            windows = Windows(self._labelled_footage, self._labelled_latents, self._latents, self._context)
            policy = self.latent_policy(seed)
            seen = windows.videos_at(numbers).to(policy.device), windows.past_at(numbers).to(policy.device)
            return FeatureMapping(latents, policy.features(*seen).cpu(), actions, self._latents)
        mapping = ActionMapping.fit(latents, actions, self._latents)
        return mapping.majority() if method == "lam_majority" else mapping

    def _draw(self, labels: int | None, seed: int) -> np.ndarray:
        """Frames of the samples, all where no number is given; a seed's fewer samples are among its more.

        Raises:
            ValueError: If the labelled games have too few.
        """
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
        """The policy of that name, cloned if it is not yet: only then windows are opened, gigabytes of them."""
        out, config = self._work / name, replace(config, training=replace(config.training, seed=seed))
        policy = find_clone(config, source, out, self._device)
        if policy is None:
            policy = clone(windows(), config, actions, source, out, among=among, device=self._device)
        assert policy is not None, "without a limit of time a policy is finished"
        return policy

    def _label(self, dataset: ClipDataset) -> np.ndarray:
        return label_dataset(self._world, dataset, self._work / "labels")

    @property
    def _latents(self) -> int:
        return self._world.config.num_latent_actions

    @property
    def _context(self) -> int:
        return self._config.policy.context_length

    @functools.cached_property
    def _videos(self) -> ClipDataset:
        self._recordings.record_videos()
        return ClipDataset(self._recordings.folders.videos, clip_length=2)

    @functools.cached_property
    def footage(self) -> Footage:
        """Of the videos, which the oracle's games are too; may be set to another arena's, to lie in memory once."""
        return read_footage(self._videos, self._work).upload(self._device)

    @functools.cached_property
    def _latent_windows(self) -> Windows:
        return Windows(self.footage, self._label(self._videos), self._latents, self._context)

    @functools.cached_property
    def _oracle_windows(self) -> Windows:
        footage = self.footage
        actions = read_real_actions(self._recordings.folders.oracle)
        return Windows(footage, actions, NUM_REAL_ACTIONS, self._context)

    @functools.cached_property
    def _labelled(self) -> ClipDataset:
        self._recordings.record_labelled()
        return ClipDataset(self._recordings.folders.labelled, clip_length=2)

    @functools.cached_property
    def _labelled_footage(self) -> Footage:
        return read_footage(self._labelled)

    @functools.cached_property
    def _labelled_actions(self) -> np.ndarray:
        self._recordings.record_labelled()
        return read_real_actions(self._recordings.folders.labelled)

    @functools.cached_property
    def _labelled_latents(self) -> np.ndarray:
        return self._label(self._labelled)

    @functools.cached_property
    def _labelled_windows(self) -> Windows:
        return Windows(self._labelled_footage, self._labelled_actions, NUM_REAL_ACTIONS, self._context)
