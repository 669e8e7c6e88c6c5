"""The benchmarks' own machinery, without a measurement."""

import re

import pytest

from benchmarks import lower_bounds, pipeline, report, training
from benchmarks.side_by_side import answers_in_turn, in_turn
from stages.common.cli import UserError
from stages.common.params import load_params
from tests.conftest import ROOT


def two_rounds(answer: str, tick) -> None:
    """A competitor that prints, works and then fails."""
    print("not an answer")
    tick({"round": 1})
    sum(range(10**6))
    tick({"round": 2})
    raise ValueError(answer)


def test_each_competitor_runs_two_rounds_a_turn_and_the_second_counts():
    (answers,) = answers_in_turn(__name__, ["two_rounds"], "no third round", turns=1).values()
    assert [answer["row"] for answer in answers] == [{"round": 1}, {"round": 2}]
    measured = in_turn(__name__, ["two_rounds"], "no third round", turns=1)
    assert 0 < measured["cpu_seconds"]["two_rounds"] <= 1.1 * measured["seconds"]["two_rounds"]


@pytest.mark.slow
def test_a_competitor_that_fails_says_why():
    with pytest.raises(RuntimeError, match="ValueError: no third round"):
        in_turn(__name__, ["two_rounds"], "no third round", turns=2)


def test_every_part_that_the_docs_name_can_be_measured():
    from benchmarks.__main__ import MORE, PARTS

    text = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    named = " ".join(re.findall(r'make bench PARTS="?([a-z ]+)', text)).split()
    assert len(named) >= 4
    assert set(named) <= (PARTS | MORE).keys()


def test_a_part_or_version_that_does_not_exist_is_named():
    from benchmarks.__main__ import main

    with pytest.raises(UserError, match="PARTS: there is no netwroks; there are gate, .* networks,"):
        main("netwroks")
    with pytest.raises(UserError, match="mpl: no such version; there are .* mlp,"):
        training.read("mpl", 1)


def test_a_schedule_ends_with_the_epochs_of_its_block_though_more_are_run():
    block = load_params(ROOT / "params.yaml").model("convnet")
    steps = 85  # of 64 images, for the 5,400 of 6,000 that do not validate
    schedule = training.optimizer("convnet", block.model_copy(update={"epochs": training.EPOCHS}), 6_000)._learning_rate
    rates = [float(schedule(step)) for step in (0, 2 * steps, 4 * steps - 1, 4 * steps, 9 * steps)]
    assert rates[:2] == pytest.approx([0.004, 0.002])
    assert rates[2] > 0
    assert rates[3:] == pytest.approx([0, 0], abs=1e-9)


def test_the_work_of_a_network_by_hand():
    import keras  # not where `two_rounds` runs

    dense = [keras.layers.Flatten(), keras.layers.Dense(100), keras.layers.Dense(10)]
    total, first = lower_bounds.forward_gflop(keras.Sequential([keras.Input((28, 28, 1)), *dense]))
    assert (total, first) == pytest.approx((2 * (784 * 100 + 100 * 10) / 1e9, 2 * 784 * 100 / 1e9))
    convolution = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(64, 3)])
    assert lower_bounds.forward_gflop(convolution)[0] == pytest.approx(2 * 26 * 26 * 9 * 64 / 1e9)


def test_tables_name_who_was_measured_and_how_many_times_ours_it_took():
    seconds = {"this_project": 0.5, "keras_fit": 5.0}
    measured = {"mlp": {"images": 60000, "seconds": seconds, "cpu_seconds": {"this_project": 0.9, "keras_fit": 7.0}}}
    assert report.training(measured).splitlines() == [
        "| an epoch of: time, processor time | this project | Keras `fit` |",
        "|---|---|---|",
        "| `mlp`, 60,000 images | 0.50 s (1.00x), 0.90 s | 5.00 s (10.00x), 7.00 s |",
    ]


def test_the_rate_of_photos_is_compared_with_what_decoding_and_computing_allow_together():
    rates = {"photos_this_project": 6.0, "photos_decoded": 10.0}
    block = {"images": 200, "bytes": 500_000, "per_s": rates, "memory_mib": dict.fromkeys(rates, 640.0)}
    lines = report.photos({"computing_per_s": 40.0, "small": block}).splitlines()
    assert lines[0] == "| photos of 12 megapixels | 200 of 0.5 MB: images/s, peak memory |"
    assert lines[2] == "| this project | 6.0, 640 MiB |"
    assert lines[-1].endswith(
        "decoding alone 10.0, so both on the same cores at most 8.0 images/s; reached 6.0 (0.75x of it, 0.15x of the "
        "computing rate)."
    )


def test_the_table_of_the_pipeline_has_what_was_measured():
    measured = {
        "repro": 1.0,
        "tutorial": 2.0,
        "repro, nothing to do": 1.2,
        "make repro, nothing to do": 1.4,
        "status": 1.0,
    }
    measured |= {"set-up": 30.0, "stages": {"prepare": {"seconds": 0.5, "cpu_seconds": 0.75}}}
    lines = report.pipeline(measured).splitlines()
    assert "| `make repro`, nothing to do | `dvc status` | 1.4 / 1.0 | 1.40x |" in lines
    assert lines[-1] == "| `prepare` | 0.5 | 0.8 |"


def test_each_stage_of_a_run_has_its_cost(tmp_path):
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/work.py").write_text("import sys; sum(range(10**7)); open(sys.argv[1], 'w').close()")
    (tmp_path / "dvc.yaml").write_text("stages: {work: {cmd: python -m stages.work out, outs: [out]}}")
    pipeline.seconds(tmp_path, "dvc", "init", "--quiet", "--no-scm")
    taken = pipeline.cost_of_stages(tmp_path)
    assert list(taken) == ["repro", "work out"]
    assert 0 < taken["work out"]["cpu_seconds"] < taken["repro"]["cpu_seconds"]
