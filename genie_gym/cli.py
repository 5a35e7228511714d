"""The command line ``genie-gym``. Thin: each command calls the room that does the work."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from genie_gym.bench.config import BenchConfig
from genie_gym.configs import Preset, RecordConfig
from genie_gym.data.fitting import Fit
from genie_gym.extras import MissingExtraError
from genie_gym.metrics.config import EvaluateConfig
from genie_gym.play.config import LOOPBACK, Opening


@dataclass(frozen=True, kw_only=True)
class Record:
    """Record Procgen games into lossless HDF5 shards."""

    out: Path
    """Folder of the shards."""
    players: tuple[str, ...] = ("sticky=0.8", "random=0.2")
    """SPEC=WEIGHT each: random, sticky, or path/to/file.py:factory(argument)."""
    workers: int = 1
    """Processes."""
    recording: Annotated[RecordConfig, tyro.conf.arg(name="")] = field(default_factory=RecordConfig)
    """What to record."""

    def run(self) -> None:
        """Record."""
        from genie_gym.data.record import record
        from genie_gym.players.specs import parse_shares

        shards = record(self.recording, parse_shares(self.players), self.out, workers=self.workers)
        print(f"{len(shards)} shards in {self.out}")


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a preset through both phases; called again, go on where it stopped."""

    data: tuple[Path, ...]
    """Folders of shards or videos."""
    out: Path
    """Folder of the run; its checkpoint is OUT/checkpoint."""
    preset: str = "coinrun"
    """A preset's name."""
    minutes: float | None = None
    """Stop after these, to go on later."""
    device: str = "cpu"
    """Where to train."""
    start_data: tuple[Path, ...] = ()
    """Folders of shards whose frames the checkpoint ships as starts; --data where not given."""
    start_frames: int = 32
    """How many."""
    tokenizer_steps: int | None = None
    """In place of the preset's."""
    world_steps: int | None = None
    """In place of the preset's."""

    def run(self) -> None:
        """Train."""
        from genie_gym.data.clips import ClipDataset
        from genie_gym.training.run import draw_start_frames, train_preset

        preset = self._preset()
        size = {"height": preset.world.height, "width": preset.world.width}
        dataset = ClipDataset(self.data, clip_length=preset.world_training.clip_length, **size)
        starts = ClipDataset(self.start_data, clip_length=1, **size) if self.start_data else dataset
        frames = draw_start_frames(starts, min(self.start_frames, len(starts)), preset.tokenizer_training.seed)
        checkpoint = train_preset(preset, dataset, self.out, frames, self.minutes, self.device)
        print(f"time is over; call again to go on in {self.out}" if checkpoint is None else f"saved {checkpoint}")

    def _preset(self) -> Preset:
        from genie_gym.presets import find_preset

        preset = find_preset(self.preset)
        first, second = preset.tokenizer_training, preset.world_training
        return replace(
            preset,
            tokenizer_training=replace(
                first, train_steps=first.train_steps if self.tokenizer_steps is None else self.tokenizer_steps
            ),
            world_training=replace(
                second, train_steps=second.train_steps if self.world_steps is None else self.world_steps
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Play each latent action for a while from one start frame; write a picture and a gif."""

    checkpoint: str = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    prompt: str | None = None
    """Picture or video to start from; a shipped CoinRun frame where not given."""
    frames: int = 16
    """Frames for each latent action."""
    seed: int = 0
    """Of the start frame and the sampling."""
    maskgit_steps: int | None = None
    """Passes a frame; the checkpoint's where not given."""
    device: str = "cpu"
    """Where to play."""
    out: Path = Path("out")
    """Folder of demo.png and demo.gif."""

    def run(self) -> None:
        """Play."""
        from genie_gym.envs.demo import play_demo

        settings = {"checkpoint": self.checkpoint, "prompt": self.prompt, "device": self.device}
        rate = play_demo(self.out, self.frames, self.seed, maskgit_steps=self.maskgit_steps, **settings)
        print(f"{rate:.1f} frames/s; look at {self.out / 'demo.png'} and {self.out / 'demo.gif'}")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure a world being played and models being trained, beside this machine's matrix rate; minutes."""

    json: Path | None = None
    """File of results."""
    bench: Annotated[BenchConfig, tyro.conf.arg(name="")] = field(default_factory=BenchConfig)
    """What to measure."""

    def run(self) -> None:
        """Measure, print, write."""
        from rich.console import Console

        from genie_gym.bench.report import print_results
        from genie_gym.bench.run import run_bench
        from genie_gym.results.files import require_writable, write_results

        console = Console()
        if self.json is not None:
            require_writable(self.json)
        results = run_bench(self.bench, lambda stage: console.print(f"... {stage}"))
        print_results(console, results)
        if self.json is not None:
            write_results(self.json, results)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Score a world on levels it has not seen, beside what it must beat; minutes."""

    evaluation: Annotated[EvaluateConfig, tyro.conf.arg(name="")] = field(default_factory=EvaluateConfig)
    """What to score, and on what."""
    json: Path | None = None
    """File of results."""
    picture: Path = Path("out/evaluate.png")
    """PNG of real, rebuilt and played clips, and of every latent action."""

    def run(self) -> None:
        """Score, print, write."""
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
        console.print(f"look at {self.picture}")
        if self.json is not None:
            write_results(self.json, results)


@dataclass(frozen=True, kw_only=True)
class NameActions:
    """Show what each latent action does from many starts, propose names, and save them beside the weights."""

    checkpoint: tyro.conf.Positional[str] = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    names: tuple[str, ...] = ()
    """One for each latent action, in order, in place of those proposed."""
    accept: bool = False
    """Save what is proposed; a person at a terminal is asked, and anybody else only told."""
    starts: int = 24
    """Start frames."""
    frames: int = 6
    """For how many each action is held."""
    picture: Path = Path("out/actions.png")
    """PNG with a row for each latent action."""
    device: str = "cpu"
    """Where to play."""
    seed: int = 0
    """Of the sampling."""

    def run(self) -> None:
        """Show, ask, save."""
        from genie_gym.metrics.naming import propose_names
        from genie_gym.models.loading import name_checkpoint
        from genie_gym.results.files import require_writable
        from genie_gym.serving import load_world

        require_writable(self.picture)
        world = load_world(self.checkpoint, self.device)
        proposed = propose_names(world, self.starts, self.frames, self.seed, self.picture)
        print(f"look at {self.picture}")
        names = self.names or proposed
        if not self.names and not self.accept:
            if not sys.stdin.isatty():
                print("\n".join(f"{action} {name}" for action, name in enumerate(proposed)))
                print("not saved: --accept saves these, --names NAME NAME ... others")
                return
            names = tuple(input(f"{action} [{name}]: ").strip() or name for action, name in enumerate(proposed))
        folder = name_checkpoint(self.checkpoint, names)
        print(f"saved in {folder}: {', '.join(f'{action} {name}' for action, name in enumerate(names))}")


@dataclass(frozen=True, kw_only=True)
class Play:
    """Walk in a world with the keys, on a page in the browser or in a window; what was played can be played again."""

    opening: Annotated[Opening, tyro.conf.arg(name="")] = field(default_factory=Opening)
    """What to play."""
    replay: Path | None = None
    """A JSON of what was played: nothing is opened, its frames are written again."""
    window: bool = False
    """In a window in place of a page; it writes play.gif and play.json when it is closed."""
    host: str = LOOPBACK
    """Address that the page listens on; another than this machine's own needs a token."""
    port: int = 8000
    """Of the page."""
    token: str | None = None
    """Who plays has to open the page with ?token=..."""
    out: Path = Path("out")
    """Folder of play.gif and play.json, and of prompt.png where there is a prompt."""

    def run(self) -> None:
        """Play, or play again."""
        from genie_gym.play.opening import open_world
        from genie_gym.play.run import play_again, play_in_browsers, play_in_window, require_address, write_prompt

        if self.replay is not None:
            frames = play_again(self.opening.checkpoint, self.opening.device, self.replay, self.out)
            print(f"{frames} frames: look at {self.out / 'play.gif'}")
            return
        require_address(self.host, self.port, self.token)
        opened = open_world(self.opening)
        if opened.prompt is not None:
            print(f"{opened.prompt.fitting}: look at {write_prompt(opened.prompt, self.out)}")
        if self.window:
            play_in_window(opened, self.out, print)
            print(f"look at {self.out / 'play.gif'}; genie-gym play --replay {self.out / 'play.json'} plays it again")
        else:
            query = "" if self.token is None else f"?token={self.token}"
            print(f"open http://{self.host}:{self.port}/{query} in a browser; interrupt to end")
            play_in_browsers(opened, self.host, self.port, self.token)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """See a picture, a video or a text as a world sees it, and what each latent action makes of it."""

    prompt: tyro.conf.Positional[str]
    """Path of a picture or video, or a text."""
    text_to_image: str | None = None
    """Who draws a text: diffusers, diffusers(MODEL), or path/to/file.py:factory(argument)."""
    fit: Fit = "crop"
    """How a picture of another shape comes to the world's."""
    checkpoint: str = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    frames: int = 16
    """For each latent action."""
    device: str = "cpu"
    """Where to draw and play."""
    seed: int = 0
    """Of drawing and sampling."""
    out: Path = Path("out")
    """Folder of prompt.png, demo.png and demo.gif."""
    open: bool = False
    """Then play it on the page, as genie-gym play does."""

    def run(self) -> None:
        """Fit, tell, play."""
        from genie_gym.envs.demo import play_demo
        from genie_gym.play.opening import open_world
        from genie_gym.play.run import write_prompt

        opening = Opening(
            checkpoint=self.checkpoint,
            device=self.device,
            prompt=self.prompt,
            text_to_image=self.text_to_image,
            fit=self.fit,
            seed=self.seed,
        )
        fitted = open_world(opening).prompt
        assert fitted is not None
        print(f"{fitted.fitting}: look at {write_prompt(fitted, self.out)}")
        if self.open:
            Play(opening=opening, out=self.out).run()
            return
        settings = {"checkpoint": self.checkpoint, "device": self.device, "prompt": fitted.frames}
        play_demo(self.out, self.frames, self.seed, **settings)
        print(f"look at {self.out / 'demo.png'} and {self.out / 'demo.gif'}")


COMMANDS: dict[str, Any] = {
    "record": Record,
    "train": Train,
    "evaluate": Evaluate,
    "name-actions": NameActions,
    "demo": Demo,
    "play": Play,
    "prompt": Prompt,
    "bench": Bench,
}


def main() -> None:
    """The command line; user errors and missing packages end in one line and exit status 2."""
    try:
        tyro.extras.subcommand_cli_from_dict(COMMANDS).run()
    except (ValueError, MissingExtraError) as error:
        print(f"genie-gym: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
