"""The command line ``genie-gym``; each command only calls the code that does the work."""

import difflib
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import tyro

from genie_gym import __version__
from genie_gym.bench.config import BenchConfig
from genie_gym.checkpoint_commands import CheckpointsCommand, PushCommand
from genie_gym.checks import require, require_paths_on_disk
from genie_gym.curation.commands import CurateCommand
from genie_gym.data.config import ConvertConfig, RecordConfig
from genie_gym.data.fitting import Fit
from genie_gym.failures import tell_failures
from genie_gym.labels import LabelCommand
from genie_gym.metrics.commands import ConvertI3dCommand
from genie_gym.metrics.config import EvaluateConfig
from genie_gym.plan.config import PlanCommand
from genie_gym.play.config import LOOPBACK, PlayConfig
from genie_gym.preset_arguments import parse_with_preset, plain_rules
from genie_gym.training.commands import ExportCommand, TrainCommand


@dataclass(frozen=True, kw_only=True)
class RecordCommand:
    """Record Procgen games, or any Gymnasium environment with frames, into lossless HDF5 shards."""

    out: Path
    """folder to write the HDF5 shards into"""
    players: tuple[str, ...] = ("sticky=0.8", "random=0.2")
    """players and their shares, SPEC=WEIGHT each: random, sticky, expert, skilled, search or FILE.py:FACTORY(...)"""
    workers: int = 1
    """number of recording processes"""
    window: bool = False
    """play the environment of --env in a window, and record that until it is closed, whatever --frames is"""
    keys: tuple[str, ...] = ()
    """keys of the window, KEYS=ACTION each, such as d=3 or dw=5; by default the environment's own"""
    recording: Annotated[RecordConfig, tyro.conf.arg(name="")] = field(default_factory=RecordConfig)
    """games and levels to record"""

    def run(self) -> None:
        """Record the shards."""
        from genie_gym.data.env_games import describe_frames
        from genie_gym.data.frame_writer import record_in_window
        from genie_gym.data.record import record
        from genie_gym.players.specs import parse_shares

        require(self.window or not self.keys, "--keys", self.keys, "left out without --window")
        if self.window:
            require(self.workers == 1, "--workers", self.workers, "left out with --window")
            require(self.players == RecordCommand.players, "--players", self.players, "left out with --window")
            record_in_window(self.recording, self.keys, self.out)
            print(f"recorded in {self.out}")
            return
        shares = parse_shares(self.players, self._find_space())
        if self.recording.env is not None:
            print(describe_frames(self.recording))
        shards = record(self.recording, shares, self.out, workers=self.workers)
        print(f"recorded {len(shards)} shards in {self.out}")

    def _find_space(self) -> Any:
        """Return the action space of an environment; None for Procgen."""
        from genie_gym.data.env_games import find_action_space

        return None if self.recording.env is None else find_action_space(self.recording)


@dataclass(frozen=True, kw_only=True)
class ConvertCommand:
    """Convert videos into shards that training streams; run again, it converts what is missing or has changed."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """video files, folders that are searched with their subfolders, and folders of LeRobot datasets"""
    out: Path
    """folder to write the shards into"""
    workers: int | None = None
    """number of converting processes; by default one for each core"""
    conversion: Annotated[ConvertConfig, tyro.conf.arg(name="")] = field(default_factory=ConvertConfig)
    """frames to make of the videos"""

    def run(self) -> None:
        """Convert the videos and say what was cropped, left out and too short."""
        from genie_gym.data.convert import convert

        print("\n".join(convert(self.videos, self.out, self.conversion, self.workers).lines))


@dataclass(frozen=True, kw_only=True)
class _DemoOptions:
    """The options that ``demo`` and ``prompt`` share."""

    checkpoint: str = "coinrun"
    """name of a shipped checkpoint, folder of one, or hf://USER/REPO"""
    frames: int = 24
    """number of frames generated for each latent action"""
    seed: int = 0
    """seed of all drawing and sampling"""
    device: str = "cpu"
    """torch device to play on"""
    out: Path = Path("out")
    """folder to write the pictures and the GIF into"""


@dataclass(frozen=True, kw_only=True)
class DemoCommand(_DemoOptions):
    """Hold each latent action from one start clip; write a picture and a GIF of the frames."""

    prompt: str | None = None
    """path of a picture or video to start from; by default a shipped start clip is drawn"""
    maskgit_steps: int | None = None
    """number of MaskGIT steps per frame; by default the checkpoint's"""
    seed: int = 34
    """seed of the start clip and the sampling; 34 draws a shipped clip with room on either side"""

    def run(self) -> None:
        """Play and write both files."""
        from genie_gym.envs.demo import play_demo

        settings: dict[str, Any] = {"checkpoint": self.checkpoint, "prompt": self.prompt, "device": self.device}
        rate = play_demo(self.out, self.frames, self.seed, maskgit_steps=self.maskgit_steps, **settings)
        print(f"{rate:.0f} frames/s, all actions at once; see {self.out / 'demo.png'} and {self.out / 'demo.gif'}")


