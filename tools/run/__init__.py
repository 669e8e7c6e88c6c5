"""What wraps `dvc repro`, and what shares its results."""
