"""Carry out a plan: the training loop, BatchNorm statistics, prefix cache, memory limit, resuming."""
