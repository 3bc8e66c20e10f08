"""gapless: one file says what runs, one command runs it, and every promise has its proof."""

__version__ = "0.1.0"
