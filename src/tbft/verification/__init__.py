"""How well a model does, and whether tuning helped."""
