"""From a diagnosis to a plan: what each option costs, what it may gain, and which one is chosen."""
