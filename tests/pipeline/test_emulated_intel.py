"""The same bits on an emulated processor: Intel's, without AVX-512 and with other caches. It runs beside test_emulated_amd.py, because files are what workers share."""

import pytest

from tests.pipeline.conftest import Emulated, needs_emulator, unless_here

pytestmark = [pytest.mark.slow, needs_emulator, unless_here("GenuineIntel")]


class TestHaswell(Emulated):
    processor = "Haswell-v4"
