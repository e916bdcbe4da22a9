"""The stored race: whole, and in order. What it says is for the chapter to tell."""

from stackkit.frameworks import serving


def test_every_contestant_ran_at_every_size():
    run = serving()
    sizes = sorted({rate.requests for rate in run.rates})
    contestants = {rate.contestant for rate in run.rates}
    assert sizes == [1, 4, 8, 16]
    assert len(run.rates) == len(sizes) * len(contestants)
    assert {name.split()[0].strip(",") for name in contestants} == {
        "stackkit",
        "transformers",
        "llama.cpp",
    }


def test_the_median_lies_within_its_spread():
    for rate in serving().rates:
        assert 0 < rate.low <= rate.tokens_per_s <= rate.high


def test_the_machine_and_the_versions_are_named():
    run = serving()
    assert "processor" in run.machine
    assert "transformers" in run.versions
    assert "llama-cpp-python" in run.versions


def test_the_parts_of_a_step_are_times():
    run = serving()
    assert min(run.parts_s.values()) > 0
    assert 0 < run.weights_s < sum(run.parts_s.values())
