"""Write the tables of README.md and of the model card from the JSON in ``results/``.

python -m experiments.readme_tables
"""

import json
from pathlib import Path
from typing import Any

from experiments.results_file import ROOT

BEGIN, END = "<!-- results -->", "<!-- /results -->"
RESULTS = ROOT / "experiments" / "results"
DOCUMENTS = (ROOT / "README.md", ROOT / "genie_gym" / "weights" / "coinrun" / "README.md")


def render() -> str:
    """The tables as Markdown."""
    test = json.loads((RESULTS / "coinrun_test.json").read_text())
    speed = json.loads((RESULTS / "training_speed.json").read_text())
    return "\n\n".join((_about(test), _figures(test), _rollout(test), _speed(speed)))


def fill(document: str, tables: str) -> str:
    """``document`` with the text between its markers replaced.

    Raises:
        ValueError: If it lacks the markers.
    """
    if BEGIN not in document or END not in document:
        raise ValueError(f"document must hold {BEGIN} and {END}")
    before, rest = document.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{tables}\n{END}{rest.split(END, 1)[1]}"


def _about(test: dict[str, Any]) -> str:
    players = " and ".join(test["players"])
    return (
        f"CoinRun {test['mode']}, {test['levels']} levels, {test['clips']} clips of 16 frames ({players}, "
        f"{' and '.join(str(part['clips']) for part in test['sets'].values())}), seed {test['seed']}, commit "
        f"`{test['commit']}`:\n`{test['command']}`"
    )


def _figures(test: dict[str, Any]) -> str:
    rows = {"all": test, **test["sets"]}
    lines = [
        "| | " + " | ".join(rows) + " |",
        "|---|" + "---|" * len(rows),
        _line("tokenizer PSNR, dB", rows, lambda part: f"{part['tokenizer']['psnr']:.2f}"),
        _line("- k-means, as many tokens and codes", rows, lambda part: f"{part['tokenizer']['kmeans_psnr']:.2f}"),
        _line("codes used of 1,024", rows, lambda part: part["tokenizer"]["codes_used"]),
        _line("latent actions used >= 2 % of 8", rows, lambda part: part["lam"]["used"]),
        _line("their perplexity", rows, lambda part: f"{part['lam']['perplexity']:.2f}"),
    ]
    for index, row in enumerate(test["delta_psnr"]):
        name = f"delta PSNR, t = {row['t']} [95 %]"
        lines.append(_line(name, rows, lambda part, index=index: _interval(part["delta_psnr"][index])))
    return "\n".join(lines)


def _rollout(test: dict[str, Any]) -> str:
    columns = {
        "psnr": "world",
        "copy_last_psnr": "copy the prompt",
        "shuffled_psnr": "another clip's latent actions",
        "random_psnr": "random latent actions",
    }
    lines = ["| roll-out from one frame, dB at t | " + " | ".join(columns.values()) + " |", "|---|---|---|---|---|"]
    lines += [f"| {row['t']} | " + " | ".join(f"{row[name]:.2f}" for name in columns) + " |" for row in test["rollout"]]
    return "\n".join(lines)


def _speed(speed: dict[str, Any]) -> str:
    matmul = f"bfloat16 matmul at {speed['matmul_tflops']['bfloat16']:.2f} TFLOP/s"
    source = f"`{speed['command']}`, commit `{speed['commit']}`"
    lines = [
        f"Training on {speed['threads']} CPU threads, {matmul} in the same run ({source}):\n",
        "| model | width | parameters | frames/s | share of the matmul rate |",
        "|---|---|---|---|---|",
    ]
    for row in speed["rows"]:
        cells = (f"{row['parameters'] / 1e6:.1f}M", f"{row['frames_per_second']:.0f}", f"{row['share_of_matmul']:.0%}")
        lines.append(f"| {row['model']} | {row['width']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _line(name: str, rows: dict[str, Any], cell: Any) -> str:  # a function of a part
    return f"| {name} | " + " | ".join(str(cell(part)) for part in rows.values()) + " |"


def _interval(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['delta_psnr']:.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Fill every document."""
    for path in DOCUMENTS:
        path.write_text(fill(Path(path).read_text(), render()))


if __name__ == "__main__":
    main()