@dataclass(frozen=True, kw_only=True)
class BenchCommand:
    """Measure the speed of playing and training, relative to this machine's matrix multiplication; takes minutes."""

    json: Path | None = None
    """JSON file with a row for each kind of machine; this machine's row is written"""
    bench: Annotated[BenchConfig, tyro.conf.arg(name="")] = field(default_factory=BenchConfig)
    """worlds and settings to measure"""

    def run(self) -> None:
        """Measure, print and write the results."""
        from rich.console import Console

        from genie_gym.bench.report import print_results
        from genie_gym.bench.run import run_bench
        from genie_gym.results.files import read_machines, require_writable, write_by_machine

        console = Console()
        if self.json is not None:
            require_writable(self.json)
            read_machines(self.json)  # refuses a file of other results
        results = run_bench(self.bench, lambda stage: console.print(f"... {stage}"))
        print_results(console, results)
        if self.json is not None:
            write_by_machine(self.json, results)


@dataclass(frozen=True, kw_only=True)
class DoctorCommand:
    """Say what this machine plays in and how fast, and what is broken: one screen, for bug reports."""

    checkpoint: str = "coinrun"
    """name of a shipped checkpoint, folder of one, or hf://USER/REPO"""
    device: str = "cpu"
    """torch device to play on"""
    seconds: float = 3.0
    """time for measuring the speed in seconds; a step is timed at least three times"""

    def run(self) -> None:
        """Print a line for each finding."""
        from genie_gym.doctor import examine

        require(0 < self.seconds < math.inf, "--seconds", self.seconds, "positive")
        for name, value in examine(self.checkpoint, self.device, self.seconds):
            print(f"{name:<11}{value}".replace("\n", f"\n{'':11}"), flush=True)


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Evaluate a world on levels not seen in training, beside its baselines; takes minutes."""

    evaluation: Annotated[EvaluateConfig, tyro.conf.arg(name="")] = field(default_factory=EvaluateConfig)
    """world, levels and metrics to evaluate"""
    json: Path | None = None
    """JSON file to write the results to"""
    picture: Path = Path("out/evaluate.png")
    """PNG file of real, reconstructed and generated clips, and of frames under each latent action"""

    def run(self) -> None:
        """Evaluate, print and write the results."""
        from rich.console import Console

        from genie_gym.metrics.report import draw_picture, print_scores, show_progress
        from genie_gym.metrics.run import run_evaluation
        from genie_gym.results.files import require_writable, write_results

        console = Console()
        for path in filter(None, (self.json, self.picture)):
            require_writable(path)
        with show_progress(console) as report:
            results, evaluated = run_evaluation(self.evaluation, report)
        print_scores(console, results)
        draw_picture(self.picture, evaluated)
        console.print(f"see {self.picture}")
        if self.json is not None:
            write_results(self.json, results)


@dataclass(frozen=True, kw_only=True)
class NameActionsCommand:
    """Show what each latent action does from many starts, propose names, and save them with the checkpoint."""

    checkpoint: tyro.conf.Positional[str] = "coinrun"
    """name of a shipped checkpoint, or its folder"""
    names: tuple[str, ...] = ()
    """names to save instead of those proposed, one for each latent action in order"""
    accept: bool = False
    """save the proposed names without asking at the terminal"""
    starts: int = 24
    """number of start clips"""
    frames: int = 16
    """number of frames that each latent action is held for, enough for a jump to land"""
    picture: Path = Path("out/actions.png")
    """PNG file to write a row of frames for each latent action to"""
    device: str = "cpu"
    """torch device to play on"""
    seed: int = 0
    """seed of the token sampling"""

    def run(self) -> None:
        """Show the actions, ask for their names and save them."""
        from genie_gym.metrics.naming import propose_names
        from genie_gym.models.hub import require_own
        from genie_gym.models.loading import name_checkpoint
        from genie_gym.results.files import require_writable
        from genie_gym.serving import load_world

        require_own(self.checkpoint)
        require_writable(self.picture)
        world = load_world(self.checkpoint, self.device)
        proposed = propose_names(world, self.starts, self.frames, self.seed, self.picture)
        print(f"see {self.picture}")
        names = self.names or proposed
        if not self.names and not self.accept:
            if not sys.stdin.isatty():
                print("\n".join(f"{action} {name}" for action, name in enumerate(proposed)))
                print("not saved: --accept saves these names, --names NAME NAME ... others")
                return
            names = tuple(input(f"{action} [{name}]: ").strip() or name for action, name in enumerate(proposed))
        folder = name_checkpoint(self.checkpoint, names)
        print(f"saved in {folder}: {', '.join(f'{action} {name}' for action, name in enumerate(names))}")


@dataclass(frozen=True, kw_only=True)
class PlayCommand:
    """Play a world with the keyboard, on a page in the browser or in a window, or replay a saved trajectory."""

    config: Annotated[PlayConfig, tyro.conf.arg(name="")] = field(default_factory=PlayConfig)
    """world and prompt to play"""
    replay: Path | None = None
    """JSON file of a trajectory whose frames are generated again, instead of playing"""
    window: bool = False
    """play in a window instead of a page, and save play.gif and play.json when it is closed"""
    host: str = LOOPBACK
    """address that the page listens on; any but 127.0.0.1 (this machine only) needs --token"""
    port: int = 8000
    """port of the web page"""
    token: str | None = None
    """secret that visitors must append to the page's address as #token=..."""
    out: Path = Path("out")
    """folder to write play.gif, play.json and the prompt's prompt.png into"""

    def run(self) -> None:
        """Play or replay."""
        from genie_gym.play import run as pages
        from genie_gym.play.setup import prepare_play

        if self.replay is not None:
            frames = pages.write_replay(self.config.checkpoint, self.config.device, self.replay, self.out)
            print(f"{frames} frames: see {self.out / 'play.gif'}")
            return
        pages.require_address(self.host, self.port, self.token)
        if not self.window:
            pages.require_server()
        setup = prepare_play(self.config)
        if setup.prompt is not None:
            print(f"{setup.prompt.fitting}: see {pages.write_prompt(setup.prompt, self.out)}")
        if self.window:
            pages.play_in_window(setup, self.out, print)
            print(f"see {self.out / 'play.gif'}; genie-gym play --replay {self.out / 'play.json'} replays it")
        else:
            fragment = "" if self.token is None else f"#token={quote(self.token, safe='')}"
            print(f"open http://{self.host}:{self.port}/{fragment} in a browser; press Ctrl-C to end")
            pages.play_in_browsers(setup, self.host, self.port, self.token)


