"""Classify images with ResNet50."""
