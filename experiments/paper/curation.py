"""The paper's curation (appendix B) on clips of three kinds: game play, menus and titles, camera footage.

    python -m experiments.paper.curation --preset full

Game play is recorded in Procgen's games; some of it has a line of text over it. Menus and camera footage are generated,
some of them over stopped games and of filmed screens that show a game. All are lossless videos of 64 x 64 pixels, so
that no codec tells them apart. The kind of a video stands in for a person's rating: game play is 5, the rest is 1.

Beside the classifier stands a linear one on seven numbers of a clip, which shows how easy these clips are. With
``--camera`` and ``--recordings``, real videos that the classifier has never seen anything like are scored, too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from experiments.lib.generated_videos import draw_menu, film_scene, overlay_score
from genie_gym.curation.classifier import ClipClassifier, Examples, fit_classifier, load_classifier, read_examples
from genie_gym.curation.clips import iterate_clips
from genie_gym.curation.config import ClassifierConfig
from genie_gym.curation.ratings import Rating, Ratings
from genie_gym.curation.scores import Scored, choose_threshold, score_rule, split_videos
from genie_gym.curation.selection import select_clips
from genie_gym.data.clips import ClipDataset
from genie_gym.data.config import RecordConfig
from genie_gym.data.manifest import Chosen, read_manifest
from genie_gym.data.procgen import GAMES
from genie_gym.data.record import record
from genie_gym.data.shards import Shard
from genie_gym.data.video import VIDEO_SUFFIXES, write_video
from genie_gym.players.specs import parse_shares
from genie_gym.results.experiment import Experiment

_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"games": 4, "videos_a_game": 3, "others": 8, "clips": 2, "clip_frames": 16},
    "full": {"games": 16, "videos_a_game": 3, "others": 36, "clips": 3, "clip_frames": 160},
}
"""Sizes by preset: ``games``, videos of each, videos of each other kind, ``clips`` a video and their frames."""
_TRAINING: dict[str, dict[str, Any]] = {
    "smoke": {"train_steps": 20, "channels": 8, "precision": 0.0},
    "full": {"train_steps": 120, "channels": 64, "precision": 0.95},
}
_SEEDS, _FOLDS = 3, 2
_FPS = 10.0
_HARD = 4  # every fourth video is a hard case of its kind
_REAL_FRAMES = 40  # frames of a clip of a real video, which are short


@dataclass(frozen=True, kw_only=True)
class CurationExperiment(Experiment):
    """Make the videos, train classifiers on several splits, and score them on videos and games left out."""

    name = "curation"
    camera: Path | None = None
    """folder of real camera footage to score, too"""
    recordings: Path | None = None
    """folder of real screen recordings to score, too"""

    def run(self) -> None:
        """Write the videos, the scores and the manifest."""
        size, folder = _SIZES[self.preset], self.run_folder
        games = GAMES[: size["games"]]
        self._write_videos(games, folder / "videos")
        ratings = rate_by_kind(folder / "videos", folder / "ratings.json", size["clips"], size["clip_frames"])
        kinds = [_read_kind(each.path) for each in ratings.given]
        counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
        results: dict[str, Any] = {
            **size,
            **_TRAINING[self.preset],
            "games": games,
            "clips_by_kind": counts,
            "fps": _FPS,
            "splits": [],
        }
        examples = read_examples(ratings, self._configure(self.seed))[0]
        for seed in range(self.seed, self.seed + _SEEDS):
            config = self._configure(seed)
            trained, scores = fit_classifier(ratings, config, folder / f"classifier-{seed}", self.device)
            sides = split_videos(examples.videos.tolist(), examples.is_good, (0.6, 0.2, 0.2), seed)
            row = {"seed": seed, **scores["test"], "kept_by_kind": _keep_by_kind(trained, examples.select(sides[2]))}
            results["splits"].append({**row, "linear": score_linear(examples, sides, config.precision)})
            print(results["splits"][-1])
            self.write(results)
        results["manifest"] = self._select(ratings, folder)
        results["real"] = self._score_real(folder / f"classifier-{self.seed}")
        self.write(results)
        results["unseen_games"] = list(self._leave_games_out(ratings, examples, games, folder))
        self.write(results)

    def _configure(self, seed: int) -> ClassifierConfig:
        return ClassifierConfig(seed=seed, **_TRAINING[self.preset])

    def _write_videos(self, games: tuple[str, ...], folder: Path) -> None:
        """Write the videos that are missing; names begin with the kind, and those of hard cases say so."""
        folder.mkdir(parents=True, exist_ok=True)
        size, recorded = _SIZES[self.preset], {}
        length = size["clips"] * size["clip_frames"]
        for game in games:
            recorded[game] = self._record(game, size["videos_a_game"] + 1, length)
        number = 0
        for game, play in recorded.items():
            for video in play[:-1]:
                rng, hard = np.random.default_rng([self.seed, 0, number]), number % _HARD == 0
                path = folder / f"game-{game}-{number:03d}{'-text' if hard else ''}.mp4"
                if not path.exists():
                    write_video(path, overlay_score(rng, video) if hard else video, _FPS)
                number += 1
        spare = [play[-1] for play in recorded.values()]  # game play that no game video shows
        for number in range(size["others"]):
            screen = spare[number % len(spare)] if number % _HARD == 0 else None
            still = None if screen is None else screen[number]
            path = folder / f"menu-{number:03d}{'' if still is None else '-paused'}.mp4"
            if not path.exists():
                write_video(path, draw_menu(np.random.default_rng([self.seed, 1, number]), length, still), _FPS)
            path = folder / f"camera-{number:03d}{'' if screen is None else '-screen'}.mp4"
            if not path.exists():
                write_video(path, film_scene(np.random.default_rng([self.seed, 2, number]), length, screen), _FPS)

    def _record(self, game: str, videos: int, length: int) -> np.ndarray:
        """Return play (videos, length, 64, 64, 3) of a game by a sticky random player."""
        config = RecordConfig(game=game, frames=videos * length, num_envs=videos, seed=self.seed)
        (path,) = record(config, parse_shares(["sticky"]), self.run_folder / "recorded" / game, progress=False)
        return Shard(path).read(0, videos * length).reshape(videos, length, 64, 64, 3)

    def _select(self, ratings: Ratings, folder: Path) -> dict[str, Any]:
        """Select from the test videos of the first split, and return what the manifest holds and training reads."""
        videos = np.array([str(each.path) for each in ratings.given])
        is_good = np.array([each.rating == 5 for each in ratings.given])
        tested = sorted(set(videos[split_videos(videos.tolist(), is_good, (0.6, 0.2, 0.2), self.seed)[2]]))
        out = folder / "kept.jsonl"
        found = select_clips([Chosen(Path(path)) for path in tested], folder / f"classifier-{self.seed}", out)
        kept = [_read_kind(each.path) for each in read_manifest(out) for _ in each.spans or ()]
        dataset = ClipDataset(out)
        about = {"kept_by_kind": {kind: kept.count(kind) for kind in sorted(set(kept))}, "frames": dataset.num_frames}
        return {**found._asdict(), **about, "training_clips": len(dataset)}

    def _leave_games_out(
        self, ratings: Ratings, examples: Examples, games: tuple[str, ...], folder: Path
    ) -> Iterator[dict[str, Any]]:
        """Yield the recall on games that a classifier has not seen, for each half of the games."""
        names = np.array([Path(path).name.split("-")[1] for path in examples.videos])
        for fold in range(_FOLDS):
            out = sorted(games[fold::_FOLDS])
            seen = Ratings(ratings.path)
            seen.given = [each for each in ratings.given if each.path.name.split("-")[1] not in out]
            trained, _ = fit_classifier(seen, self._configure(self.seed), folder / f"without-{fold}", self.device)
            unseen, name = examples.select(np.isin(names, out)), names[np.isin(names, out)]
            scored = Scored(trained.rate(unseen.frames), unseen.is_good, np.unique(name, return_inverse=True)[1])
            scores = score_rule(scored, trained.threshold)
            row = {"games": out, "clips": scores["clips"], "kept": scores["kept"], "recall": scores["recall"]}
            print(row)
            yield row

    def _score_real(self, folder: Path) -> dict[str, Any]:
        """Return the confidences in real videos, for the folders that are given."""
        trained = load_classifier(folder)
        results: dict[str, Any] = {"threshold": trained.threshold}
        for kind, place in (("camera", self.camera), ("recordings", self.recordings)):
            if place is not None:
                files = sorted(path for path in place.iterdir() if path.suffix in VIDEO_SUFFIXES)
                rated = {path.name: rate_start(trained, path) for path in files}
                long = {name: confidence for name, confidence in rated.items() if confidence is not None}
                kept = sum(confidence >= trained.threshold for confidence in long.values())
                results[kind] = {"videos": len(rated), "long_enough": len(long), "kept": kept}
                if kind == "recordings":
                    results[kind]["confidences"] = long
        return results


def rate_by_kind(folder: Path, path: Path, clips: int, clip_frames: int) -> Ratings:
    """Write ratings of all clips of all videos in ``folder``: 5 for game play, 1 for the rest."""
    path.unlink(missing_ok=True)
    ratings = Ratings(path, _FPS)
    for video in sorted(folder.glob("*.mp4")):
        for start in range(0, clips * clip_frames, clip_frames):
            ratings.add(Rating(video, (start, start + clip_frames), 5 if _read_kind(video) == "game" else 1))
    return ratings


def score_linear(examples: Examples, sides: list[np.ndarray], precision: float) -> dict[str, Any]:
    """Score a logistic regression on the means and spreads of the colours and the mean change between shown frames."""
    frames = examples.frames.astype(np.float64) / 255
    spread, change = frames.std(axis=(1, 2, 3)), np.abs(np.diff(frames, axis=1)).mean(axis=(1, 2, 3, 4))
    facts = torch.from_numpy(np.concatenate([frames.mean(axis=(1, 2, 3)), spread, change[:, None]], axis=1))
    facts = (facts - facts[sides[0]].mean(0)) / facts[sides[0]].std(0)
    labels, weights = (
        torch.from_numpy(examples.is_good).double(),
        torch.zeros(8, dtype=torch.float64, requires_grad=True),
    )
    optimizer = torch.optim.LBFGS([weights], max_iter=200)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = facts[sides[0]] @ weights[:7] + weights[7]
        error = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels[sides[0]])
        error = error + 1e-3 * weights.square().sum()
        error.backward()
        return error

    optimizer.step(loss)
    confidences = (facts @ weights[:7] + weights[7]).sigmoid().detach().numpy()
    videos = np.unique(examples.videos, return_inverse=True)[1]
    scored = [Scored(confidences[side], examples.is_good[side], videos[side]) for side in sides]
    try:
        threshold = choose_threshold(scored[1], precision)
    except ValueError as error:
        return {"error": str(error)}
    return score_rule(scored[2], threshold)


def rate_start(trained: ClipClassifier, path: Path) -> float | None:
    """Return the confidence in the first 40 frames of a video, in the file's own frames; None if it is shorter."""
    config = trained.config
    clips = iterate_clips(Chosen(path), _REAL_FRAMES, config.frames, (config.height, config.width))
    first = next(clips, None)
    return None if first is None else round(float(trained.rate(first.frames[None])[0]), 4)


def _read_kind(path: Path) -> str:
    return path.name.split("-")[0]


def _keep_by_kind(trained: ClipClassifier, examples: Examples) -> dict[str, dict[str, int]]:
    """Return how many clips of each kind, and of its hard cases, there are, and how many are kept."""
    kept, counts = trained.rate(examples.frames) >= trained.threshold, dict[str, dict[str, int]]()
    for path, is_kept in zip(examples.videos, kept, strict=True):
        name, kind = Path(path).stem, _read_kind(Path(path))
        hard = name.rsplit("-", 1)[-1]
        row = counts.setdefault(kind if hard.isdigit() else f"{kind}, {hard}", {"clips": 0, "kept": 0})
        row["clips"] += 1
        row["kept"] += int(is_kept)
    return dict(sorted(counts.items()))


if __name__ == "__main__":
    tyro.cli(CurationExperiment).run()
