"""The paper, reproduced: its tables and figures on our splits, beside the published numbers."""
