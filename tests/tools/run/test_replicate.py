"""One version with several seeds, in this process."""

import pytest

from stages import mnist
from stages.common.cli import UserError
from stages.common.params import Params, Replicates
from tests.train.test_loop import SGD, SOFTMAX, version
from tools.run.replicate import replicate, seeds_of

LINEAR = {"Dense": {"units": 10}}


def test_after_the_largest_seed_comes_the_smallest():
    params = Params.model_construct(seed=2**32 - 2, replicates=Replicates(seeds=3))
    assert seeds_of(params) == [4294967294, 4294967295, 0]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (version("Flatten", SOFTMAX, {"BatchNormalization": {"momentum": 0.5}}), r"\.layers: .* no probabilities"),
        (
            version("Flatten", LINEAR, LINEAR, SOFTMAX, optimizer=SGD | {"learning_rate": 1e30}, batch_size=600),
            ": .* not finite: training diverged",
        ),
    ],
    ids=["no probabilities", "diverged in the last step"],
)
def test_what_evaluate_refuses_has_no_results_over_seeds(model, message, digits):
    """Without a validation split, the training alone does not notice it."""
    model = model.model_copy(update={"validation_split": 0.0, "epochs": 1})
    with pytest.raises(UserError, match=f"^params.yaml: models.v{message}"):
        replicate("v", model, 42, digits, mnist.Digits(digits.images[:50], digits.labels[:50]))
