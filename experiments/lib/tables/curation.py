"""The table of the experiment on curation."""

from typing import Any

from experiments.lib.tables.markdown import write_command, write_interval, write_table

_PARTS = ("precision", "recall", "all_kept")


def tabulate_curation(results: dict[str, Any]) -> str:
    """Return precision and recall by split, and what was kept by kind, of unseen games and of real videos."""
    splits, counts = results["splits"], results["clips_by_kind"]
    rows = []
    for split in splits:
        for name, scores in (("ResNet-18", split), ("seven numbers", split["linear"])):
            clips = f"{split['clips']} ({split['good']}) of {split['videos']}"
            cells = [_write_share(scores.get(part)) for part in _PARTS[:2]]
            rows.append([str(split["seed"]), name, clips, str(scores.get("kept", "-")), *cells])
    everything = _write_share(splits[0]["all_kept"])
    listed = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    about = (
        f"{sum(counts.values())} clips of {results['clip_frames']} frames ({listed}); test videos of three random "
        f"splits ({write_command(results)}, commit `{results['commit']}`, {results['machine']['cpu']}). Keeping "
        f"everything has a precision of {everything} in the first."
    )
    heads = ["split", "classifier", "clips (good) of videos", "kept", "precision [95 %]", "recall [95 %]"]
    return f"{about}\n\n{write_table(heads, rows)}\n\n{_describe_kinds(splits)}\n{_describe_others(results)}"


def _write_share(score: dict[str, Any] | None) -> str:
    return "-" if score is None or score["share"] is None else write_interval(score, "share")


def _describe_kinds(splits: list[dict[str, Any]]) -> str:
    kinds = sorted({kind for split in splits for kind in split["kept_by_kind"]})
    totals = []
    for kind in kinds:
        rows = [split["kept_by_kind"][kind] for split in splits if kind in split["kept_by_kind"]]
        totals.append(f"{kind} {sum(row['kept'] for row in rows)} of {sum(row['clips'] for row in rows)}")
    return f"Kept by kind, all splits: {'; '.join(totals)}."


def _describe_others(results: dict[str, Any]) -> str:
    unseen = [
        f"{row['kept']} of {row['clips']} ({_write_share(row['recall'])}, counting games)"
        for row in results["unseen_games"]
    ]
    manifest, real = results["manifest"], results["real"]
    kept = ", ".join(f"{number} {kind}" for kind, number in manifest["kept_by_kind"].items())
    lines = [
        f"Kept of play in eight games that the classifier has not seen, for either half: {'; '.join(unseen)}.",
        f"`select` on the first split's test videos kept {manifest['kept']} of {manifest['clips']} clips ({kept}).",
    ]
    names = {"camera": "real camera footage", "recordings": "real screen recordings"}
    for key, name in names.items():
        if key in real:
            lines.append(f"Kept of {name}: {real[key]['kept']} of {real[key]['long_enough']} videos.")
    return "\n".join(lines)
