"""``python -m companysim``."""

from companysim.cli import main

main()
