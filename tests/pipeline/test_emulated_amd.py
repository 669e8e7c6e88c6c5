"""The same bits on an emulated processor: AMD's, without AVX-512 and with other caches. It runs beside test_emulated_intel.py, because files are what workers share."""

import pytest

from tests.pipeline.conftest import Emulated, needs_emulator, unless_here

pytestmark = [pytest.mark.slow, needs_emulator, unless_here("AuthenticAMD")]


class TestEpycMilan(Emulated):
    processor = "EPYC-Milan"
