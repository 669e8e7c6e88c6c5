"""The same bits on an emulated processor: AMD's, without AVX-512 and with other caches. It runs beside test_emulated_intel.py, because files are what workers share."""

import pytest

from tests.pipeline.conftest import NAMES, VERSIONS, needs_emulator, same_graphs

pytestmark = [pytest.mark.slow, needs_emulator]
EMULATOR = ["qemu-x86_64", "-cpu", "EPYC-Milan"]


@pytest.fixture(scope="module")
def emulated(results, tapes) -> dict[str, str]:
    """In one process, because TensorFlow takes half a minute to start. The versions' tapes are made there, too."""
    return results(*NAMES, prefix=EMULATOR, tapes=tapes)


def test_every_network_optimizer_and_version_has_the_same_bits(native, emulated):
    assert emulated == native


def test_the_same_graphs_are_made_of_the_versions(emulated, tapes, native_tapes):
    """So those of the other networks need not be made anew, for which the emulator would take ten times as long."""
    assert same_graphs(tapes, native_tapes) == VERSIONS


def test_images_have_the_same_pixels(pixels):
    """AVIF with SSE4.1 only: QEMU 7.2 computes some of what the decoder does with AVX2 wrongly; see test_portability.py."""
    assert pixels(7, prefix=EMULATOR) == pixels(7)
