"""The pipeline's stages, one module each; `python -m stages.<stage> --help` says what it does."""

from stages.common import environment  # noqa: F401  must come before NumPy and TensorFlow are imported
