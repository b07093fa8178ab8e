"""The textbook's training loop and its tools."""

import itertools
import math
import re
import time
from typing import Any

import pytest
import torch
from torch import nn

import tokenloom as tl
from tokenloom import d2l
from tokenloom.errors import ArgumentError

CPU = torch.device("cpu")
VOCAB = d2l.Vocab(list("time traveller"))
IDS = VOCAB[list("time traveller time " * 20)]


class Successor:
    """A model of the reader's own that is sure which character comes next."""

    def __init__(self, text: str) -> None:
        self.following = dict(itertools.pairwise(VOCAB[list(text)]))
        self.devices: list[Any] = []

    def __call__(self, X: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Return logits that favour the character that follows."""
        following = torch.tensor([self.following.get(int(id_), 0) for id_ in X.T.reshape(-1)])
        return nn.functional.one_hot(following, len(VOCAB)).float(), state

    def begin_state(self, batch_size: int, device: Any) -> Any:
        """Return a state of three parts."""
        self.devices.append(device)
        return (torch.zeros(batch_size, 1),) * 3


def linear_net(**options: Any) -> Any:
    """Return a model from scratch without memory: one matrix of logits."""
    size = len(VOCAB)

    def get_params(vocab_size: int, num_hiddens: int, device: Any) -> list[torch.Tensor]:
        del num_hiddens
        return [torch.zeros(vocab_size, vocab_size, device=device, requires_grad=True)]

    def init_state(batch_size: int, num_hiddens: int, device: Any) -> tuple[torch.Tensor]:
        return (torch.zeros(batch_size, num_hiddens, device=device),)

    def forward(X: torch.Tensor, state: Any, params: list[torch.Tensor]) -> tuple[Any, Any]:
        return (X @ params[0]).reshape(-1, size), state

    chosen = {"get_params": get_params, "init_state": init_state, "forward_fn": forward}
    return d2l.RNNModelScratch(size, 4, CPU, **(chosen | options))


def pairs() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return a short epoch."""
    return list(d2l.seq_data_iter_sequential(IDS, 2, 5))


def pairs_of_epoch_zero() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the same batches whatever was called before."""
    corpus = tl.Corpus.from_tokens(IDS)
    windows = tl.SequentialWindows(corpus, batch_size=2, seq_len=5, shard=tl.Shard())
    return [(batch.inputs, batch.targets) for batch in windows]


def test_a_model_from_scratch_is_made_of_functions() -> None:
    """They get sizes, device and one-hot vectors, time first."""
    seen: dict[str, Any] = {}

    def forward(X: torch.Tensor, state: Any, params: Any) -> tuple[torch.Tensor, Any]:
        seen.update(X=X, params=params)
        return X.reshape(-1, X.shape[-1]), state

    net = linear_net(forward_fn=forward)
    (state,) = net.begin_state(2, CPU)
    outputs, _ = net(torch.arange(6, dtype=torch.int32).reshape(2, 3), (state,))
    assert (2, 4) == tuple(state.shape)
    assert [[0, 3], [1, 4], [2, 5]] == seen["X"].argmax(2).tolist()
    assert torch.float32 == seen["X"].dtype
    assert (6, len(VOCAB)) == tuple(outputs.shape)
    assert seen["params"] is net.params
    assert (len(VOCAB), 4) == (net.vocab_size, net.num_hiddens)


def test_prediction_follows_the_model() -> None:
    """The prefix, then the likeliest characters, each from the one before."""
    net = Successor("time ")
    assert "ttime " == d2l.predict_ch8("tt", 4, net, VOCAB, CPU)
    assert [CPU] == net.devices


def test_prediction_of_nothing_is_the_prefix() -> None:
    """A character that is not in the vocabulary is shown as unknown."""
    assert "<unk>ime" == d2l.predict_ch8("Time", 0, Successor("time"), VOCAB, CPU)


def test_prediction_is_that_of_generate() -> None:
    """Greedy, with the state carried through prefix and prediction."""
    torch.manual_seed(3)
    net = d2l.RNNModel(nn.LSTM(len(VOCAB), 8, 2), len(VOCAB))
    vocab = tl.Vocab(dict(VOCAB.token_freqs))
    expected = tl.generate(net, vocab, "time tr", num_tokens=20)
    assert expected == d2l.predict_ch8("time tr", 20, net, VOCAB, CPU)
    assert expected == d2l.predict_ch8("time tr", 20, net, vocab, CPU)


def test_prediction_is_made_without_dropout() -> None:
    """Repaired: the textbook leaves it on. The model goes on training afterwards."""
    net = d2l.RNNModel(nn.GRU(len(VOCAB), 8, 2, dropout=0.9), len(VOCAB))
    texts = {d2l.predict_ch8("time", 30, net, VOCAB, CPU) for _ in range(5)}
    assert 1 == len(texts)
    assert net.training
    assert net.rnn.training


def test_an_empty_prefix_is_refused() -> None:
    """A model needs something to go on from."""
    with pytest.raises(ArgumentError, match="at least one token, got ''"):
        d2l.predict_ch8("", 3, Successor("time"), VOCAB, CPU)


def test_an_epoch_measures_perplexity_and_speed() -> None:
    """A model that knows nothing hesitates between all tokens."""
    net = linear_net()
    ppl, speed = d2l.train_epoch_ch8(
        net, pairs(), nn.CrossEntropyLoss(), lambda **_: None, CPU, use_random_iter=False
    )
    assert math.isclose(ppl, len(VOCAB), rel_tol=1e-5)
    assert speed > 0


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_an_epoch_is_that_of_train(reduction: str) -> None:
    """Two epochs have the perplexities that tokenloom.train reports."""
    corpus = tl.Corpus.from_tokens(IDS, vocab_size=len(VOCAB))
    windows = tl.SequentialWindows(corpus, batch_size=2, seq_len=5, shard=tl.Shard())
    torch.manual_seed(1)
    net = d2l.RNNModel(nn.RNN(len(VOCAB), 8), len(VOCAB))
    torch.manual_seed(1)
    twin = d2l.RNNModel(nn.RNN(len(VOCAB), 8), len(VOCAB))
    history = tl.train(twin, tl.Loader(windows, num_epochs=2), device="cpu", progress=False)

    loader = tl.Loader(windows, num_epochs=1)
    updater = torch.optim.SGD(net.parameters(), 1.0)
    loss = nn.CrossEntropyLoss(reduction=reduction)
    measured = [
        d2l.train_epoch_ch8(net, loader, loss, updater, CPU, use_random_iter=False)[0]
        for _ in range(2)
    ]
    assert measured == pytest.approx([entry.perplexity for entry in history], rel=1e-5)


@pytest.mark.parametrize(("use_random_iter", "expected"), [(False, [0, 1, 2]), (True, [0, 0, 0])])
def test_the_state_is_carried_in_sequential_order(
    use_random_iter: bool, expected: list[int]
) -> None:
    """In random order it begins anew with each batch; no gradient flows through it."""
    seen = []

    def forward(X: torch.Tensor, state: Any, params: Any) -> tuple[torch.Tensor, Any]:
        assert not state[0].requires_grad
        seen.append(int(state[0][0, 0].round()))
        logits = (X @ params[0]).reshape(-1, len(VOCAB))
        return logits, (state[0] + 1 + 0 * logits.sum(),)

    d2l.train_epoch_ch8(
        linear_net(forward_fn=forward),
        pairs()[:3],
        nn.CrossEntropyLoss(),
        lambda **_: None,
        CPU,
        use_random_iter,
    )
    assert expected == seen


def test_an_updater_may_be_a_function() -> None:
    """It is called once per batch, after clipping, with a batch of one, by its name."""
    net, sizes = linear_net(), []

    def updater(*, batch_size: int) -> None:
        sizes.append(batch_size)
        assert float(net.params[0].grad.norm()) <= 1.0 + 1e-5
        d2l.sgd(net.params, 100.0, batch_size)

    d2l.train_epoch_ch8(net, pairs()[:3], nn.CrossEntropyLoss(), updater, CPU, False)  # noqa: FBT003
    assert [1, 1, 1] == sizes
    assert net.params[0].norm().item() > 1


def test_a_state_may_be_a_list() -> None:
    """The textbook loops over whatever parts there are."""

    def init_state(batch_size: int, num_hiddens: int, device: Any) -> list[torch.Tensor]:
        return [torch.zeros(batch_size, num_hiddens, device=device)]

    net = linear_net(init_state=init_state)
    d2l.train_epoch_ch8(net, pairs()[:3], nn.CrossEntropyLoss(), lambda **_: None, CPU, False)  # noqa: FBT003


def test_an_epoch_of_nothing_is_refused() -> None:
    """Repaired: the textbook divides by zero."""
    with pytest.raises(ArgumentError, match="at least one batch, got none"):
        d2l.train_epoch_ch8(linear_net(), [], nn.CrossEntropyLoss(), lambda **_: None, CPU, False)  # noqa: FBT003


def test_a_perplexity_past_all_numbers_is_infinite() -> None:
    """Repaired: the textbook ends in an OverflowError."""
    ppl, _ = d2l.train_epoch_ch8(
        linear_net(),
        pairs(),
        lambda logits, _: logits.sum() * 0 + 1000,
        lambda **_: None,
        CPU,
        use_random_iter=False,
    )
    assert math.inf == ppl


@pytest.mark.parametrize("scratch", [True, False])
def test_training_prints_what_the_textbook_prints(
    scratch: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prediction every ten epochs; then perplexity, speed, device, two predictions."""
    torch.manual_seed(0)
    net = linear_net() if scratch else d2l.RNNModel(nn.RNN(len(VOCAB), 8), len(VOCAB))
    d2l.train_ch8(net, pairs(), VOCAB, 1, 25, CPU)
    lines = capsys.readouterr().out.splitlines()
    assert 5 == len(lines)
    assert re.fullmatch(r"perplexity \d\.\d, \d+\.\d tokens/sec on cpu", lines[2])
    assert d2l.predict_ch8("time traveller", 50, net, VOCAB, CPU) == lines[3]
    assert d2l.predict_ch8("traveller", 50, net, VOCAB, CPU) == lines[4]
    for line in lines[:2]:
        assert line.startswith("time traveller")
        assert 64 == len(line)


@pytest.mark.parametrize("num_epochs", [1, 10, 11])
def test_few_epochs_train_too(num_epochs: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The curve begins at epoch 10, where there is one."""
    d2l.train_ch8(linear_net(), pairs(), VOCAB, 1, num_epochs, CPU, use_random_iter=True)
    assert 3 + num_epochs // 10 == len(capsys.readouterr().out.splitlines())


def test_training_draws_the_perplexity(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every ten epochs a point."""
    animators: list[d2l.Animator] = []

    def make(**options: Any) -> d2l.Animator:
        animators.append(d2l.Animator(**options))
        return animators[-1]

    monkeypatch.setattr("tokenloom.d2l.training.Animator", make)
    d2l.train_ch8(linear_net(), pairs(), VOCAB, 1, 30, CPU)
    (animator,) = animators
    assert [[10, 20, 30]] == animator.X
    assert f"perplexity {animator.Y[0][-1]:.1f}," in capsys.readouterr().out
    assert (10, 30) == animator.axes[0].get_xlim()
    assert "perplexity" == animator.axes[0].get_ylabel()


def test_training_of_no_epochs_is_refused() -> None:
    """Repaired: the textbook ends in a NameError."""
    with pytest.raises(ArgumentError, match="num_epochs must be at least 1, got 0"):
        d2l.train_ch8(linear_net(), pairs(), VOCAB, 1, 0, CPU)


def test_training_repeats_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Same seed of PyTorch, same batches, same text."""
    texts = set()
    for _ in range(2):
        torch.manual_seed(5)
        net = d2l.RNNModel(nn.GRU(len(VOCAB), 8), len(VOCAB))
        d2l.train_ch8(net, pairs_of_epoch_zero(), VOCAB, 1, 3, CPU)
        texts.add(tuple(capsys.readouterr().out.splitlines()[1:]))
    assert 1 == len(texts)


@pytest.mark.parametrize("is_module", [True, False])
def test_long_gradients_are_scaled(is_module: bool) -> None:
    """To the norm theta over all parameters together; what is frozen has none."""
    net: Any = linear_net()
    if is_module:
        net = nn.Linear(2, 2)
        net.bias.requires_grad_(requires_grad=False)
    parameter = net.weight if is_module else net.params[0]
    parameter.grad = torch.full_like(parameter, 3.0)
    d2l.grad_clipping(net, 2)
    assert math.isclose(2, float(parameter.grad.norm()), rel_tol=1e-5)


def test_short_gradients_stay() -> None:
    """Clipping is no normalising."""
    net = linear_net()
    net.params[0].grad = torch.full_like(net.params[0], 1e-3)
    d2l.grad_clipping(net, 1)
    assert bool((net.params[0].grad == 1e-3).all())


def test_a_step_divides_by_the_batch() -> None:
    """And leaves gradients of zero."""
    parameter = torch.ones(2, requires_grad=True)
    parameter.grad = torch.tensor([2.0, 4.0])
    unused = torch.ones(1, requires_grad=True)
    d2l.sgd([parameter, unused], lr=0.5, batch_size=2)
    assert [0.5, 0.0] == parameter.tolist()
    assert [0.0, 0.0] == parameter.grad.tolist()
    assert parameter.requires_grad
    assert [1.0] == unused.tolist()


@pytest.mark.parametrize(("num_gpus", "expected"), [(0, "cpu"), (1, "cpu"), (2, "cuda:1")])
def test_a_gpu_is_taken_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, num_gpus: int, expected: str
) -> None:
    """Counted from 0."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    assert torch.device(expected) == d2l.try_gpu(1)


@pytest.fixture
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock show 0, 1, 3, 6, 10, ... seconds."""
    monkeypatch.setattr(time, "perf_counter", itertools.accumulate(itertools.count()).__next__)


@pytest.mark.usefixtures("_clock")
def test_a_timer_keeps_its_times() -> None:
    """It runs from when it is made."""
    timer = d2l.Timer()
    first = timer.stop()
    timer.start()
    assert (1, 3) == (first, timer.stop())
    assert ([1, 3], 2, 4, [1, 4]) == (timer.times, timer.avg(), timer.sum(), timer.cumsum())


def test_sums_are_added_up() -> None:
    """Numbers and tensors; a tensor's gradient is left out."""
    metric = d2l.Accumulator(2)
    metric.add(torch.tensor(1.5, requires_grad=True) * 2, 2)
    metric.add(1, 3)
    assert (4.0, 5.0) == (metric[0], metric[1])
    metric.reset()
    assert [0.0, 0.0] == metric.data


def test_a_sum_needs_its_number() -> None:
    """Repaired: the textbook drops the sums that got none."""
    with pytest.raises(ValueError, match="zip"):
        d2l.Accumulator(2).add(1)
