"""The data set: short fables, one to a paragraph."""

from importlib import resources

import tokenloom as tl


def read_fables() -> bytes:
    """Return the text, which lies in this package."""
    return resources.files("tokenloom_fables").joinpath("fables.txt").read_bytes()


FABLES = tl.hub.Entry(
    name="fables",
    description="six fables, told anew",
    licence="CC0-1.0",
    source=tl.hub.BuiltIn(read=read_fables),
)
