"""Settings of the tests."""

import torch
from hypothesis import HealthCheck, settings

# The tensors here are small: more threads would only wait for each other.
torch.set_num_threads(1)

# Machines are shared and noisy: no example has a deadline.
settings.register_profile(
    "default", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")
