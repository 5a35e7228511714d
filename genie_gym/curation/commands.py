"""The commands of ``genie-gym curate``; importing them loads no torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from genie_gym.curation.config import ClassifierConfig, RateConfig
from genie_gym.play.config import LOOPBACK


@dataclass(frozen=True, kw_only=True)
class FilterCommand:
    """Keep the videos whose titles and descriptions, as yt-dlp writes them beside each, fit keyword rules."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """folders of videos with a NAME.info.json beside each NAME.mp4"""
    out: Path
    """manifest to write, a .jsonl file; genie-gym train and the other curate commands read it"""
    rules: Path | None = None
    """JSON file of rules; by default the paper's"""

    def run(self) -> None:
        """Apply the rules, write the manifest and print what was dropped."""
        from genie_gym.curation.rules import PAPER_RULES, filter_videos, read_rules
        from genie_gym.data.manifest import require_manifest, write_manifest
        from genie_gym.results.files import require_writable

        require_manifest(self.out)
        require_writable(self.out)
        rules = PAPER_RULES if self.rules is None else read_rules(self.rules)
        kept, dropped = filter_videos(self.videos, rules)
        for reason, count in dropped.most_common():
            print(f"{count:>8} dropped: {reason}")
        about = {"made by": "genie-gym curate filter", "rules": [rule._asdict() for rule in rules]}
        write_manifest(self.out, kept, None, about)
        print(f"{len(kept):>8} kept: see {self.out}")


@dataclass(frozen=True, kw_only=True)
class RateCommand:
    """Rate clips from 1 (bad) to 5 (good) on a page in the browser; every rating is saved at once."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """folders of videos, or manifests"""
    ratings: Path
    """JSON file of ratings; one that exists is continued"""
    port: int = 8001
    """port of the page, which only this machine can reach"""
    config: Annotated[RateConfig, tyro.conf.arg(name="")] = field(default_factory=RateConfig)
    """clips to show"""

    def run(self) -> None:
        """Serve the page until interrupted."""
        from genie_gym.curation.clips import list_videos
        from genie_gym.curation.deck import Deck
        from genie_gym.curation.ratings import Ratings
        from genie_gym.extras import need_extra
        from genie_gym.play.run import require_address
        from genie_gym.results.files import require_writable

        require_address(LOOPBACK, self.port, None)
        require_writable(self.ratings)
        with need_extra("play", "Rating on a page needs its server"):
            import uvicorn

            from genie_gym.curation.page import build_rating_app
        deck = Deck(list_videos(self.videos), Ratings(self.ratings, self.config.fps), self.config)
        print(f"open http://{LOOPBACK}:{self.port}/ in a browser; press Ctrl-C to end")
        uvicorn.run(build_rating_app(deck), host=LOOPBACK, port=self.port, log_level="warning")


@dataclass(frozen=True, kw_only=True)
class FitCommand:
    """Train a ResNet-18 on rated clips, and print its precision and recall on videos that it has not seen."""

    ratings: tyro.conf.Positional[Path]
    """JSON file of ratings from genie-gym curate rate"""
    out: Path
    """folder of the classifier and of its training run"""
    device: str = "cpu"
    """torch device to train on"""
    config: Annotated[ClassifierConfig, tyro.conf.arg(name="")] = field(default_factory=ClassifierConfig)
    """ratings to learn from, size and training of the network, and the wanted precision"""

    def run(self) -> None:
        """Train, choose the threshold, and print the scores."""
        from genie_gym.curation.classifier import fit_classifier
        from genie_gym.curation.ratings import Ratings
        from genie_gym.results.files import require_writable

        if not self.ratings.is_file():
            raise ValueError(f"ratings {self.ratings}: no such file")
        require_writable(self.out / "config.json")
        classifier, scores = fit_classifier(Ratings(self.ratings), self.config, self.out, self.device)
        for part, score in scores.items():
            print(f"{part}: {score['clips']} clips of {score['videos']} videos, {score['good']} good")
            for name in ("precision", "recall", "all_kept"):
                print(f"  {name.replace('_', ' '):<10}{format_share(score[name])}")
        print(f"keeps clips of confidence {classifier.threshold:.3f} and more; saved in {self.out}")


@dataclass(frozen=True, kw_only=True)
class SelectCommand:
    """Score every clip of videos and write a manifest of those that a classifier keeps, for genie-gym train."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """folders of videos, or manifests"""
    classifier: Path
    """folder of a classifier from genie-gym curate fit"""
    out: Path
    """manifest to write, a .jsonl file; the same command continues an interrupted one"""
    on_broken: Literal["stop", "skip"] = "stop"
    """what happens at a video that cannot be read: the end, or a warning"""
    workers: int = 1
    """number of processes that read and score videos"""
    device: str = "cpu"
    """torch device of the network"""

    def run(self) -> None:
        """Score, write the manifest and print the counts."""
        from genie_gym.curation.clips import list_videos
        from genie_gym.curation.selection import select_clips
        from genie_gym.data.manifest import require_manifest
        from genie_gym.results.files import require_writable

        require_manifest(self.out)
        require_writable(self.out)
        skip, videos = self.on_broken == "skip", list_videos(self.videos)
        found = select_clips(videos, self.classifier, self.out, skip, self.workers, self.device)
        print(f"kept {found.kept} of {found.clips} clips of {found.videos} videos: see {self.out}")
        if found.short or found.broken:
            print(f"{found.short} videos are shorter than a clip, {found.broken} are broken and left out")


@dataclass(frozen=True, kw_only=True)
class CurateCommand:
    """Choose the clips that are worth training on (Genie, appendix B): filter, rate, fit, then select."""

    command: Annotated[
        Annotated[FilterCommand, tyro.conf.subcommand("filter")]
        | Annotated[RateCommand, tyro.conf.subcommand("rate")]
        | Annotated[FitCommand, tyro.conf.subcommand("fit")]
        | Annotated[SelectCommand, tyro.conf.subcommand("select")],
        tyro.conf.arg(name=""),
    ]
    """step of the curation"""

    def run(self) -> None:
        """Run the step."""
        self.command.run()


def format_share(score: dict[str, Any]) -> str:
    """Return a share of ``score_rule`` with its interval and the number of videos behind it."""
    if score["share"] is None:
        return "no such clips"
    low, high = score["interval"]
    return f"{score['share']:.3f} [{low:.3f}, {high:.3f}] of {score['videos']} videos"
