"""Settings of the tests."""

import multiprocessing
import signal

import torch
from hypothesis import HealthCheck, settings

from tokenloom import blocks, download
from tokenloom.transfer import Patience

# The tensors here are small: more threads would only wait for each other.
torch.set_num_threads(1)
# The corpora here are small too: with small blocks an epoch has several of them.
blocks._BLOCK_TOKENS = 100

# The server from which workers are forked imports PyTorch once.
multiprocessing.get_context("forkserver").set_forkserver_preload(["tokenloom.workers"])

# A server here answers at once, if at all.
download.PATIENCE = Patience(pause_seconds=0.01, max_pause_seconds=1.0)

# A shell that runs the tests in the background has them ignore Ctrl-C, and so all they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Machines are shared and noisy: no example has a deadline.
settings.register_profile(
    "default", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")
