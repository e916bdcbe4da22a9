"""Simulated time: the memory layer's work mixed, and the same schedule as the engine's."""

from itertools import pairwise

import pytest

from stackkit.atlas import model
from stackkit.frameworks import BlockPool, Scheduler
from stackkit.frameworks.load import poisson, serve
from stackkit.frameworks.scheduler import Piece, Step
from stackkit.frameworks.simulation import SimulatedServer, roofline_step, step_work
from stackkit.memory import Roofline, decode_work, prefill_work

LLAMA = model("llama-3.1-8b")


def step(*pieces):
    return Step([Piece(None, start, n, writes) for start, n, writes in pieces])


def test_a_step_of_decodes_is_the_memory_layers_decode():
    found = step_work(LLAMA, step(*[(99, 1, True)] * 7))
    wanted = decode_work(LLAMA, batch=7, context=100)
    assert found.flops == pytest.approx(wanted.flops, rel=1e-12)
    assert found.bytes == pytest.approx(wanted.bytes, rel=1e-12)


def test_a_step_of_whole_prompts_is_the_memory_layers_prefill():
    found = step_work(LLAMA, step(*[(0, 300, True)] * 3))
    wanted = prefill_work(LLAMA, tokens=300, batch=3)
    assert found.flops == pytest.approx(wanted.flops, rel=1e-12)
    assert found.bytes == pytest.approx(wanted.bytes, rel=1e-12)


def test_chunks_of_a_prompt_are_as_much_arithmetic_as_the_whole():
    whole = step_work(LLAMA, step((0, 1000, True))).flops
    chunks = [(0, 400, False), (400, 350, False), (750, 250, True)]
    assert sum(step_work(LLAMA, step(c)).flops for c in chunks) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("name", ["mixtral-8x7b", "deepseek-v3", "gemma-2-9b"])
def test_models_that_are_not_plain_are_refused(name):
    spec = model(name)
    with pytest.raises(ValueError, match="no plain dense model"):
        step_work(spec, step((0, 1, True)))


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="'fp3' is no format"):
        step_work(LLAMA, step((0, 1, True)), weight_dtype="fp3")


@pytest.mark.parametrize(("weights", "kv"), [("fp8", "bf16"), ("bf16", "fp8"), ("fp32", "fp8")])
def test_formats_count_for_weights_and_cache_apart(weights, kv):
    found = step_work(LLAMA, step((99, 1, True)), weight_dtype=weights, kv_dtype=kv)
    wanted = decode_work(LLAMA, batch=1, context=100, weight_dtype=weights, kv_dtype=kv)
    assert found.weight_bytes == pytest.approx(wanted.weight_bytes, rel=1e-12)
    assert found.kv_bytes == pytest.approx(wanted.kv_bytes, rel=1e-12)


def test_an_idle_step_takes_no_time():
    server = SimulatedServer(Scheduler(BlockPool(4, 4)), lambda step: 1.0)
    server.step()
    assert server.clock() == 0
    assert server.steps == []


def test_texts_run_to_their_full_length_whatever_ends_a_text():
    server = SimulatedServer(Scheduler(BlockPool(4, 4), end_ids=range(64)), lambda step: 1.0)
    request = server.submit([1, 2], max_new_tokens=5)
    while server.busy:
        server.step()
    assert len(request.token_s) == 5


def test_one_request_takes_its_steps_and_nothing_else():
    """Closed form: a prefill and n - 1 decodes, each as long as its bytes."""
    roof = Roofline(1e30, 1e12)
    server = SimulatedServer(
        Scheduler(BlockPool(100, 16), max_tokens=512), roofline_step(LLAMA, roof, besides_s=0.001)
    )
    request = server.submit(list(range(100)), max_new_tokens=5)
    while server.busy:
        server.step()
    k, w = LLAMA.kv_bytes_per_token(), 2 * LLAMA.matmul_params()
    wanted = sum((w + k * (100 + i)) / 1e12 + 0.001 for i in range(5))
    assert request.token_s[-1] == pytest.approx(wanted, rel=1e-12)
    assert len(request.token_s) == 5


def test_littles_law_holds():
    """Requests in the scheduler, over time, are the rate times the time that each stays."""
    server = SimulatedServer(
        Scheduler(BlockPool(4000, 16)), roofline_step(LLAMA, Roofline(1e15, 3e12))
    )
    area = 0.0  # of requests x seconds, counted from the scheduler's own lists
    plain_step = server.step

    def counted():
        nonlocal area
        inside = len(server.scheduler.waiting) + len(server.scheduler.running)
        before = server.clock()
        plain_step()
        area += inside * (server.clock() - before)

    server.step = counted
    prompts = [[i] * (20 + i % 50) for i in range(300)]
    report = serve(server, poisson(prompts, 8.0, seed=3, max_new_tokens=40))
    served = sum(r.token_s[-1] - r.arrived_s for r in report.requests)
    # Who comes during a step is counted from the next one on: at most a step's time each.
    longest = max(b - a for (a, _), (b, _) in pairwise(server.steps))
    assert 0 <= served - area <= 300 * longest
    assert area > 0.8 * served
    assert all(len(r.token_s) == 40 for r in report.requests)


def test_the_engine_and_the_simulation_schedule_alike():
    torch = pytest.importorskip("torch")
    from stackkit.frameworks import Engine
    from stackkit.models.transformer import Config, Transformer

    class Words:
        vocab_size, end_ids = 64, frozenset()

        def encode(self, text):
            return list(text.encode())

        def decode(self, ids):
            return "?" * len(ids)

        def token_bytes(self, id):
            return b"?"

    torch.manual_seed(0)
    small = Transformer(Config(1, 16, 2, 1, 8, 16, 64, 128))
    engine = Engine(small, Words(), n_blocks=12, block_size=4, max_tokens=8, prefix_caching=False)
    pool = BlockPool(12, 4)
    simulated = SimulatedServer(
        Scheduler(pool, max_tokens=8, prefix_caching=False), lambda step: 1.0
    )
    prompts = [[1 + i] * (3 + 4 * i) for i in range(4)]
    for prompt in prompts:
        engine.submit(prompt, max_new_tokens=12)
        simulated.submit(prompt, max_new_tokens=12)
    while engine.busy or simulated.busy:
        engine.step()
        simulated.step()
        assert engine.pool.readers == pool.readers
        assert engine.pool.queue == pool.queue
    assert engine.n_steps == len(simulated.steps)
