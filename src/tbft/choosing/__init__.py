"""From a diagnosis to a plan: what every option costs, what it may gain, and which one is taken."""
