"""A network as a file for the C runtime, in a folder with that runtime's sources.

The sources are those that Python's own back end is compiled from. docs/native-format.md describes
the file. Imports what `export` may.
"""

from ftwt.export.native.folder import write_native

__all__ = ["write_native"]
