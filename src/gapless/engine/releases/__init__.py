"""Releases: what a deploy made of the working folder, read-only and complete, kept for rollback.

``store`` the releases of a stack · ``release`` one of them · ``select`` which files belong to one
· ``snapshot`` copying and digesting them · ``prepare`` making one runnable · ``setup`` running the
commands · ``environments`` when their outcome may be reused · ``interpreter`` which Python
· ``library`` gapless.app in them
· ``owned`` whose the files are in the end · ``work`` blocking work off the loop
"""

from gapless.engine.releases.release import Release
from gapless.engine.releases.store import Preview, Releases

__all__ = ["Preview", "Release", "Releases"]
