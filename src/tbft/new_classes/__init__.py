"""Add classes that the base does not know."""

from tbft.new_classes.adding import add_classes
from tbft.new_classes.result import NewClasses

__all__ = ["NewClasses", "add_classes"]
