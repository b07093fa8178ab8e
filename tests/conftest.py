"""Settings of the tests."""

from hypothesis import HealthCheck, settings

# Machines are shared and noisy: no example has a deadline.
settings.register_profile(
    "default", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")
