"""From samples to the level of drift: observation, source card, evidence, levels."""
