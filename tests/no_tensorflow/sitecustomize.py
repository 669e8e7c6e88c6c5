"""Put on PYTHONPATH by test_jax.py: a machine on which TensorFlow cannot be imported."""

import sys

sys.modules["tensorflow"] = None
