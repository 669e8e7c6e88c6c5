"""Put on PYTHONPATH by test_jax.py: a machine on which TensorFlow cannot be imported."""

raise ImportError("there is no TensorFlow here")
