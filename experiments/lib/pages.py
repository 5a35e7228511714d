"""Code of pages as a program: the blocks of a Markdown text in order, those for a shell as calls of bash."""

import re

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
"""A block of code: its language and its text."""
_SHELL = """
import subprocess as _subprocess
_subprocess.run(["bash", "-euc", {script!r}], check=True)
"""
RUNNABLE = ("python", "bash")
"""Languages of the blocks that can be run."""


def find_blocks(text: str) -> list[tuple[str, str]]:
    """Return the language and the text of every block of a Markdown text, in order."""
    return BLOCK.findall(text)


def write_block(language: str, text: str) -> str:
    """Return a block of one of the ``RUNNABLE`` languages as Python."""
    return text if language == "python" else _SHELL.format(script=text)
