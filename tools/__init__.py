"""What is run beside the pipeline: see the packages inside."""
