"""The command line, ``tbft``: a module for each subcommand, each a few lines over public functions."""

from tbft.cli.main import main

__all__ = ["main"]