@dataclass(frozen=True, kw_only=True)
class PromptCommand(_DemoOptions):
    """Show a picture, a video or a text as the world sees it, and what each latent action does from there."""

    prompt: tyro.conf.Positional[str]
    """path of a picture or video, or a text"""
    text_to_image: str | None = None
    """model that draws a text: diffusers, diffusers(MODEL), or path/to/file.py:factory(argument)"""
    fit: Fit = "crop"
    """method that changes a picture's aspect ratio to the world's"""
    open: bool = False
    """play from the prompt on the page of genie-gym play, instead of writing the demo"""

    def run(self) -> None:
        """Fit the prompt, print how it was fitted, and play from it."""
        from genie_gym.envs.demo import play_demo
        from genie_gym.play.run import write_prompt
        from genie_gym.play.setup import prepare_play

        where: dict[str, Any] = {"checkpoint": self.checkpoint, "device": self.device}
        config = PlayConfig(prompt=self.prompt, text_to_image=self.text_to_image, fit=self.fit, seed=self.seed, **where)
        fitted = prepare_play(config).prompt
        assert fitted is not None
        print(f"{fitted.fitting}: see {write_prompt(fitted, self.out)}")
        if self.open:
            PlayCommand(config=config, out=self.out).run()
            return
        play_demo(self.out, self.frames, self.seed, prompt=fitted.frames, **where)
        print(f"see {self.out / 'demo.png'} and {self.out / 'demo.gif'}")


COMMANDS: dict[str, Any] = {
    "record": RecordCommand,
    "plan": PlanCommand,
    "curate": CurateCommand,
    "convert": ConvertCommand,
    "train": TrainCommand,
    "export": ExportCommand,
    "evaluate": EvaluateCommand,
    "convert-i3d": ConvertI3dCommand,
    "name-actions": NameActionsCommand,
    "label": LabelCommand,
    "demo": DemoCommand,
    "play": PlayCommand,
    "prompt": PromptCommand,
    "checkpoints": CheckpointsCommand,
    "push": PushCommand,
    "bench": BenchCommand,
    "doctor": DoctorCommand,
}
"""Name of each command -> its class."""
WITH_PRESET = ("plan", "train")
"""Commands that start from a preset."""


def _require_command(name: str) -> None:
    """Check that a word is a command; the ``ValueError`` names the commands like it, or all if none is."""
    if name and not name.startswith("-") and name not in COMMANDS:
        meant = difflib.get_close_matches(name, COMMANDS)
        raise ValueError(f"there is no command {name!r}; did you mean {' or '.join(meant or COMMANDS)}?")


def main() -> None:
    """Run the command line; a failure ends it with one line."""
    with tell_failures("genie-gym"):
        name, *arguments = sys.argv[1:] or ("",)
        if name == "--version":
            print(f"genie-gym {__version__}")
            return
        _require_command(name)
        with plain_rules():
            if name in WITH_PRESET:
                command = parse_with_preset(COMMANDS[name], arguments, f"genie-gym {name}")
            else:
                command = tyro.extras.subcommand_cli_from_dict(COMMANDS)
        require_paths_on_disk(command)
        command.run()


if __name__ == "__main__":
    main()
