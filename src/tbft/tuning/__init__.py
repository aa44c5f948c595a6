"""Carry out a plan: the one training loop, BatchNorm statistics, prefix cache, memory limit, resuming."""
