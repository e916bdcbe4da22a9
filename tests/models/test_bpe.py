"""Byte-pair encoding: merges by hand, and against a reference that recounts everything."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stackkit.models.bpe import CUT, END, ByteBPE, merge, train

LEARNT_FROM = """the cache keeps the keys, the values and the query heads; the bandwidth of 3.35
TB/s is the bandwidth that 80 heads share. Größe, naïve café: 你好, 你好 🙂🙂.
snake_case __init__"""
TOKENIZER = ByteBPE(train(LEARNT_FROM, 330))


def naive_train(text, n_merges):
    """As the paper has it: count all pairs again before each merge."""
    words, merges = [list(word.encode()) for word in CUT.findall(text)], []
    for i in range(n_merges):
        counts = Counter(pair for word in words for pair in pairwise(word))
        most = max(counts.values())
        merges.append(min(pair for pair, n in counts.items() if n == most))
        words = [merge(word, merges[-1], 256 + i) for word in words]
    return merges


def naive_encode(merges, text):
    """Apply every merge once, in the order they were learnt."""
    words = [list(word.encode()) for word in CUT.findall(text)]
    for i, pair in enumerate(merges):
        words = [merge(word, pair, 256 + i) for word in words]
    return [id for word in words for id in word]


def test_the_merges_of_a_tiny_text_are_those_made_by_hand():
    """abab and " abab": ab four times, then (ab)(ab) twice, then the space with abab once."""
    a, b, space = b"ab "
    assert train("abab abab", 260) == [(a, b), (256, 256), (space, 257)]


def test_of_pairs_equally_common_the_smaller_ids_win():
    a, b, c, d = b"abcd"
    assert train("cd\nab", 259) == [(a, b), (c, d)]


def test_overlapping_pairs_are_merged_from_the_left():
    assert merge([7, 7, 7, 7, 7], (7, 7), 256) == [256, 256, 7]


@given(st.text("ab c1", min_size=1), st.integers(1, 6))
def test_training_equals_a_count_from_scratch_before_each_merge(text, n_merges):
    text = "abcdefgh " + text  # room for six merges at least
    assert train(text, 257 + n_merges) == naive_train(text, n_merges)


def test_the_same_text_gives_the_same_merges():
    assert train(LEARNT_FROM, 300) == train(LEARNT_FROM, 300)


def test_a_larger_vocabulary_begins_with_the_merges_of_a_smaller():
    assert train(LEARNT_FROM, 300) == TOKENIZER.merges[:43]


@given(st.text())
@example("")
@example("  two  spaces\t\n\r\n and a line _ __x_1 ½²٣ ")
@example(f"a{END}{END} b <|end| >")
@example("\x00\x1c\u200b\u0301e\ufffd\U0010ffff")
def test_any_text_decodes_to_itself(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(st.text(st.sampled_from("thecasy ban_1é你🙂\n.")))
def test_encoding_equals_all_merges_applied_in_order(text):
    assert TOKENIZER.encode(text) == naive_encode(TOKENIZER.merges, text)


def test_a_learnt_word_is_one_token():
    tokenizer = ByteBPE(train("bandwidth " * 9, 266))
    assert [tokenizer.decode([id]) for id in tokenizer.encode(" bandwidth")] == [" bandwidth"]


def test_bytes_alone_encode_a_text_that_was_never_seen():
    assert ByteBPE([]).encode("é1") == [0xC3, 0xA9, ord("1")]


def test_digits_stay_single():
    """However often a number stands in the text, there is no pair to merge."""
    with pytest.raises(ValueError, match="no pair left after 0 merges"):
        train("2024 " * 50, 258)


@pytest.mark.parametrize("text", ["kv kv", "kv_kv", "kv,kv", "kv4kv", "kv\nkv", f"kv{END}kv"])
def test_no_merge_crosses_a_cut(text):
    merges = train("kvkv " * 9 + "kv kv_kv,kv4kv\n" * 9, 261)
    tokenizer = ByteBPE(merges)
    cut = [piece for part in text.split(END) for piece in CUT.findall(part)]
    starts = {sum(len(word.encode()) for word in cut[:i]) for i in range(len(cut))}
    found, at = set(), 0
    for id in tokenizer.encode(text):
        if id != tokenizer.end_id:
            found.add(at)
            at += len(tokenizer.token_bytes(id))
    assert len(starts) > 1
    assert starts <= found


def test_every_learnt_token_is_part_of_one_word():
    words = {word.encode() for word in CUT.findall(LEARNT_FROM)}
    for id in range(256, TOKENIZER.end_id):
        piece = TOKENIZER.token_bytes(id)
        assert any(piece in word for word in words), piece


def test_the_end_token_has_the_last_id_and_ends_generation():
    assert TOKENIZER.end_id == TOKENIZER.vocab_size - 1 == 329
    assert TOKENIZER.end_ids == {329}


def test_the_end_token_is_recognised_within_a_text():
    a, b = b"ab"
    assert ByteBPE([]).encode(f"a{END}b{END}") == [a, 256, b, 256]
    assert TOKENIZER.decode([TOKENIZER.end_id]) == END


def test_half_a_character_decodes_to_the_sign_for_it():
    assert ByteBPE([]).decode("é".encode()[:1]) == "\ufffd"


def test_merges_read_from_json_are_as_good_as_those_from_training():
    """JSON has lists where Python has pairs."""
    read = ByteBPE([list(pair) for pair in TOKENIZER.merges])
    assert read.encode(LEARNT_FROM) == TOKENIZER.encode(LEARNT_FROM)


def test_an_answer_does_not_change_when_the_caller_changes_it():
    """Words are remembered; what is given out is not that memory."""
    first = TOKENIZER.encode("bandwidth")
    first.append(0)
    assert TOKENIZER.encode("bandwidth") == first[:-1]


def test_a_conversation_becomes_its_texts_side_by_side():
    said = [{"role": "user", "content": " The cache "}, {"role": "assistant", "content": "keeps"}]
    assert TOKENIZER.apply_chat_template(said) == "The cache keeps"


@pytest.mark.parametrize("vocab_size", [257, 0, -1])
def test_a_vocabulary_without_room_for_a_merge_is_refused(vocab_size):
    with pytest.raises(ValueError, match=f"make 258; got {vocab_size}"):
        train("abab", vocab_size)


@pytest.mark.parametrize(("text", "merges"), [("", 0), ("a b", 1), ("abab", 2)])
def test_a_text_too_short_for_the_vocabulary_says_how_many_merges_it_had(text, merges):
    with pytest.raises(ValueError, match=f"no pair left after {merges} merges"):
        train(text, 300)
