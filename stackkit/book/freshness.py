"""What a page depends on besides its own text: the library and the atlas.

myst-nb keys its cache of executed cells by the cell's text alone, and Sphinx re-reads a page only
when its file changes. So the key of all Python, TOML and JSON of stackkit goes into a configuration
value (a change re-reads every page) and into the path of the cell cache (a change runs them).
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

PACKAGE = Path(__file__).resolve().parents[1]


def inputs_key(package: Path = PACKAGE) -> str:
    """A hash of every source and data file that can change what a page prints."""
    digest = hashlib.sha256()
    paths = (path for kind in ("*.py", "*.toml", "*.json") for path in package.rglob(kind))
    for path in sorted(paths):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def key_the_cache(app: Sphinx, config: Config) -> None:
    """Let neither Sphinx nor myst-nb reuse what an older library or atlas said."""
    config.stackkit_inputs = inputs_key()
    caches = Path(app.outdir).parent / ".cells"
    config.nb_execution_cache_path = str(caches / config.stackkit_inputs)
    for old in caches.glob("*"):
        if old.name != config.stackkit_inputs:
            shutil.rmtree(old)


def setup(app: Sphinx) -> None:
    app.add_config_value("stackkit_inputs", "", "env")
    app.connect("config-inited", key_the_cache)
