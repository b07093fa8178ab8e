"""Programs of the kind that the textbook's chapters on recurrent networks hold.

They are written anew, with the names that the chapters import, and run on the
real text where it lies beside the project, else on one like it.
"""

import functools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the readers' name

from tests.support.hub.file_server import serving
from tests.support.hub.textbook import IS_REAL, answers, book, enter, offer
from tokenloom import d2l as d2l  # noqa: PLC0414  the readers' spelling

REPORT = r"perplexity (\d+\.\d), \d+\.\d tokens/sec on cpu"


@pytest.fixture(autouse=True)
def _chapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve the book, work in an empty folder, draw into memory."""
    torch.manual_seed(0)
    enter(tmp_path, monkeypatch)
    content = book()
    d2l.plt.switch_backend("agg")
    with serving(answers(content)) as server:
        offer(server, monkeypatch, content)
        yield
    d2l.plt.close("all")


def report(capsys: pytest.CaptureFixture[str]) -> float:
    """Check the last three printed lines and return the perplexity."""
    *_, summary, first, second = capsys.readouterr().out.splitlines()
    match = re.fullmatch(REPORT, summary)
    assert match
    assert first.startswith("time traveller")
    assert second.startswith("traveller")
    return float(match[1])


def normal(*shape: int, device: Any) -> torch.Tensor:
    """Return small random weights."""
    return torch.randn(size=shape, device=device) * 0.01


def gates(vocab_size: int, num_hiddens: int, device: Any, num_gates: int) -> list[torch.Tensor]:
    """Return weights and biases of gates and of the output, ready for gradients."""
    params = []
    for _ in range(num_gates):
        params += [
            normal(vocab_size, num_hiddens, device=device),
            normal(num_hiddens, num_hiddens, device=device),
            torch.zeros(num_hiddens, device=device),
        ]
    params += [normal(num_hiddens, vocab_size, device=device), torch.zeros(vocab_size)]
    return [param.requires_grad_() for param in params]


def test_text_preprocessing() -> None:
    """Lines, tokens, vocabulary, corpus."""
    lines = d2l.read_time_machine()
    words = d2l.tokenize(lines)
    vocab = d2l.Vocab(words)
    assert [("<unk>", 0), ("the", 1)] == list(vocab.token_to_idx.items())[:2]
    for i in [0, 10]:
        assert lines[i].split() == words[i] == vocab.to_tokens(vocab[words[i]])
    assert [vocab["the"], vocab["time"]] == vocab[["the", "time"]]

    corpus, characters = d2l.load_corpus_time_machine()
    assert sum(map(len, lines)) == len(corpus)
    assert len({*"".join(lines)}) + 1 == len(characters)
    assert "".join(lines)[:30] == "".join(characters.to_tokens(corpus[:30]))
    if IS_REAL:
        assert (170_580, 28, 4580) == (len(corpus), len(characters), len(vocab))


def test_language_models() -> None:
    """Frequencies of words, pairs and triples; both ways to cut a sequence."""
    corpus = [token for line in d2l.tokenize(d2l.read_time_machine()) for token in line]
    vocab = d2l.Vocab(corpus)
    pairs = d2l.Vocab([pair for pair in zip(corpus[:-1], corpus[1:])])  # noqa: B905, C416
    triples = d2l.Vocab(list(zip(corpus[:-2], corpus[1:-1], corpus[2:], strict=True)))
    freqs = [[freq for _, freq in v.token_freqs] for v in (vocab, pairs, triples)]
    assert [len(corpus) - n for n in range(3)] == [sum(counts) for counts in freqs]
    (first, second), count = pairs.token_freqs[0]
    assert count <= min(dict(vocab.token_freqs)[first], dict(vocab.token_freqs)[second])
    d2l.plot(
        freqs,
        xlabel="token: x",
        ylabel="frequency: n(x)",
        xscale="log",
        yscale="log",
        legend=["unigram", "bigram", "trigram"],
    )
    assert list(map(len, freqs)) == [len(line.get_xdata()) for line in d2l.plt.gca().lines]

    my_seq = list(range(35))
    for cut in (d2l.seq_data_iter_random, d2l.seq_data_iter_sequential):
        batches = [(X, Y) for X, Y in cut(my_seq, batch_size=2, num_steps=5)]
        assert [(2, 5)] * 3 == [tuple(X.shape) for X, _ in batches]
        inputs = torch.cat([X.reshape(-1) for X, _ in batches])
        assert 30 == len(set(inputs.tolist()))


def rnn_params(vocab_size: int, num_hiddens: int, device: Any) -> list[torch.Tensor]:
    """Return the parameters of a plain recurrent network."""
    return gates(vocab_size, num_hiddens, device, 1)


def rnn_state(batch_size: int, num_hiddens: int, device: Any) -> tuple[torch.Tensor]:
    """Return a tuple of one tensor."""
    return (torch.zeros((batch_size, num_hiddens), device=device),)


def rnn(inputs: torch.Tensor, state: Any, params: Any) -> tuple[torch.Tensor, Any]:
    """Return the logits of every step, time first."""
    W_xh, W_hh, b_h, W_hq, b_q = params
    (H,) = state
    outputs = []
    for X in inputs:
        H = torch.tanh(X @ W_xh + H @ W_hh + b_h)
        outputs.append(H @ W_hq + b_q)
    return torch.cat(outputs, dim=0), (H,)


def test_rnn_from_scratch(capsys: pytest.CaptureFixture[str]) -> None:
    """One-hot inputs, a model of functions, clipping, training in both orders."""
    batch_size, num_steps, num_hiddens, device = 32, 20, 64, d2l.try_gpu()
    train_iter, vocab = d2l.load_data_time_machine(batch_size, num_steps, max_tokens=4000)
    X = torch.arange(10).reshape((2, 5))
    assert (5, 2, len(vocab)) == tuple(F.one_hot(X.T, len(vocab)).shape)

    net = d2l.RNNModelScratch(len(vocab), num_hiddens, device, rnn_params, rnn_state, rnn)
    state = net.begin_state(X.shape[0], device)
    Y, new_state = net(X.to(device), state)
    assert ((10, len(vocab)), 1) == (tuple(Y.shape), len(new_state))
    assert (2, num_hiddens) == tuple(new_state[0].shape)
    assert 24 == len(d2l.predict_ch8("time traveller ", 9, net, vocab, device))

    updater = lambda batch_size: d2l.sgd(net.params, 1, batch_size)  # noqa: E731  the readers' way
    loss = nn.CrossEntropyLoss()
    before, _ = d2l.train_epoch_ch8(net, train_iter, loss, updater, device, use_random_iter=False)
    d2l.train_ch8(net, train_iter, vocab, 1, 12, device)
    assert report(capsys) < before < len(vocab) + 1

    random_iter, _ = d2l.load_data_time_machine(batch_size, num_steps, use_random_iter=True)
    d2l.train_ch8(net, random_iter, vocab, 1, 1, device, use_random_iter=True)
    assert report(capsys) < before


def test_own_training_loop() -> None:
    """A reader writes the chapter's loop himself, out of the small tools."""
    train_iter, vocab = d2l.load_data_time_machine(16, 20, max_tokens=1000)
    net = d2l.RNNModelScratch(len(vocab), 16, d2l.try_gpu(), rnn_params, rnn_state, rnn)
    metric, timer, loss = d2l.Accumulator(2), d2l.Timer(), nn.CrossEntropyLoss()
    state = None
    for X, Y in train_iter:
        if state is None:
            state = net.begin_state(batch_size=X.shape[0], device=d2l.try_gpu())
        else:
            for s in state:
                s.detach_()
        y_hat, state = net(X, state)
        mean_loss = loss(y_hat, Y.T.reshape(-1).long()).mean()
        mean_loss.backward()
        d2l.grad_clipping(net, 1)
        d2l.sgd(net.params, lr=1, batch_size=1)
        metric.add(mean_loss * Y.numel(), Y.numel())
    assert math.exp(metric[0] / metric[1]) < len(vocab) + 1
    assert metric[1] / timer.stop() > 0


