"""The reference model: a recurrent network, its loss, its evaluation and its texts."""

from tokenloom.model.evaluation import Evaluation, evaluate
from tokenloom.model.generation import GeneratedToken, generate, stream
from tokenloom.model.rnn import RNNModel

__all__ = ["Evaluation", "GeneratedToken", "RNNModel", "evaluate", "generate", "stream"]
