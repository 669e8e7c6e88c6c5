"""The same bits on an emulated processor: AMD's, without AVX-512 and with other caches. It runs beside test_emulated_intel.py, because files are what workers share."""

import pytest

from tests.pipeline.conftest import NAMES, needs_emulator

pytestmark = [pytest.mark.slow, needs_emulator]
EMULATOR = ["qemu-x86_64", "-cpu", "EPYC-Milan"]


def test_every_network_optimizer_and_version_has_the_same_bits(native, results):
    """In one process, because TensorFlow takes half a minute to start."""
    assert results(*NAMES, prefix=EMULATOR) == native


def test_images_have_the_same_pixels(pixels):
    """AVIF with SSE4.1 only: QEMU 7.2 computes some of what the decoder does with AVX2 wrongly; see test_portability.py."""
    assert pixels(7, prefix=EMULATOR) == pixels(7)