def test_concise_rnn(capsys: pytest.CaptureFixture[str]) -> None:
    """The book's shapes, a prediction without training, a short training."""
    batch_size, num_steps = 32, 35
    train_iter, vocab = d2l.load_data_time_machine(batch_size, num_steps)
    num_hiddens = 256
    rnn_layer = nn.RNN(len(vocab), num_hiddens)
    state = torch.zeros((1, batch_size, num_hiddens))
    X = torch.rand(size=(num_steps, batch_size, len(vocab)))
    Y, state_new = rnn_layer(X, state)
    assert ((35, 32, 256), (1, 32, 256)) == (tuple(Y.shape), tuple(state_new.shape))

    device = d2l.try_gpu()
    net = d2l.RNNModel(rnn_layer, vocab_size=len(vocab)).to(device)
    assert torch.equal(state, torch.as_tensor(net.begin_state(device=device, batch_size=32)))
    assert 24 == len(d2l.predict_ch8("time traveller", 10, net, vocab, device))
    d2l.train_ch8(net, train_iter, vocab, 1, 10, device)
    assert report(capsys) < 16


class OwnModel(nn.Module):
    """A reader's own model: a layer, and a linear layer on top."""

    def __init__(self, rnn_layer: nn.RNNBase, vocab_size: int) -> None:
        super().__init__()
        self.rnn, self.vocab_size = rnn_layer, vocab_size
        self.linear = nn.Linear(rnn_layer.hidden_size, vocab_size)

    def forward(self, inputs: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Return logits and state."""
        X = F.one_hot(inputs.T.long(), self.vocab_size).to(torch.float32)
        Y, state = self.rnn(X, state)
        return self.linear(Y.reshape((-1, Y.shape[-1]))), state

    def begin_state(self, device: Any, batch_size: int = 1) -> torch.Tensor:
        """Return zeros."""
        return torch.zeros((1, batch_size, self.rnn.hidden_size), device=device)


def test_concise_rnn_with_an_own_model(capsys: pytest.CaptureFixture[str]) -> None:
    """What a reader typed in himself trains as well."""
    train_iter, vocab = d2l.load_data_time_machine(32, 35, max_tokens=3000)
    net = OwnModel(nn.RNN(len(vocab), 32), len(vocab))
    d2l.train_ch8(net, train_iter, vocab, 1, 10, d2l.try_gpu())
    assert report(capsys) < 20


def gru(inputs: torch.Tensor, state: Any, params: Any) -> tuple[torch.Tensor, Any]:
    """Return the logits of a gated recurrent unit."""
    W_xz, W_hz, b_z, W_xr, W_hr, b_r, W_xh, W_hh, b_h, W_hq, b_q = params
    (H,) = state
    outputs = []
    for X in inputs:
        Z = torch.sigmoid(X @ W_xz + H @ W_hz + b_z)
        R = torch.sigmoid(X @ W_xr + H @ W_hr + b_r)
        H_tilde = torch.tanh(X @ W_xh + (R * H) @ W_hh + b_h)
        H = Z * H + (1 - Z) * H_tilde
        outputs.append(H @ W_hq + b_q)
    return torch.cat(outputs, dim=0), (H,)


def test_gru(capsys: pytest.CaptureFixture[str]) -> None:
    """From scratch, then concise."""
    train_iter, vocab = d2l.load_data_time_machine(32, 35, max_tokens=3000)
    vocab_size, num_hiddens, device = len(vocab), 32, d2l.try_gpu()
    model = d2l.RNNModelScratch(
        vocab_size, num_hiddens, device, functools.partial(gates, num_gates=3), rnn_state, gru
    )
    d2l.train_ch8(model, train_iter, vocab, 1, 5, device)
    assert report(capsys) < 25

    num_inputs = vocab_size
    gru_layer = nn.GRU(num_inputs, num_hiddens)
    concise = d2l.RNNModel(gru_layer, len(vocab))
    concise = concise.to(device)
    d2l.train_ch8(concise, train_iter, vocab, 1, 10, device)
    assert report(capsys) < 20


def lstm_state(batch_size: int, num_hiddens: int, device: Any) -> tuple[torch.Tensor, ...]:
    """Return hidden state and cells."""
    return rnn_state(batch_size, num_hiddens, device) * 2


def lstm(inputs: torch.Tensor, state: Any, params: Any) -> tuple[torch.Tensor, Any]:
    """Return the logits of a network with long short-term memory."""
    W_xi, W_hi, b_i, W_xf, W_hf, b_f, W_xo, W_ho, b_o, W_xc, W_hc, b_c, W_hq, b_q = params
    (H, C) = state
    outputs = []
    for X in inputs:
        I = torch.sigmoid(X @ W_xi + H @ W_hi + b_i)  # noqa: E741  the gate's letter
        F_gate = torch.sigmoid(X @ W_xf + H @ W_hf + b_f)
        O = torch.sigmoid(X @ W_xo + H @ W_ho + b_o)  # noqa: E741  the gate's letter
        C = F_gate * C + I * torch.tanh(X @ W_xc + H @ W_hc + b_c)
        H = O * torch.tanh(C)
        outputs.append(H @ W_hq + b_q)
    return torch.cat(outputs, dim=0), (H, C)


def test_lstm(capsys: pytest.CaptureFixture[str]) -> None:
    """From scratch, then concise: the state is a pair."""
    train_iter, vocab = d2l.load_data_time_machine(32, 35, max_tokens=3000)
    vocab_size, num_hiddens, device = len(vocab), 32, d2l.try_gpu()
    model = d2l.RNNModelScratch(
        vocab_size, num_hiddens, device, functools.partial(gates, num_gates=4), lstm_state, lstm
    )
    d2l.train_ch8(model, train_iter, vocab, 1, 5, device)
    assert report(capsys) < 25

    concise = d2l.RNNModel(nn.LSTM(vocab_size, num_hiddens), len(vocab))
    hidden, cells = concise.begin_state(device=device, batch_size=32)
    assert (1, 32, 32) == tuple(hidden.shape) == tuple(cells.shape)
    d2l.train_ch8(concise, train_iter, vocab, 1, 10, device)
    assert report(capsys) < 25


def test_deep_rnn(capsys: pytest.CaptureFixture[str]) -> None:
    """Two layers, a larger learning rate."""
    train_iter, vocab = d2l.load_data_time_machine(32, 35, max_tokens=3000)
    vocab_size, num_hiddens, num_layers = len(vocab), 32, 2
    device = d2l.try_gpu()
    model = d2l.RNNModel(nn.LSTM(vocab_size, num_hiddens, num_layers), len(vocab))
    model = model.to(device)
    assert (2, 32, 32) == tuple(model.begin_state(device, 32)[0].shape)
    num_epochs, lr = 10, 2
    d2l.train_ch8(model, train_iter, vocab, lr * 1.0, num_epochs, device)
    assert report(capsys) < 25


def test_bidirectional_rnn(capsys: pytest.CaptureFixture[str]) -> None:
    """The wrong use that the chapter warns of: it reads what it should predict."""
    train_iter, vocab = d2l.load_data_time_machine(32, 35, max_tokens=3000)
    vocab_size, num_hiddens, num_layers, device = len(vocab), 32, 2, d2l.try_gpu()
    lstm_layer = nn.LSTM(vocab_size, num_hiddens, num_layers, bidirectional=True)
    model = d2l.RNNModel(lstm_layer, len(vocab))
    assert (2, 64) == (model.num_directions, model.linear.in_features)
    assert (4, 32, 32) == tuple(model.begin_state(device=device, batch_size=32)[0].shape)
    d2l.train_ch8(model, train_iter, vocab, 1, 10, device)
    assert report(capsys) < 25


@pytest.mark.slow
@pytest.mark.parametrize("use_random_iter", [False, True])
def test_a_short_training_learns(use_random_iter: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """An eighth of the concise chapter's epochs is enough to see that it learns."""
    train_iter, vocab = d2l.load_data_time_machine(32, 35, use_random_iter)
    net = d2l.RNNModel(nn.RNN(len(vocab), 256), len(vocab))
    d2l.train_ch8(net, train_iter, vocab, 1, 60, d2l.try_gpu(), use_random_iter)
    # It begins near 28, and single characters that follow each other come to 10.
    assert report(capsys) < 9
