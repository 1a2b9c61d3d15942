"""Put the output of the sample run into the README, so that every figure in it comes from that run.

Usage: ``python pipelines/update_readme.py`` after ``make run``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHOWN = {"output": ["run", "sample"], "peers": ["peers", "AAPL", "-k", "5"]}


def main() -> None:
    """Replace the text between each pair of markers by the output of its command."""
    readme = ROOT / "README.md"
    text = readme.read_text()
    for marker, arguments in SHOWN.items():
        command = [sys.executable, "-m", "companysim", *arguments]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
        lines = [line.rstrip() for line in printed.strip().splitlines()]
        block = f"<!-- {marker} -->\n```text\n" + "\n".join(lines) + f"\n```\n<!-- /{marker} -->"
        text, count = re.subn(rf"<!-- {marker} -->.*<!-- /{marker} -->", lambda _, b=block: b, text, flags=re.DOTALL)
        assert count == 1, marker
    readme.write_text(text)
    shutil.copy(ROOT / "runs" / "sample" / "figure.png", ROOT / "docs" / "sample.png")


if __name__ == "__main__":
    main()
