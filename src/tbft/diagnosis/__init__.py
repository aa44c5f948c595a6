"""Diagnose the level of drift from samples: observation, source card, evidence, levels."""
