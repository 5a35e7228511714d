"""The commands ``genie-gym train`` and ``genie-gym export``; imports no torch."""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from genie_gym.checks import require
from genie_gym.configs import Preset
from genie_gym.data.config import ConvertConfig, OnBroken
from genie_gym.data.fitting import Fit
from genie_gym.preset_arguments import PresetName, PresetValues
from genie_gym.presets import find_preset


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Train a world from shards or videos; the same command run again continues in the same folder."""

    preset: PresetName = "coinrun"
    """name of the preset to train"""
    data: tuple[Path, ...]
    """folders of shards, or of videos, LeRobot datasets or manifests, which are first converted into OUT/clips"""
    out: Path
    """folder of the run, which will hold the world in OUT/checkpoint"""
    minutes: float | None = None
    """number of minutes after which training pauses; by default it runs to its end"""
    device: str = "cpu"
    """torch device to train on"""
    start_data: tuple[Path, ...] = ()
    """folders of shards or videos to draw the shipped start clips from; by default --data"""
    start_clips: int = 32
    """largest number of start clips shipped with the checkpoint"""
    tokenizer_steps: int | None = None
    """short form of --tokenizer-training.train-steps"""
    world_steps: int | None = None
    """short form of --world-training.train-steps"""
    fps: float | None = None
    """frames per second of videos and of the world (--world.fps); by default that of the clips, or each frame once"""
    fit: Fit = "crop"
    """method that changes the aspect ratio of videos"""
    on_broken: OnBroken = "stop"
    """whether videos that cannot be read stop the command, all of them named, or are left out"""
    camera: str | None = None
    """camera of LeRobot datasets; by default the only one"""
    actions: Literal["latent", "real"] = "latent"
    """actions that the world learns; real ones, to compare, need recordings that hold them and give no latent ones"""
    config: PresetValues
    """values of the preset"""

    def run(self) -> None:
        """Train until the checkpoint is saved or the time is over, alone or as one of the processes of torchrun."""
        import contextlib

        from genie_gym.system import lock_folder
        from genie_gym.training.distributed import require_phases, run_on_ranks
        from genie_gym.training.run import train_preset

        minutes = self.minutes
        require(minutes is None or 0 < minutes < math.inf, "--minutes", minutes, "positive, or left out")

        def train(ranks: Any, device: str) -> None:
            asked = ranks.agree(self._find_preset)
            ranks.agree(lambda: require_phases(asked, ranks.size))
            with contextlib.ExitStack() as held:
                ranks.agree(lambda: held.enter_context(lock_folder(self.out)) if ranks.is_first else None)
                # One process converts the videos; the others find them converted.
                opened = ranks.agree(lambda: self._open(asked, True) if ranks.is_first else None)
                preset, dataset, clips = ranks.agree(lambda: opened or self._open(asked, False))
                checkpoint = train_preset(preset, dataset, self.out, clips, self.minutes, device, keeps_data=False)
            paused = f"the time is over; run the command again to continue in {self.out}"
            if ranks.is_first:
                print(paused if checkpoint is None else f"saved {checkpoint}")

        run_on_ranks(self.device, train)

    def _find_preset(self) -> Preset:
        """Return the preset with the values of the options; ``ValueError`` if two of them contradict each other."""
        from genie_gym.config_io import vary

        default, given = find_preset(self.preset), dict[str, Any]()
        short_forms = {
            "tokenizer_training.train_steps": self.tokenizer_steps,
            "world_training.train_steps": self.world_steps,
            "world.fps": self.fps,
        }
        for path, value in short_forms.items():
            long = operator.attrgetter(path)(self.config)
            if value is not None:
                option = "--" + path.replace("_", "-")
                require(long in {value, operator.attrgetter(path)(default)}, option, long, f"{value} too, if given")
                given[path] = value
        return vary(self.config, given)

    def _open(self, preset: Preset, is_first: bool) -> tuple[Preset, Any, Any]:
        """Return the preset at the frame rate of the data, the clips and the start clips.

        The first of several processes compares the data with the run's, and prints each line about the conversion.
        """
        from genie_gym.config_io import vary
        from genie_gym.data.clips import ClipDataset
        from genie_gym.data.convert import prepare_clips
        from genie_gym.data.sources import find_chosen, require_camera
        from genie_gym.training.real_actions import take_real_actions
        from genie_gym.training.run import draw_start_clips
        from genie_gym.training.run_data import keep_data

        require(self.start_clips > 0, "start_clips", self.start_clips, "positive")
        own = (self.out / "clips", self.out / "start_clips")
        size = {"height": preset.world.height, "width": preset.world.width}
        about: dict[str, Any] = {"fps": preset.world.fps, "fit": self.fit, "on_broken": self.on_broken}
        require_camera([*self.data, *self.start_data], self.camera)
        length = preset.world_training.clip_length
        conversion = ConvertConfig(size=f"{size['height']}x{size['width']}", clip_length=length, **about)
        say: Callable[[str], None] = print if is_first else lambda line: None
        if is_first:
            keep_data(self.out, find_chosen(self.data, own, self._camera_of(self.data)), self.data)
        conversion = replace(conversion, camera=self._camera_of(self.data))
        prepared = prepare_clips(self.data, own[0], conversion, say, without=own)
        dataset = starts = ClipDataset(prepared.files, clip_length=length, **size)
        if self.start_data:
            conversion = replace(conversion, fps=prepared.fps, camera=self._camera_of(self.start_data))
            clips = prepare_clips(self.start_data, own[1], conversion, say, without=own).files
            starts = ClipDataset(clips, clip_length=1, **size)
        preset = vary(preset, {"world.fps": prepared.fps})
        if self.actions == "real":
            preset = take_real_actions(preset, dataset)
        return preset, dataset, draw_start_clips(starts, self.start_clips, preset.tokenizer_training.seed)

    def _camera_of(self, paths: Sequence[Path]) -> str | None:
        """Return the camera if any of the paths is a LeRobot dataset, to which alone it applies."""
        from genie_gym.data.lerobot import is_lerobot

        return self.camera if any(map(is_lerobot, paths)) else None


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Save the world of a training run as a checkpoint, even while it is trained."""

    run_folder: tyro.conf.Positional[Path]
    """folder of the run, --out of genie-gym train"""
    out: Path
    """folder to write the checkpoint to"""

    def run(self) -> None:
        """Export the run."""
        from genie_gym.training.export import export_run

        print(f"saved {export_run(self.run_folder, self.out)}")
