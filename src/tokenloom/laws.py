"""The old place of `tokenloom.testing.laws`, for one release."""

import warnings

from tokenloom.testing.laws import *  # noqa: F403  # all that it had

warnings.warn(
    "tokenloom.laws is now tokenloom.testing.laws, its only place from the next release on",
    DeprecationWarning,
    stacklevel=2,
)
