"""Recordings, labels, clones and mappings of one game mode, shared by all methods of the benchmark."""

import copy
import functools
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np

from agents.cloning import REAL, clone, find_clone
from agents.config import CHOICES, PAPERS_LABELS, SOFT_FIELDS, UNUSED_FIELDS, CloningConfig
from agents.demonstrations import Demonstrations
from agents.game import make_game
from agents.inverse_decoder import InverseDecoder
from agents.labelling import NO_LABEL, describe_dataset, digest_labels, keep_labels, label_dataset
from agents.mapping import ActionMapping
from agents.policy import LatentPolicy
from agents.relabelling import FeatureDecoder, FeatureResiduals, draw_relabels
from agents.windows import Footage, Windows, draw_labelled, read_footage, read_real_actions
from genie_gym.data.clips import ClipDataset
from genie_gym.models.world_model import GenieWorldModel

Relabelling = Literal["lam_relabel", "idm_relabel"]
"""Decoders that label videos with real actions: on the latent action model's features, or from scratch."""
RELABELLINGS = get_args(Relabelling)


class CloneStore:
    """Recordings, labels, clones and mappings of one mode; all but the mappings are made on first use and saved.

    Latent policies are cloned from files without real actions, and so are those of ``relabelled``, whose actions are
    decoded from frames. The only ones that learn from real actions are those of ``oracle`` and ``labelled_only``.

    Args:
        recordings: Demonstrations and labelled games of the mode.
        world: Frozen world whose latent action model labels.
        config: Config of the policies cloned from the videos.
        labelled_config: Config of those cloned from labelled samples alone, without past actions: these are labels too.
        work: Folder for labels, uncompressed frames and clones.
        device: Device on which policies are trained and returned.
        footage: Frames of the videos, if they are in memory already; by default they are read on first use.
        relabel_samples: Number of labelled samples that the decoders of ``relabelled`` are fitted to.
        inverse_steps: Largest number of batches of each inverse model among these decoders.
    """

    def __init__(  # noqa: PLR0913
        self,
        recordings: Demonstrations,
        world: GenieWorldModel,
        config: CloningConfig,
        labelled_config: CloningConfig,
        work: Path,
        device: str = "cpu",
        footage: Footage | None = None,
        relabel_samples: int = PAPERS_LABELS,
        inverse_steps: int = 600,
    ) -> None:
        self.relabel_samples, self._inverse_steps = relabel_samples, inverse_steps
        self.world, self.game = world, make_game(recordings.mode)
        self.recordings, self.work, self._device, self._footage = recordings, work, device, footage
        self.clones = work
        """Folder of the clones."""
        self.config, self._labelled_config = config, labelled_config
        self._num_latents = world.config.num_latent_actions

    def prepare(self, cloned: bool) -> None:
        """Record and label the labelled games and, if clones are needed, the videos."""
        self._label(self._labelled)
        if cloned:
            self._label(self._videos)
            read_footage(self._videos, self.work)

    def with_clones(self, config: CloningConfig, clones: Path) -> "CloneStore":
        """Return a store of the same recordings and labels, whose clones have another config and lie in ``clones``."""
        other = copy.copy(self)
        other.config, other.clones = config, clones
        return other

    def latent_policy(self, seed: int) -> LatentPolicy:
        """Return the policy cloned from the videos' latent actions."""
        source = digest_labels(self.world)
        return self._clone(f"lam-{seed}", source, self._open_latent_windows, self.config, seed)

    def oracle(self, seed: int) -> LatentPolicy:
        """Return the policy cloned from the same videos' real actions."""
        return self._clone(
            f"oracle-{seed}", REAL, self._open_oracle_windows, self._vary_for("oracle"), seed, SOFT_FIELDS
        )

    def labelled_only(self, labels: int | None, seed: int) -> LatentPolicy:
        """Return the policy cloned from the seed's ``labels`` samples alone, or from all if ``labels`` is None."""
        name, among = f"labelled-{labels}-{seed}", self._draw(labels, seed)
        return self._clone(name, REAL, self._open_labelled_windows, self._labelled_config, seed, among=among)

    def relabelled(self, name: Relabelling, seed: int) -> LatentPolicy:
        """Return the policy of real actions cloned from the videos as a decoder of few samples labels them."""
        source, windows = self._relabel_source(name, seed), functools.partial(self._open_relabelled_windows, name, seed)
        return self._clone(f"{name}-{seed}", source, windows, self._vary_for(name), seed, CHOICES)

    def relabel(self, name: Relabelling, seed: int) -> np.ndarray:
        """Return distributions (F, R) over real actions of the videos' frames, zeros where an episode ends.

        They are decoded by a ``FeatureDecoder`` for ``lam_relabel``, by an ``InverseDecoder`` for ``idm_relabel``,
        fitted on the seed's ``relabel_samples`` samples; no other real actions are used.
        """
        about = {"relabels_of": self._relabel_source(name, seed), "data": self._videos.fingerprint}
        path = self.work / "labels" / f"{name}-{self.relabel_samples}-{seed}-{about['data'][:8]}.safetensors"
        return keep_labels(path, about, lambda: self._decode(name, seed))

    def make_shared(self, name: str, seed: int) -> object:
        """Make a seed's clone that several methods share: ``lam``, ``oracle``, ``lam_relabel`` or ``idm_relabel``."""
        if name in RELABELLINGS:
            return self.relabelled(cast(Relabelling, name), seed)
        return {"lam": self.latent_policy, "oracle": self.oracle}[name](seed)

    def lacks(self, name: str, seed: int) -> bool:
        """Return whether ``make_shared`` has yet to make a seed's resource of that name."""
        return not any((self.clones / f"{name}-{seed}").glob("*/config.json"))

    def draw_actions(self, labels: int | None, seed: int) -> np.ndarray:
        """Return the real actions (labels,) of the seed's ``labels`` samples, or of all if ``labels`` is None."""
        return self._labelled_actions[self._draw(labels, seed)]

    def mapping(self, labels: int | None, seed: int) -> ActionMapping:
        """Return the paper's dictionary, fitted on the seed's ``labels`` samples, or on all if ``labels`` is None."""
        numbers = self._draw(labels, seed)
        latents, actions = self._labelled_latents[numbers], self._labelled_actions[numbers]
        return ActionMapping.fit(latents, actions, self._num_latents, self.game)

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
        source: str,
        open_windows: Callable[[], Windows],
        config: CloningConfig,
        seed: int,
        unused: Collection[str] = UNUSED_FIELDS,
        among: np.ndarray | None = None,
    ) -> LatentPolicy:
        """Return the policy saved as ``name``, cloned first if it is missing: only then are its windows read."""
        out, config = self.clones / name, replace(config, training=replace(config.training, seed=seed))
        policy = find_clone(config, source, out, self._device, unused)
        if policy is None:
            policy = clone(open_windows(), config, source, out, among=among, device=self._device, unused=unused)
        assert policy is not None, "without a time limit the policy is finished"
        return policy

    def _vary_for(self, name: str) -> CloningConfig:
        """Return the config of the clones of that name, of which only some predict latent actions too."""
        return self.config if name in self.config.predicts_latents else replace(self.config, auxiliary_weight=0.0)

    @property
    def _context(self) -> int:
        return self.config.policy.context_length

    def _open_latent_windows(self) -> Windows:
        return Windows(self.footage, self._label(self._videos), self._num_latents, self._context)

    def _open_oracle_windows(self) -> Windows:
        folder = self.recordings.folders.oracle  # recorded with the footage, which is read first
        latents, actions = self._latents_beside("oracle"), read_real_actions(folder)
        return Windows(self.footage, actions, self.game.num_actions, self._context, None, *latents)

    def _open_relabelled_windows(self, name: Relabelling, seed: int) -> Windows:
        distributions, latents = self.relabel(name, seed), self._latents_beside(name)
        actions = draw_relabels(distributions, seed)
        return Windows(self.footage, actions, self.game.num_actions, self._context, distributions, *latents)

    def _latents_beside(self, name: str) -> tuple[np.ndarray | None, int]:
        """Return the latent actions that the clones of that name predict beside real ones, and their number."""
        predicts = self._vary_for(name).auxiliary_weight > 0
        return (self._label(self._videos), self._num_latents) if predicts else (None, 0)

    def _relabel_source(self, name: Relabelling, seed: int) -> str:
        """Return an identification of a decoder, by its kind, its samples, and its model or its training."""
        model = digest_labels(self.world) if name == "lam_relabel" else f"frames in {self._inverse_steps} batches"
        return f"{name} of {model} by {self.relabel_samples} samples of seed {seed}"

    def _decode(self, name: Relabelling, seed: int) -> np.ndarray:
        numbers = self._draw(self.relabel_samples, seed)
        actions = self._labelled_actions[numbers]
        if name == "lam_relabel":
            videos, labelled = ((self._describe(each), each.episode_starts) for each in (self._videos, self._labelled))
            residuals = FeatureResiduals(*videos)
            return FeatureDecoder(residuals.find(*labelled)[numbers], actions, self.game).decode(
                residuals.find(*videos)
            )
        decoder = InverseDecoder(self._labelled_footage, numbers, actions, self.game, seed, self._inverse_steps)
        return decoder.decode(self.footage)

    def _describe(self, dataset: ClipDataset) -> np.ndarray:
        return describe_dataset(self.world, dataset, self.work / "labels")

    def _open_labelled_windows(self) -> Windows:
        context = self._labelled_config.policy.context_length
        return Windows(self._labelled_footage, self._labelled_actions, self.game.num_actions, context)

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
