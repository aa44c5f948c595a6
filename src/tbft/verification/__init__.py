"""Evaluate models, and decide whether tuning helped."""
