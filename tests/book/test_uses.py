"""Which pages use which fact: found in roles, in code, and behind a thing that code takes up."""

import pytest

from stackkit.atlas import facts
from stackkit.atlas.load import facts_of
from stackkit.book.uses import facts_used, pages, pages_by_fact

BANDWIDTH = "h100-sxm.memory_bytes_per_s"


def test_a_role_uses_the_fact_it_names():
    assert facts_used(f"The card reads {{fact}}`{BANDWIDTH}`.") == [BANDWIDTH]


def test_code_uses_the_fact_it_names():
    assert facts_used(f"rate = fact('{BANDWIDTH}').value") == [BANDWIDTH]


def test_code_that_takes_up_a_thing_uses_all_its_facts():
    used = facts_used('chip = accelerator("h100-sxm")')
    assert used == [f"h100-sxm.{quantity}" for quantity in facts_of("h100-sxm")]


def test_code_that_takes_up_all_chips_uses_theirs():
    used = facts_used("for chip in accelerators():")
    assert BANDWIDTH in used
    assert "hbm3.bus_bits" not in used


@pytest.mark.parametrize(
    "text",
    ["The h100-sxm is fast.", f"{BANDWIDTH}_driver", f"not-{BANDWIDTH}", "the accelerators are"],
)
def test_words_alone_use_nothing(text):
    assert facts_used(text) == []


def test_chapters_and_labs_are_read_by_the_document_they_become(tmp_path):
    for path in ("chapters/7-memory.md", "labs/src/7-memory.py"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(f"{{fact}}`{BANDWIDTH}`")
    assert list(pages(tmp_path)) == ["chapters/7-memory", "labs/7-memory"]
    assert pages_by_fact(tmp_path) == {BANDWIDTH: ["chapters/7-memory", "labs/7-memory"]}


def test_every_fact_that_is_used_exists(tmp_path):
    assert set(facts_used(" ".join(facts()))) == set(facts())
