"""The example that chapter 3 and lab 3 print: block ids, readers and the queue after each step.

Written down by hand from the rules: the queue's head is taken first; of a table that is released
the last block joins the queue first; a full block can be found until it is taken; who writes in a
block with another reader copies it first, and older requests go first.
"""

from pathlib import Path

from stackkit.frameworks import BlockPool, Sampling, Scheduler
from stackkit.frameworks.simulation import SimulatedServer

ROOT = Path(__file__).parents[2]
BEGINNING = list(range(100, 108))  # eight tokens, two blocks of four


def test_every_step_of_the_worked_example():
    pool = BlockPool(10, 4)
    server = SimulatedServer(Scheduler(pool, max_tokens=32), lambda step: 1.0)

    a = server.submit([*BEGINNING, 1, 2, 3], max_new_tokens=3)
    server.step()  # 11 tokens
    assert a.blocks == [0, 1, 2]
    assert pool.readers == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert pool.queue == [3, 4, 5, 6, 7, 8, 9]
    assert set(pool.named) == {0, 1}  # the third holds three tokens

    b = server.submit([*BEGINNING, 7, 8], max_new_tokens=9)
    server.step()  # A's 12th token fills block 2
    assert (a.blocks, b.blocks) == ([0, 1, 2], [0, 1, 3])
    assert b.n_cached == 8
    assert pool.readers == [2, 2, 1, 1, 0, 0, 0, 0, 0, 0]
    assert pool.queue == [4, 5, 6, 7, 8, 9]
    assert set(pool.named) == {0, 1, 2}

    server.step()  # A's 13th token takes block 4; it has written three and leaves
    assert a.done
    assert b.blocks == [0, 1, 3]
    assert pool.readers == [1, 1, 0, 1, 0, 0, 0, 0, 0, 0]
    assert pool.queue == [5, 6, 7, 8, 9, 4, 2]

    c = server.scheduler.fork(b, Sampling(max_new_tokens=6, seed=1))
    assert c.blocks == [0, 1, 3]
    assert pool.readers == [2, 2, 0, 2, 0, 0, 0, 0, 0, 0]
    server.step()  # B goes first and copies; C has block 3 for itself then
    assert server.steps[-1][1].copies == [(3, 5)]
    assert (b.blocks, c.blocks) == ([0, 1, 5], [0, 1, 3])
    assert pool.readers == [2, 2, 0, 1, 0, 1, 0, 0, 0, 0]
    assert pool.queue == [6, 7, 8, 9, 4, 2]

    d = server.submit([*BEGINNING, 1, 2, 3], max_new_tokens=2)
    server.step()  # B and C take their fourth block each, D finds two and takes one
    assert (b.blocks, c.blocks, d.blocks) == ([0, 1, 5, 6], [0, 1, 3, 7], [0, 1, 8])
    assert d.n_cached == 8
    assert pool.readers == [3, 3, 0, 1, 0, 1, 1, 1, 1, 0]
    assert pool.queue == [9, 4, 2]

    while server.busy:
        server.step()
    assert pool.n_free == 10


def test_chapter_and_lab_submit_just_this():
    asked = (
        "[*beginning, 1, 2, 3], max_new_tokens=3",
        "[*beginning, 7, 8], max_new_tokens=9",
        "Sampling(max_new_tokens=6, seed=1)",
        "[*beginning, 1, 2, 3], max_new_tokens=2",
    )
    for page in ("chapters/3-frameworks.md", "labs/src/3-frameworks.py"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert [line for line in asked if line not in text] == []
        assert "BlockPool(10, 4)" in text
