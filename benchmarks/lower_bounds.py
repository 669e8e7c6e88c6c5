"""What the machine can do at best, and the work that there is."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.side_by_side import ROOT, unpin

SIDE = 2048  # of the matrices multiplied
PRODUCTS = 10
COPIED = 2**28  # bytes of each thread's array
COPIES = 4

MATRIX_GFLOP = PRODUCTS * 2 * SIDE**3 / 1e9
COPY_GB = 2 * 2 * COPIES * COPIED / 1e9  # two threads, each of which reads and writes


def matrix_products(tick: Callable) -> None:
    """NumPy's products of float32 matrices: MATRIX_GFLOP a round."""
    unpin()
    import numpy as np

    matrix = np.ones((SIDE, SIDE), np.float32)
    out = np.empty_like(matrix)
    while True:
        for _ in range(PRODUCTS):
            np.matmul(matrix, matrix, out=out)
        tick()


def copies(tick: Callable) -> None:
    """Arrays larger than the caches copied in two threads: COPY_GB read and written a round."""
    import numpy as np

    pairs = [(np.zeros(COPIED, np.uint8), np.ones(COPIED, np.uint8)) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        while True:
            for _ in range(COPIES):
                list(pool.map(lambda pair: np.copyto(*pair), pairs))
            tick()


def forward_gflop(network) -> tuple[float, float]:
    """10^9 floating-point operations of a Keras network's products for one image: in all, and in the first such layer.

    Two for each weight of a kernel and each place where it is applied; training takes three times as many, but for the
    first layer, whose inputs need no gradient.
    """
    import math

    work = []
    for layer in network.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            places = math.prod(layer.output.shape[1:-1]) if len(layer.output.shape) == 4 else 1
            work.append(2 * math.prod(kernel.shape) * places / 1e9)
    return sum(work), work[0]


def work() -> dict[str, float]:
    """10^9 operations to train each version on one image, and to classify one image with ResNet50."""
    import keras

    from stages import network
    from stages.common.params import load_params

    gflop = {}
    for version, model in load_params(ROOT / "params.yaml").models.items():
        total, first = forward_gflop(network.build(version, model, (28, 28, 1), 10))
        gflop[version] = 3 * total - first
    gflop["resnet50"] = forward_gflop(keras.applications.ResNet50(weights=None))[0]
    return gflop
