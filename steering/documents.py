"""YAML documents as plain data: read without running anything, with numbers as JSON and YAML 1.2 write them.

1. `1.0e30` and `1e-5` are numbers; YAML 1.1, which the library reads, takes them for text. `1e30` stays text, since digests look like that.
2. Whatever cannot be read is a BadInput that names the document: wrong syntax, a number or date that there is not, too deep a nesting,
   bytes that are no UTF-8.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from .errors import BadInput


class _Loader(yaml.SafeLoader):
    """The safe loader, with more forms of numbers."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(([0-9]+\.[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+|[0-9]+[eE][-+][0-9]+)$"),
    list("-+.0123456789"),
)


def read_yaml(text: str, where: str) -> Any:
    """The data in a YAML (or JSON) text. Raises BadInput that begins with `where`."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise BadInput(f"{where} is not valid YAML: {error}") from error
    except RecursionError as error:
        raise BadInput(f"{where} is nested too deeply to be read.") from error
    except (ValueError, OverflowError, TypeError) as error:
        raise BadInput(f"{where} holds a value that cannot be read: {error}.") from error


def read_yaml_file(path: Path) -> Any:
    """The data in a YAML file. Raises BadInput naming it."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}. Save it as UTF-8.") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}.") from error
    return read_yaml(text, str(path))
