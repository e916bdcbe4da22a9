"""How the book is made; nothing else in stackkit imports this package.

``setup_env`` and ``build`` are what `make book` runs; ``labs`` makes notebooks from percent
scripts; ``extension`` is the Sphinx side: ``numbers`` (roles that print facts and computed values
with their sources), ``stack`` (strip, picture and tables of the layers), ``plotly_mime`` (figures
without another host), ``theme`` (assets and repairs of the theme), ``freshness`` (what a page
depends on). ``prose`` finds numbers that somebody typed.
"""

REPOSITORY = "https://github.com/prompt-to-silicon/prompt-to-silicon"
