"""What every stage uses, and nothing else."""
