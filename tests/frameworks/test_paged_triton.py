"""Paged decode in Triton's interpreter: against both references, at the edges of blocks."""

import os
import re
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed here.")
pytest.importorskip("triton", reason="triton is not installed here.")

from stackkit.frameworks.attention import naive, paged  # noqa: E402
from stackkit.frameworks.paged_cache import Batch, BlockStore, Paged, PagedCache  # noqa: E402
from stackkit.frameworks.paged_triton import paged_decode  # noqa: E402
from stackkit.processors.triton_device import device  # noqa: E402

KIND = "set TRITON_INTERPRET=1 before triton is first imported (torch's optimisers import it)"


def decode(S, D, G, lengths, *, K=2, dtype=torch.float32, seed=0):
    """q, k and v of texts with one new token each; their blocks lie scattered, none is block 0."""
    random = torch.Generator().manual_seed(seed)
    needs = [-(-length // S) + 1 for length in lengths]  # the last block is in reserve
    store = BlockStore(1, K, D, sum(needs) + 3, S, dtype=dtype)
    store.data.copy_(torch.randn(store.data.shape, generator=random))
    free = (1 + torch.randperm(sum(needs) + 2, generator=random)).tolist()
    tables = [[free.pop() for _ in range(n)] for n in needs]
    starts, counts = [length - 1 for length in lengths], [1] * len(lengths)
    batch = Batch(tables, starts, counts, S, torch.device(device()))
    q = torch.randn(1, K * G, len(lengths), D, generator=random).to(device(), dtype)
    k, v = (Paged(data.to(device()), batch) for data in store.data[:, 0])
    return q, k, v


def one_by_one(q, k, v):
    """``naive`` on each text's keys and values, gathered from its blocks."""
    texts = range(q.shape[2])
    return torch.cat([naive(q[:, :, i : i + 1], k.of(i), v.of(i)) for i in texts], dim=2)


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


# Block size, head dim, group: each value meets each of the others once.
SIZES = [
    (1, 8, 1), (1, 24, 3), (1, 64, 4),
    (3, 8, 3), (3, 24, 4), (3, 64, 1),
    (16, 8, 4), (16, 24, 1), (16, 64, 3),
]  # fmt: skip


@pytest.mark.parametrize(("S", "D", "G"), SIZES)
def test_it_equals_both_references(S, D, G):
    q, k, v = decode(S, D, G, [17, 1, S, 2 * S + 1])
    found = paged_decode(q, k, v)
    close(found, paged(q, k, v))
    close(found, one_by_one(q, k, v))


@pytest.mark.parametrize(("K", "lengths"), [(1, [1]), (3, [17]), (1, [16]), (3, [15, 33])])
def test_it_equals_both_references_for_few_texts_and_heads(K, lengths):
    q, k, v = decode(16, 8, 2, lengths, K=K)
    found = paged_decode(q, k, v)
    close(found, paged(q, k, v))
    close(found, one_by_one(q, k, v))


def test_it_attends_to_what_a_cache_appended():
    store = BlockStore(n_layers=2, n_kv_heads=2, head_dim=8, n_blocks=7, block_size=3)
    store.data.normal_(generator=torch.Generator().manual_seed(1))
    store.data = store.data.to(device())
    cache = PagedCache(store, [[4], [6, 1, 2], [0, 5]], [0, 6, 3], [1, 1, 1])
    q = torch.randn(1, 6, 3, 8, device=device())
    k, v = cache.append(1, q[:, 1:3] + 1, q[:, 3:5])
    found = paged_decode(q, k, v)
    close(found, paged(q, k, v))
    close(found[0, :, 0], v.of(0)[0, :, 0].repeat_interleave(3, dim=0))  # one token: its value


@pytest.mark.parametrize("S", [1, 3, 16])
def test_it_reads_nothing_that_is_not_the_texts(S):
    """NaN in block 0, in the free ones, in those in reserve, and past the last token."""
    q, k, v = decode(S, 24, 3, [5, 1, S, S + 1])
    wanted = paged_decode(q, k, v)
    close(wanted, one_by_one(q, k, v))
    batch = k.batch
    mine = [
        table[p // S] * S + p % S
        for table, start in zip(batch.tables, batch.starts, strict=True)
        for p in range(start + 1)
    ]
    foreign = torch.ones(k.blocks[0, ..., 0].numel(), dtype=torch.bool)
    foreign[mine] = False
    for x in (k, v):
        x.blocks.flatten(1, 2)[:, foreign.to(device())] = torch.nan
    found = paged_decode(q, k, v)
    assert torch.isfinite(found).all()
    assert torch.equal(found, wanted)


def test_a_nan_of_its_own_spoils_a_text_and_no_other():
    q, k, v = decode(3, 8, 2, [4, 5, 6])
    k.blocks[:, k.batch.tables[1][0], 0] = torch.nan
    found = paged_decode(q, k, v)
    assert torch.isnan(found[:, :, 1]).all()
    assert torch.isfinite(found[:, :, [0, 2]]).all()


def test_scores_too_high_to_exponentiate_are_no_trouble():
    q, k, v = decode(3, 8, 2, [7])
    q *= 1e3
    found = paged_decode(q, k, v)
    torch.testing.assert_close(found, one_by_one(q, k, v), rtol=1e-3, atol=1e-3)


def test_sums_of_16_bit_numbers_are_in_fp32():
    """So the result is that of fp32, rounded once: by 2^-8 on a GPU, the interpreter cuts off."""
    q, k, v = decode(16, 24, 3, [1, 40], dtype=torch.bfloat16)
    wanted = one_by_one(q.float(), *(Paged(x.blocks.float(), x.batch) for x in (k, v)))
    found = paged_decode(q, k, v)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=2**-7, atol=1e-5)


def test_operands_that_do_not_lie_straight_are_read_right():
    q, k, v = decode(3, 8, 2, [4, 5])
    wanted = paged_decode(q, k, v)
    q = q.transpose(1, 2).contiguous().transpose(1, 2)  # as a model has it
    k, v = (Paged(x.blocks.transpose(0, 1).contiguous().transpose(0, 1), x.batch) for x in (k, v))
    assert torch.equal(paged_decode(q, k, v), wanted)


def test_the_operands_are_not_modified():
    q, k, v = decode(3, 8, 2, [4, 5])
    copies = q.clone(), k.blocks.clone(), v.blocks.clone()
    paged_decode(q, k, v)
    assert all(map(torch.equal, (q, k.blocks, v.blocks), copies))


def test_more_than_one_new_token_is_refused():
    store = BlockStore(n_layers=1, n_kv_heads=1, head_dim=8, n_blocks=3, block_size=4)
    cache = PagedCache(store, [[0], [1, 2]], [2, 0], [1, 5])
    k, v = cache.append(0, torch.ones(1, 1, 6, 8), torch.ones(1, 1, 6, 8))
    with pytest.raises(ValueError, match="takes one new token of each text; a text has 5"):
        paged_decode(torch.ones(1, 2, 6, 8), k, v)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda q, k, v: (q[:, :, 1:], k, v), "must be (1, a multiple of 2, 3, 8); got (1, 4, 2, "),
        (lambda q, k, v: (q[:, :3], k, v), "got (1, 3, 3, 8)"),
        (lambda q, k, v: (q[..., 1:], k, v), "got (1, 4, 3, 7)"),
        (lambda q, k, v: (q[0], k, v), "got (4, 3, 8)"),
        (lambda q, k, v: (q, k, Paged(v.blocks[:, 1:], v.batch)), "k and v must be alike"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_with_a_sentence(change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        paged_decode(*change(*decode(3, 8, 2, [4, 5, 6])))


def without_a_gpu(code):
    """What a fresh Python prints that sees no GPU, and in which nobody has set the variable."""
    env = {name: x for name, x in os.environ.items() if name != "TRITON_INTERPRET"}
    env["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout


DECODE_AND_MULTIPLY = """
import numpy as np, torch
from stackkit.frameworks.paged_cache import BlockStore, PagedCache
from stackkit.frameworks.paged_triton import paged_decode
from stackkit.processors.ladder import rung

one = torch.ones(1, 1, 1, 2)
k, v = PagedCache(BlockStore(1, 1, 2, 1, 1), [[0]], [0], [1]).append(0, one, one)
for call in (
    lambda: paged_decode(one, k, v),
    lambda: rung("triton").fn(np.ones((1, 1), np.float32), np.ones((1, 1), np.float32)),
):
    try:
        print(call().sum())
    except RuntimeError as error:
        print(error)
"""


def test_without_a_gpu_it_chooses_the_interpreter():
    assert without_a_gpu(DECODE_AND_MULTIPLY).split() == ["tensor(2.)", "1.0"]


def test_triton_imported_too_early_is_told_in_a_sentence():
    """Of this kernel, and of the ladder's rung."""
    lines = without_a_gpu("import triton" + DECODE_AND_MULTIPLY).splitlines()
    assert len(lines) == 2
    assert all(KIND in line for line in lines)
