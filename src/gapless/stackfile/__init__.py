"""The one file: TOML text to a ``Stack``. Nobody else knows the format.

``source``      bytes to text to a TOML tree; what is wrong with the text itself
``places``      on which line each key stands
``overlays``    ``[for.NAME]`` over the base, and where each value came from
``report``      faults with file, line, text and table
``shape``       the model as a tree of tables and keys
``unknown``     keys and values: unknown, misplaced, or of the language but not of this version
``faults``      what the model finds wrong, in our words
``references``  ``${name.attribute}`` and its kin
``mentions``    every place of the file that holds text, and which placeholders may stand there
``checks``      what only the whole can tell: routes, names, drills, secrets, warnings
``loader``      all of it in order: ``load`` and ``parse``
``schema``      the JSON Schema · ``reference`` ``gapless docs``
``write``       values and whole files as text
``detect``      what a folder holds · ``init`` a first file for it

Importing this imports no pydantic: that happens when a file is read.
"""

from gapless.stackfile.loader import Loaded, load, parse

__all__ = ["Loaded", "load", "parse"]
