"""Attention over blocks: the same as over one piece, wherever the blocks lie and whatever else
is in the store. Blocks of others are NaN here: who reads one shows it.
"""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from stackkit.atlas import model as atlas_model  # noqa: E402
from stackkit.frameworks import BlockStore, PagedCache  # noqa: E402
from stackkit.frameworks.attention import attend, naive, paged  # noqa: E402


class Texts:
    """Keys and values of some texts, in one piece each, and the same in scattered blocks.

    Of text i, ``starts[i]`` tokens lie in the store and ``counts[i]`` are new. Every block of the
    store that belongs to no text is NaN; so is, where ``tail`` says so, what follows a text's last
    token in its own last block.
    """

    def __init__(
        self, starts, counts, *, S=4, K=2, G=2, D=8, dtype=torch.float32, seed=0, tail=1e4, spare=0
    ):
        self.starts, self.counts, self.S = starts, counts, S
        random = torch.Generator().manual_seed(seed)
        needs = [-(-(n + m) // S) for n, m in zip(starts, counts, strict=True)]
        self.n_blocks = sum(needs) + spare * len(needs) + 3
        # Block 0 is nobody's: it is the one that a careless padding reads.
        free = (1 + torch.randperm(self.n_blocks - 1, generator=random)).tolist()
        self.tables = [[free.pop() for _ in range(n + spare)] for n in needs]
        self.store = BlockStore(2, K, D, self.n_blocks, S, dtype=dtype)
        self.store.data.fill_(math.nan)

        def draw(heads, n):
            return torch.randn(1, heads, n, D, generator=random).to(dtype)

        self.q = [draw(K * G, m) for m in counts]
        self.k, self.v = ([draw(K, n + m) for n, m in self.spans] for _ in "kv")
        for table, n, k, v in zip(self.tables, starts, self.k, self.v, strict=True):
            for data, x in zip(self.store.data[:, 1], (k, v), strict=True):
                data[:, table] = tail
                for p in range(n):
                    data[:, table[p // S], p % S] = x[0, :, p]
        self.cache = PagedCache(self.store, self.tables, starts, counts)

    @property
    def spans(self):
        return list(zip(self.starts, self.counts, strict=True))

    def append(self):
        """The new tokens in layer 1; all keys and values of the batch."""
        new = [
            torch.cat([x[:, :, n:] for x, n in zip(xs, self.starts, strict=True)], dim=2)
            for xs in (self.k, self.v)
        ]
        return self.cache.append(1, *new)

    def found(self, mask=None):
        """(1, H, T, D) of ``paged``."""
        k, v = self.append()
        return paged(torch.cat(self.q, dim=2), k, v, mask=mask)

    def hold(self, found, mask=None):
        """Against ``naive`` in float64, with a tolerance from format and length."""
        wanted, eps = [], max(torch.finfo(x.dtype).eps for x in (self.q[0], torch.zeros(1)))
        for q, k, v in zip(self.q, self.k, self.v, strict=True):
            wanted.append(naive(q.double(), k.double(), v.double(), mask=mask))
        longest = max(n + m for n, m in self.spans)
        highest = max(v.double().abs().max() for v in self.v)
        allowed = 2 * eps * math.sqrt(longest + self.q[0].shape[3]) * highest
        assert found.dtype == self.q[0].dtype
        off = (found.double() - torch.cat(wanted, dim=2)).abs().max()  # NaN where there is one
        assert float(off) <= float(allowed)


def check(starts, counts, **how):
    texts = Texts(starts, counts, **how)
    texts.hold(texts.found())


# Equal to attention in one piece


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("K", "G"), [(1, 1), (4, 1), (1, 4), (3, 3)])
@pytest.mark.parametrize("S", [1, 4, 5, 16, 32])
def test_one_new_token_of_many_texts_equals_naive_attention(S, K, G, dtype):
    check([0, 2, 16, 99], [1] * 4, S=S, K=K, G=G, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("start", [0, 1, 3, 4, 17])
@pytest.mark.parametrize("count", [1, 2, 3, 17])
def test_a_chunk_of_a_prompt_equals_naive_attention(count, start, dtype):
    check([start], [count], dtype=dtype)


@pytest.mark.parametrize("counts", [[1, 5, 1], [5, 1, 3], [3, 1, 1, 17], [1, 1, 2], [2, 3]])
def test_chunks_and_single_tokens_go_together(counts):
    check([7, 0, 12, 3][: len(counts)], counts)


@given(
    spans=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6)), min_size=1, max_size=6),
    S=st.integers(1, 9), K=st.integers(1, 3), G=st.integers(1, 3), spare=st.integers(0, 2),
    seed=st.integers(0, 9),
)  # fmt: skip
@settings(deadline=None, derandomize=True, max_examples=80)
def test_no_batch_and_no_table_changes_the_result(spans, S, K, G, spare, seed):
    starts, counts = map(list, zip(*spans, strict=True))
    check(starts, counts, S=S, K=K, G=G, spare=spare, seed=seed)


def test_texts_that_share_blocks_each_see_them():
    """One beginning in two tables; the last blocks are their own."""
    texts = Texts([8, 8], [1, 1])
    texts.tables[1][:2] = texts.tables[0][:2]
    texts.k[1][:, :, :8], texts.v[1][:, :, :8] = texts.k[0][:, :, :8], texts.v[0][:, :, :8]
    texts.cache = PagedCache(texts.store, texts.tables, [8, 8], [1, 1])
    texts.hold(texts.found())


def test_attend_finds_out_by_itself_how_the_keys_lie():
    texts = Texts([5, 0], [1, 3])
    k, v = texts.append()
    texts.hold(attend(torch.cat(texts.q, dim=2), k, v))
    texts.hold(torch.cat([attend(*x) for x in zip(texts.q, texts.k, texts.v, strict=True)], dim=2))


# Masks


def window(T, n, width):
    places, seen = torch.arange(n), n - T + torch.arange(T)[:, None]
    return ((places <= seen) & (places > seen - width))[None, None]


def random_mask(T, n, seed):
    """Each query may look somewhere."""
    random = torch.Generator().manual_seed(seed)
    mask = torch.rand(1, 1, T, n, generator=random) < 0.3
    return mask.scatter(3, torch.randint(n, (1, 1, T, 1), generator=random), True)


@pytest.mark.parametrize(("start", "count"), [(9, 1), (9, 5), (0, 7), (3, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_a_random_mask_means_the_same_as_in_one_piece(start, count, seed):
    texts, mask = Texts([start], [count]), random_mask(count, start + count, seed)
    texts.hold(texts.found(mask), mask)


@pytest.mark.parametrize(("start", "count"), [(9, 1), (9, 5), (0, 7)])
@pytest.mark.parametrize("width", [1, 3, 100])
def test_a_sliding_window_means_the_same_as_in_one_piece(start, count, width):
    texts, mask = Texts([start], [count]), window(count, start + count, width)
    texts.hold(texts.found(mask), mask)


def test_a_mask_for_many_texts_is_refused():
    texts = Texts([1, 2], [1, 1])
    with pytest.raises(ValueError, match="A mask goes with one text; the batch has 2"):
        texts.found(torch.ones(1, 1, 2, 3, dtype=torch.bool))


# What lies beside: 0 x NaN is NaN, so a weight of 0 does not hide it


@pytest.mark.parametrize("S", [1, 4, 16])
def test_padding_reads_no_block_of_others(S):
    """The short text is padded to the long one's blocks; all blocks of nobody, 0 too, are NaN."""
    texts = Texts([0, 70], [1, 1], S=S)
    assert 0 not in texts.tables[0] + texts.tables[1]
    assert bool(texts.store.data[:, :, :, 0].isnan().all())
    texts.hold(texts.found())


@pytest.mark.parametrize("counts", [[1, 1], [3, 2], [1, 4]])
@pytest.mark.parametrize("rubbish", [1e30, math.inf, math.nan])
def test_what_an_earlier_text_left_behind_the_last_token_is_not_read(counts, rubbish):
    """A block comes with what was in it. A text that ran over must not poison the next one."""
    check([5, 0], counts, tail=rubbish)


@pytest.mark.parametrize("counts", [[1, 1, 1], [2, 1, 3]])
def test_a_broken_text_does_not_break_the_others(counts):
    texts = Texts([6, 6, 30], counts)
    texts.store.data[:, :, :, texts.tables[0][0]] = math.nan
    found = texts.found()
    assert bool(found[:, :, : counts[0]].isnan().all())
    healthy = Texts([6, 6, 30], counts).found()
    assert torch.equal(found[:, :, counts[0] :], healthy[:, :, counts[0] :])


# The store and a step's view of it


def test_new_tokens_are_written_where_the_table_says_and_nowhere_else():
    texts = Texts([3, 0, 4], [2, 3, 1], tail=math.nan)
    before = texts.store.data.clone()
    texts.append()
    changed = ~torch.isclose(texts.store.data, before, rtol=0, atol=0, equal_nan=True)
    places = {
        (table[p // 4], p % 4)
        for table, (n, m) in zip(texts.tables, texts.spans, strict=True)
        for p in range(n, n + m)
    }
    where = changed[:, 1].all(dim=0).all(dim=0).all(dim=-1).nonzero().tolist()  # (N, S)
    assert {tuple(place) for place in where} == places
    assert int(changed.sum()) == len(places) * 2 * 2 * 8  # keys and values, 2 heads, D of 8
    assert not bool(changed[:, 0].any())  # the other layer


def test_attention_leaves_the_store_as_it_is():
    texts = Texts([6, 0, 30], [1, 3, 1])
    k, v = texts.append()
    before = texts.store.data.clone()
    paged(torch.cat(texts.q, dim=2), k, v)
    assert torch.equal(texts.store.data.nan_to_num(7.0), before.nan_to_num(7.0))


def test_a_new_token_is_seen_by_itself():
    texts = Texts([0], [1])
    torch.testing.assert_close(texts.found(), texts.v[0].repeat_interleave(2, dim=1))


def test_positions_are_those_in_the_texts():
    texts = Texts([3, 0, 7], [2, 3, 1])
    assert texts.cache.positions(6).tolist() == [3, 4, 0, 1, 2, 7]


def test_a_wrong_number_of_new_tokens_is_refused():
    texts = Texts([3, 0], [2, 3])
    with pytest.raises(ValueError, match="The batch has 5 new tokens; got 4"):
        texts.cache.positions(4)


@pytest.mark.parametrize("shape", [(1, 4, 3, 8), (2, 4, 5, 8), (1, 4, 6, 8)])
def test_queries_that_are_not_those_of_the_batch_are_refused(shape):
    k, v = Texts([3, 0], [2, 3]).append()
    words = f"The batch has 5 new tokens in one row; got queries {shape}."
    with pytest.raises(ValueError, match=re.escape(words)):
        paged(torch.zeros(shape), k, v)


@pytest.mark.parametrize(("start", "count"), [(0, 0), (4, 5), (8, 1), (9, 0)])
def test_a_table_without_room_for_the_new_tokens_is_refused(start, count):
    store = BlockStore(1, 1, 2, 4, 4)
    words = f"A text of {start} tokens and {count} new ones does not fit its 2 blocks of 4"
    with pytest.raises(ValueError, match=words):
        PagedCache(store, [[0, 1]], [start], [count])


def test_a_view_keeps_the_tables_it_was_given():
    """The scheduler's lists move on while a model computes."""
    texts = Texts([6], [1])
    texts.tables[0].clear()
    texts.hold(texts.found())


def test_a_block_is_copied_in_all_layers_keys_and_values():
    store = BlockStore(3, 2, 4, 5, 4)
    store.data.normal_(generator=torch.Generator().manual_seed(0))
    before = store.data.clone()
    store.copy([(1, 3)])
    assert torch.equal(store.data[:, :, :, 3], before[:, :, :, 1])
    rest = [0, 1, 2, 4]
    assert torch.equal(store.data[:, :, :, rest], before[:, :, :, rest])


def test_copies_are_made_one_after_the_other():
    """A block that was just copied to may be copied on, and then be overwritten."""
    store = BlockStore(1, 1, 1, 4, 1)
    store.data[:, 0, 0, :, 0, 0] = torch.tensor([10.0, 11.0, 12.0, 13.0])
    store.copy([(0, 1), (1, 2), (3, 1)])
    assert store.data[0, 0, 0, :, 0, 0].tolist() == [10, 13, 10, 13]


def test_a_block_takes_the_bytes_of_kv_heads_not_of_query_heads():
    """Llama 3.1 8B has 32 heads of queries and 8 of keys: 128 KiB a token, not 512."""
    spec = atlas_model("llama-3.1-8b")
    store = BlockStore(
        spec.n_layers,
        spec.n_kv_heads,
        spec.head_dim,
        n_blocks=1,
        block_size=4,
        dtype=torch.bfloat16,
    )
    assert store.bytes_per_block == 4 * spec.kv_bytes_per_token() == 4 * 128 * 1024
    assert store.bytes_per_block == store.data.nbytes


def test_bytes_of_a_block_do_not_depend_on_how_many_there_are():
    one, many = BlockStore(2, 3, 4, 1, 5), BlockStore(2, 3, 4, 7, 5)
    assert one.bytes_per_block == many.bytes_per_block == 2 * 2 * 3 * 5 * 4 * 4
    assert many.data.nbytes == 7 * many.bytes_per_block
