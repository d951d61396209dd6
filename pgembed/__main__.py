"""``python -m pgembed``: the command line where the script is not on the path."""

from pgembed.cli import main

main()
