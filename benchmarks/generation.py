"""How fast text comes out of a model: the textbook's prediction and tokenloom's, in one run.

    python benchmarks/generation.py [--characters 1000] [--repetitions 15]

Both write the same characters, greedily, with the same weights: 28 tokens, 256
hidden units, one thread. They take turns, so that a slow moment of the machine
meets both. The limit is what no step can do without: the products of one row with
the recurrent and with the output weights, and nothing else.
"""

import argparse
import operator
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

import tokenloom as tl
from training import NUM_HIDDENS, TextbookModel

VOCAB = tl.Vocab(list("abcdefghijklmnopqrstuvwxyz "))
PROMPT = "time traveller"
LAYERS: dict[str, type[nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def predict(prefix: str, num_preds: int, net: TextbookModel) -> str:
    """Return what the textbook's prediction writes, character by character."""
    zeros = torch.zeros(1, 1, NUM_HIDDENS)
    state = (zeros, zeros) if isinstance(net.rnn, nn.LSTM) else zeros
    outputs = [VOCAB[prefix[0]]]
    for character in prefix[1:]:
        _, state = net(torch.tensor([outputs[-1]]).reshape((1, 1)), state)
        outputs.append(VOCAB[character])
    for _ in range(num_preds):
        logits, state = net(torch.tensor([outputs[-1]]).reshape((1, 1)), state)
        outputs.append(int(logits.argmax(dim=1).reshape(1)))
    return "".join(VOCAB.to_tokens(number) for number in outputs)


@torch.inference_mode()
def multiply(num_steps: int, net: tl.RNNModel) -> None:
    """Do no more than the products of ``num_steps`` steps."""
    recurrent, row = net.rnn.weight_hh_l0, torch.zeros(1, NUM_HIDDENS)
    for _ in range(num_steps):
        functional.linear(row, recurrent)
        functional.linear(row, net.linear.weight)


def make_models(layer: type[nn.RNNBase]) -> tuple[TextbookModel, tl.RNNModel]:
    """Return both models with the same weights."""
    torch.manual_seed(0)
    theirs = TextbookModel(len(VOCAB))
    theirs.rnn = layer(len(VOCAB), NUM_HIDDENS)  # type: ignore[assignment]  # any of the three
    ours = tl.RNNModel(layer(len(VOCAB), NUM_HIDDENS), len(VOCAB))
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def take_turns(ways: dict[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Return the seconds of each way in each repetition, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(-1, repetitions):
        for name, way in ways.items():
            began_at = time.perf_counter()
            way()
            if repetition >= 0:
                seconds[name].append(time.perf_counter() - began_at)
    return seconds


def main() -> None:
    """Time both for each kind of layer and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--characters", type=int, default=1000)
    parser.add_argument("--repetitions", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    print(f"{'':6}{'textbook':>12}{'tokenloom':>12}{'ratio':>8}{'limit':>8}{'32 at once':>13}")
    for name, layer in LAYERS.items():
        theirs, ours = make_models(layer)
        num = arguments.characters
        ways: dict[str, Callable[[], object]] = {
            "textbook": lambda num=num, net=theirs: predict(PROMPT, num, net),
            "tokenloom": lambda num=num, net=ours: tl.generate(net, VOCAB, PROMPT, num_tokens=num),
            "batch": lambda num=num, net=ours: tl.generate(
                net, VOCAB, [PROMPT] * 32, num_tokens=num
            ),
            "limit": lambda num=num, net=ours: multiply(num, net),
        }
        if ways["textbook"]() != ways["tokenloom"]():
            msg = f"the two texts of the {name} differ"
            raise ValueError(msg)
        seconds = take_turns(ways, arguments.repetitions)
        times = {way: statistics.median(values) for way, values in seconds.items()}
        ratio, limit = (
            statistics.median(map(operator.truediv, seconds["textbook"], seconds[way]))
            for way in ("tokenloom", "limit")
        )
        each = 32 * times["textbook"] / times["batch"]
        print(
            f"{name:6}{times['textbook'] * 1e3:9.1f} ms{times['tokenloom'] * 1e3:9.1f} ms"
            f"{ratio:6.2f} x{limit:6.2f} x{each:11.1f} x"
        )


if __name__ == "__main__":
    main()
