"""The toys: the text they come from, the shipped files, and a few steps of the way there."""

import hashlib
import json
import math
from collections import Counter
from dataclasses import asdict
from functools import cache

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from stackkit import models  # noqa: E402
from stackkit.cli import main  # noqa: E402
from stackkit.models import loading, toy  # noqa: E402

NAMES = ("toy", "toy-draft")
LIMIT_BYTES = 3_000_000  # of all files, which come with every install


@pytest.fixture(autouse=True, scope="module")
def merges_learnt_once():
    """Merges depend on the text alone (test_bpe), and take seconds: five tests share them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy, "learn_merges", cache(toy.learn_merges))
        yield


@pytest.fixture(scope="module")
def lines():
    """(learnt, held out)."""
    learn, hold = toy.texts()
    return learn.splitlines(), hold.splitlines()


def shipped_bytes():
    return {path.name: path.read_bytes() for path in sorted(toy.TOYS.iterdir())}


def test_the_frozen_text_is_the_one_its_hash_says():
    data = (toy.TOYS / "text.txt").read_bytes()
    assert hashlib.sha256(data).hexdigest() == toy.TEXT_SHA256
    assert toy.frozen_text().encode() == data


@pytest.mark.parametrize("change", [lambda d: d + b"\n", lambda d: d[1:], lambda d: b""])
def test_a_changed_text_is_refused(tmp_path, monkeypatch, change):
    data = change((toy.TOYS / "text.txt").read_bytes())
    (tmp_path / "text.txt").write_bytes(data)
    monkeypatch.setattr(toy, "TOYS", tmp_path)
    with pytest.raises(ValueError, match="has changed: its SHA-256 is") as refused:
        toy.texts()
    assert hashlib.sha256(data).hexdigest() in str(refused.value)
    assert str(tmp_path / "text.txt") in str(refused.value)


def test_nine_lines_in_ten_are_learnt_and_none_is_lost(lines):
    learn, hold = lines
    assert [*learn, *hold] == toy.frozen_text().splitlines()
    assert len(learn) / (len(learn) + len(hold)) == pytest.approx(0.9, abs=0.001)


def test_no_held_out_line_is_among_the_learnt(lines):
    learn, hold = lines
    assert not set(learn) & set(hold)


def test_no_line_of_the_text_is_empty(lines):
    assert all(line.strip() for part in lines for line in part)


def test_each_line_ends_with_the_end_token():
    _, tokenizer = models.load("toy-draft")
    ids = toy.encode_lines(tokenizer, "The cache.\nThe head.")
    assert ids.count(tokenizer.end_id) == 2
    assert tokenizer.decode(ids) == f"The cache.{toy.END}The head.{toy.END}"


def test_the_files_are_small_enough_to_ship():
    assert sum(map(len, shipped_bytes().values())) < LIMIT_BYTES


def test_the_shipped_merges_are_those_of_the_learnt_text():
    """Not of the held-out one: a tokenizer that knew it would flatter the loss."""
    learn, _ = toy.texts()
    shipped = json.loads((toy.TOYS / "merges.json").read_text(encoding="utf-8"))
    assert [tuple(pair) for pair in shipped] == toy.learn_merges(learn, toy.VOCAB_SIZE)


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_how_the_toy_was_made(name):
    card, schedule = toy.shipped(name), toy.SCHEDULES[name]
    assert card["config"] == asdict(toy.CONFIGS[name])
    assert card["text_sha256"] == toy.TEXT_SHA256
    assert card["steps"] == schedule.steps
    assert card["tokens_seen"] == schedule.steps * toy.BATCH * toy.WINDOW
    assert len(card["losses"]) == math.ceil(schedule.steps / 10)


@cache
def held_out_by_hand(name):
    """Mean of -log p over whole windows of the held-out text: (nats a token, ids)."""
    model, tokenizer = models.load(name)
    ids = toy.encode_lines(tokenizer, toy.texts()[1])
    losses = []
    for start in range(0, len(ids) - toy.CONTEXT, toy.CONTEXT):
        window = torch.tensor([ids[start : start + toy.CONTEXT + 1]])
        logits = model(window[:, :-1])[0].double()
        right = logits[torch.arange(toy.CONTEXT), window[0, 1:]]
        losses += (logits.logsumexp(-1) - right).tolist()
    return sum(losses) / len(losses), ids


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_weights_have_the_held_out_loss_that_the_card_says(name):
    found, _ = held_out_by_hand(name)
    assert found == pytest.approx(toy.shipped(name)["held_out_loss_nats_per_token"], abs=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_a_toy_knows_more_than_how_often_each_token_comes(name):
    """Frequencies of the held-out text itself: no model that ignores what came before is better."""
    found, ids = held_out_by_hand(name)
    entropy = -sum(n / len(ids) * math.log(n / len(ids)) for n in Counter(ids).values())
    assert found < 0.75 * entropy < entropy < math.log(toy.VOCAB_SIZE)


@pytest.mark.parametrize("name", NAMES)
def test_training_began_at_a_blind_guess(name):
    assert toy.shipped(name)["losses"][0] == pytest.approx(math.log(toy.VOCAB_SIZE), abs=0.1)


def test_the_draft_is_smaller_and_knows_less():
    sizes, losses = (
        [toy.shipped(name)[key] for name in NAMES]
        for key in ("parameters", "held_out_loss_nats_per_token")
    )
    assert sizes[0] > 3 * sizes[1]
    assert losses[0] < losses[1]


@pytest.fixture(scope="module")
def made():
    """The draft after three steps."""
    reported = []
    found = toy.make("toy-draft", steps=3, report=lambda step, loss: reported.append((step, loss)))
    return found, reported


def test_a_run_of_three_steps_is_the_same_twice(made):
    again = toy.make("toy-draft", steps=3)
    assert again.losses == made[0].losses
    assert again.held_out == made[0].held_out
    assert (again.before, again.after) == (made[0].before, made[0].after)
    for one, other in zip(again.model.parameters(), made[0].model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_each_step_is_reported_with_its_loss(made):
    found, reported = made
    assert reported == list(enumerate(found.losses))
    assert len(reported) == 3


def test_three_steps_are_three_steps_down(made):
    assert made[0].held_out_loss < math.log(toy.VOCAB_SIZE) + 0.05
    assert made[0].losses[0] > made[0].losses[2]


def test_it_is_left_ready_to_write(made):
    assert not made[0].model.training
    assert made[0].after.startswith(toy.SAMPLE_PROMPT)


def test_a_shipped_toy_loads_as_it_was_made(made, tmp_path, monkeypatch):
    before = shipped_bytes()
    toy.ship("toy-draft", made[0], tmp_path)
    monkeypatch.setattr(loading, "TOYS", tmp_path)
    model, tokenizer = models.load("toy-draft")
    ids = torch.tensor([tokenizer.encode(toy.SAMPLE_PROMPT)])
    assert torch.equal(model(ids), made[0].model(ids))
    card = json.loads((tmp_path / "toy-draft.json").read_text(encoding="utf-8"))
    assert card.keys() == toy.shipped("toy-draft").keys()
    assert card["held_out_loss_nats_per_token"] == pytest.approx(made[0].held_out_loss, abs=1e-4)
    assert shipped_bytes() == before  # another folder was asked for


def test_an_unknown_toy_names_those_there_are():
    with pytest.raises(ValueError, match="no toy 'smollm'; there are toy, toy-draft"):
        toy.make("smollm")


def test_the_command_trains_a_little_and_writes_nothing(capsys):
    before = shipped_bytes()
    assert main(["toy", "--steps", "2"]) == 0
    said = capsys.readouterr()
    assert f"before:  {toy.SAMPLE_PROMPT}" in said.out
    assert f"after:   {toy.SAMPLE_PROMPT}" in said.out
    shipped = toy.shipped("toy")["held_out_loss_nats_per_token"]
    assert f"shipped       {shipped:.3f}" in said.out
    assert "step    0" in said.err
    assert shipped_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["smollm"], "there are toy, toy-draft"), (["toy-draft", "--steps", "0"], "steps=0")],
)
def test_the_command_refuses_with_one_sentence(capsys, arguments, words):
    assert main(["toy", *arguments]) == 1
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""
