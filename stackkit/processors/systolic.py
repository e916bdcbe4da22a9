"""A systolic array, cycle by cycle: a matrix product in a grid of multiply-add cells.

Each cell keeps one weight. Activations move right, one cell a cycle, and partial sums move down, so
a number is read from memory once and used in a whole row of cells:

    cycles = first + (tiles - 1) * gap,    first = rows + m + rows + cols - 2

A cycle is one tick of all registers: a cell multiplies what came from its left, adds what came from
above, and passes both on. ``first`` is one tile alone: ``rows`` cycles to shift its weights in from
the top, ``m`` to take in the activations, ``rows + cols - 2`` until the last cell has worked on the
last of them. ``gap`` is the time from one tile to the next: all of ``first`` in an array that loads
only when it is empty, ``max(m, rows)`` in one that loads the next weights behind the present ones.
It knows nothing of the memory around it, which always delivers, nor of number formats.

Source: H. T. Kung, "Why Systolic Architectures?", IEEE Computer 15(1), 1982; Jouppi et al.,
"In-Datacenter Performance Analysis of a Tensor Processing Unit", ISCA 2017, arXiv 1704.04760.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_NOTHING = -1  # where no row of activations, or no weight, is at this moment


@dataclass(frozen=True, eq=False)
class SystolicRun:
    """What one product took."""

    result: np.ndarray  # (m, n)
    cycles: int  # counted until the last result left the array
    utilisation: float  # multiply-adds of the product per cell and cycle; 1 at most


@dataclass(frozen=True)
class SystolicArray:
    """A weight-stationary grid of multiply-add cells.

    Raises:
        ValueError: when ``rows`` or ``cols`` is no whole number of 1 or more.
    """

    rows: int  # along k, the dimension that is summed over
    cols: int  # along n, the columns of the result

    def __post_init__(self) -> None:
        _check_sizes(rows=self.rows, cols=self.cols)

    def peak_ops_per_s(self, clock_hz: float) -> float:
        """Operations per second when every cell works in every cycle; a multiply-add is two."""
        if not 0 < clock_hz < np.inf:
            raise ValueError(f"clock_hz must be above zero, in Hz; got {clock_hz!r}.")
        return 2 * self.rows * self.cols * clock_hz

    def cycles(self, m: int, k: int, n: int, *, double_buffered: bool = False) -> int:
        """Cycles of an (m, k) by (k, n) product, without running it.

        Raises:
            ValueError: when a size is no whole number of 1 or more.
        """
        _check_sizes(m=m, k=k, n=n)
        tiles = -(-k // self.rows) * -(-n // self.cols)
        first = self.rows + m + self.rows + self.cols - 2
        gap = max(m, self.rows) if double_buffered else first
        return first + (tiles - 1) * gap

    def utilisation(self, m: int, k: int, n: int, *, double_buffered: bool = False) -> float:
        """The fraction of all cells, over all cycles, that work on the product; padding is idle.

        Raises:
            ValueError: as ``cycles``.
        """
        cycles = self.cycles(m, k, n, double_buffered=double_buffered)
        return m * k * n / (self.rows * self.cols * cycles)

    def matmul(self, a: np.ndarray, b: np.ndarray, *, double_buffered: bool = False) -> SystolicRun:
        """Multiply ``a`` by ``b`` in the array, one cycle after another.

        The weights ``b`` are cut into tiles of (rows, cols), padded with zeros at the edges. Each
        tile stays in the grid while all ``m`` rows of ``a`` pass; the tiles of one column of tiles
        follow each other and their sums are added outside, in order.

        Args:
            a: activations, (m, k).
            b: weights, (k, n).
            double_buffered: whether cells have a second weight register, filled while they work.

        Returns:
            Whole numbers summed as int64; others in the common type of ``a`` and ``b``, each tile
            from its first row to its last. ``cycles`` is counted and equals ``self.cycles``.

        Raises:
            ValueError: when ``a`` and ``b`` are no matrices of numbers that can be multiplied.
        """
        a, b = _matrices(a, b)
        (m, k), n = a.shape, b.shape[1]
        rows, cols = self.rows, self.cols
        k_tiles, n_tiles = -(-k // rows), -(-n // cols)
        a = np.pad(a, ((0, 0), (0, k_tiles * rows - k)))
        b = np.pad(b, ((0, k_tiles * rows - k), (0, n_tiles * cols - n)))
        # What enters at the left and at the top, in order: tile by tile, the k-tiles of the first
        # n-tile first. A tile's last row of weights enters first, since it has the longest way.
        stream = np.tile(a.reshape(m, k_tiles, rows).swapaxes(0, 1), (n_tiles, 1, 1))
        tiles = b.reshape(k_tiles, rows, n_tiles, cols).transpose(2, 0, 1, 3)
        out, cycles = self._run(
            stream.reshape(-1, rows), tiles[:, :, ::-1].reshape(-1, cols), m, double_buffered
        )

        out = out.reshape(n_tiles, k_tiles, m, cols)
        total = out[:, 0]
        for k_tile in range(1, k_tiles):
            total = total + out[:, k_tile]
        result = total.swapaxes(0, 1).reshape(m, n_tiles * cols)[:, :n]
        return SystolicRun(result, cycles, m * k * n / (rows * cols * cycles))

    def _run(
        self, stream: np.ndarray, weights: np.ndarray, m: int, double_buffered: bool
    ) -> tuple[np.ndarray, int]:
        """Clock the grid until every row of the stream has come out at the bottom.

        Args:
            stream: (tiles * m, rows), a row of activations after the other.
            weights: (tiles * rows, cols), in the order in which they enter.
            m: rows of activations for each tile.
            double_buffered: load a tile as soon as the one before begins, not when it has left.

        Returns:
            The sums, (tiles * m, cols), and the number of cycles.
        """
        rows, cols = self.rows, self.cols
        row, col = np.arange(rows), np.arange(cols)
        out = np.zeros((len(stream), cols), dtype=stream.dtype)

        x, held, waiting, moving, sums = np.zeros((5, rows, cols), dtype=stream.dtype)
        turn = np.full((rows, cols), _NOTHING)  # the row of the stream that a cell works on
        target = np.full((rows, cols), _NOTHING)  # the row that a moving weight is meant for
        feeding = np.full(rows, _NOTHING)  # the skew: row r is fed r cycles after row 0,
        loading = np.full(cols, _NOTHING)  # column c is loaded c cycles after column 0

        fed = loaded = left = cycles = 0  # rows of the stream and of the weights; cycles
        while left < len(stream):
            # A tile's activations wait for its weights; its weights wait until the tile before has
            # begun (from then on its cells no longer need the second register) or has left.
            may_feed = fed < len(stream) and loaded >= (fed // m + 1) * rows
            feeding = np.append(fed if may_feed else _NOTHING, feeding[:-1])
            fed += may_feed
            tile, begun = divmod(loaded, rows)
            room = fed > (tile - 1) * m if double_buffered else left >= tile * m
            may_load = loaded < len(weights) and (begun > 0 or room)
            loading = np.append(loaded if may_load else _NOTHING, loading[:-1])
            loaded += may_load

            x = _right(x, np.where(feeding >= 0, stream[feeding, row], 0))
            turn = _right(turn, feeding)
            held = np.where((turn >= 0) & (turn % m == 0), waiting, held)  # a tile's first row
            sums = _down(sums, 0) + held * x

            moving = _down(moving, np.where(loading >= 0, weights[loading, col], 0))
            target = _down(target, np.where(loading >= 0, rows - 1 - loading % rows, _NOTHING))
            waiting = np.where(target == row[:, None], moving, waiting)

            ready = turn[-1] >= 0
            out[turn[-1, ready], col[ready]] = sums[-1, ready]
            left += int(ready[-1])
            cycles += 1
        return out, cycles


def _right(grid: np.ndarray, entering: np.ndarray) -> np.ndarray:
    """The grid one cell further right; ``entering`` is its new first column."""
    moved = np.empty_like(grid)
    moved[:, 0], moved[:, 1:] = entering, grid[:, :-1]
    return moved


def _down(grid: np.ndarray, entering: np.ndarray | int) -> np.ndarray:
    """The grid one cell further down; ``entering`` is its new first row."""
    moved = np.empty_like(grid)
    moved[0], moved[1:] = entering, grid[:-1]
    return moved


def _check_sizes(**sizes: int) -> None:
    """Refuse what cannot be a number of rows or columns."""
    for name, size in sizes.items():
        if not size >= 1 or size % 1 != 0:
            raise ValueError(f"{name} must be a whole number, 1 or more; got {size!r}.")


def _matrices(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of the type that the sums have."""
    a, b = np.asarray(a), np.asarray(b)
    for name, matrix in (("a", a), ("b", b)):
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise ValueError(
                f"{name} must be a matrix with at least one row and column; got shape "
                f"{matrix.shape}."
            )
        if matrix.dtype.kind not in "biuf":
            raise ValueError(f"{name} must hold real numbers; got {matrix.dtype}.")
    if a.shape[1] != b.shape[0]:
        raise ValueError(
            f"a must have as many columns as b has rows; got {a.shape[1]} and {b.shape[0]}."
        )
    whole = a.dtype.kind in "biu" and b.dtype.kind in "biu"
    dtype = np.int64 if whole else np.result_type(a, b)
    return a.astype(dtype), b.astype(dtype)
