"""``python -m gapless``."""

from gapless.cli.main import main

main(prog_name="gapless")
