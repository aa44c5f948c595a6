"""The paper's experiments, each with one command: experiments as data, a runner, records, tables, claims.

Nothing here that reads records or makes tables loads torch.
"""
