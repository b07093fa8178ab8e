"""The textbook's training loop, and the small tools around it."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

from tokenloom._wording import show
from tokenloom.d2l.figures import Animator
from tokenloom.errors import ArgumentError
from tokenloom.model.evaluation import perplexity
from tokenloom.model.rnn import State, detach

_MAX_GRAD_NORM = 1.0
_EPOCHS_PER_REPORT = 10
_REPORTED_TOKENS = 50

Device = torch.device | str
Updater = torch.optim.Optimizer | Callable[..., None]


class Net(Protocol):
    """A model that the loops can train; one that is no nn.Module also has ``params``."""

    def __call__(self, X: torch.Tensor, state: Any, /) -> tuple[torch.Tensor, Any]:
        """Return logits, shape (num_steps * batch_size, vocab_size), and the state."""

    def begin_state(self, *, batch_size: int, device: Device) -> Any:
        """Return the initial state: a tensor or a tuple of tensors."""


class RNNModelScratch:
    """A model whose parameters, state and steps are given as functions.

    Parameters
    ----------
    vocab_size, num_hiddens : int
    device : torch.device or str
    get_params : callable
        ``get_params(vocab_size, num_hiddens, device)`` returns the list of
        parameters.
    init_state : callable
        ``init_state(batch_size, num_hiddens, device)`` returns a tuple of
        tensors.
    forward_fn : callable
        ``forward_fn(X, state, params)`` returns outputs and state, given one-hot
        vectors ``X``: float tensor, shape (num_steps, batch_size, vocab_size).

    Attributes
    ----------
    params : list of torch.Tensor
    """

    def __init__(
        self,
        vocab_size: int,
        num_hiddens: int,
        device: Device,
        get_params: Callable[..., list[torch.Tensor]],
        init_state: Callable[..., State],
        forward_fn: Callable[..., tuple[torch.Tensor, State]],
    ) -> None:
        self.vocab_size, self.num_hiddens = vocab_size, num_hiddens
        self.params = get_params(vocab_size, num_hiddens, device)
        self.init_state, self.forward_fn = init_state, forward_fn

    def __call__(self, X: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Return what ``forward_fn`` does for ids of shape (batch_size, num_steps)."""
        one_hot = functional.one_hot(X.T.long(), self.vocab_size).to(torch.float32)
        return self.forward_fn(one_hot, state, self.params)

    def begin_state(self, batch_size: int, device: Device) -> State:
        """Return the initial state, made by ``init_state``."""
        return self.init_state(batch_size, self.num_hiddens, device)


def predict_ch8(prefix: str, num_preds: int, net: Net, vocab: Any, device: Device) -> str:
    """Return the prefix and the likeliest tokens after it.

    Parameters
    ----------
    prefix : str
        At least one character; one that is not in ``vocab`` comes back as
        ``<unk>``.
    num_preds : int
        Tokens to write.
    net : Net
        Called without dropout and without gradients; its mode is not changed.
    vocab : Vocab
        The textbook's or tokenloom's.
    device : torch.device or str

    Raises
    ------
    ArgumentError
        ``prefix`` is empty.
    """
    if not len(prefix):
        msg = f"prefix must hold at least one token, got {show(prefix)}: begin with some text"
        raise ArgumentError(msg)
    ids = [vocab[token] for token in prefix]
    with _evaluating(net), torch.no_grad():
        state = net.begin_state(batch_size=1, device=device)
        for position in range(len(ids) - 1 + num_preds):
            logits, state = net(torch.tensor([[ids[position]]], device=device), state)
            if position + 1 == len(ids):
                ids.append(int(logits.argmax()))
    return "".join(vocab.to_tokens(ids))


def train_epoch_ch8(
    net: Net,
    train_iter: Iterable[Any],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    updater: Updater,
    device: Device,
    use_random_iter: bool,
) -> tuple[float, float]:
    """Train for one pass over the batches; return perplexity, tokens per second.

    Parameters
    ----------
    net : Net
    train_iter : iterable of (X, Y)
        Integer tensors, shape (batch_size, num_steps).
    loss : callable
        Called with logits and ids; its mean is minimised.
    updater : torch.optim.Optimizer, or callable
        ``updater(batch_size=1)`` changes ``net.params`` and zeroes their gradients, as
        `sgd` does.
    device : torch.device or str
    use_random_iter : bool
        Whether the state is reset for each batch; else it is carried on,
        detached.

    Raises
    ------
    ArgumentError
        There are no batches.
    """
    state: Any = None
    timer, metric = Timer(), Accumulator(2)
    for X, Y in train_iter:
        if state is None or use_random_iter:
            state = net.begin_state(batch_size=X.shape[0], device=device)
        else:
            state = detach(state)
        y = Y.T.reshape(-1).long().to(device)
        logits, state = net(X.to(device), state)
        mean_loss = loss(logits, y).mean()
        _update(net, mean_loss, updater)
        metric.add(mean_loss.item() * y.numel(), y.numel())
    if not metric[1]:
        msg = "train_iter must yield at least one batch, got none"
        raise ArgumentError(msg)
    return perplexity(metric[0] / metric[1]), metric[1] / timer.stop()


def train_ch8(
    net: Net,
    train_iter: Iterable[Any],
    vocab: Any,
    lr: float,
    num_epochs: int,
    device: Device,
    use_random_iter: bool = False,
) -> None:
    """Train with plain SGD, gradient norm 1, and show the progress.

    Every 10 epochs it prints 50 characters after 'time traveller' and, in a
    notebook, draws the perplexity. At the end it prints perplexity, tokens per
    second, device and two predictions.

    Parameters
    ----------
    net, train_iter, vocab, device, use_random_iter
        As in `train_epoch_ch8` and `predict_ch8`.
    lr : float
        Learning rate, per batch.
    num_epochs : int
        At least 1.

    Raises
    ------
    ArgumentError
        ``num_epochs`` is below 1, or there are no batches.
    """
    if num_epochs < 1:
        msg = f"num_epochs must be at least 1, got {num_epochs}"
        raise ArgumentError(msg)
    xlim = _EPOCHS_PER_REPORT, num_epochs
    animator = Animator(xlabel="epoch", ylabel="perplexity", legend=["train"], xlim=xlim)
    loss, updater = nn.CrossEntropyLoss(), _make_updater(net, lr)

    def predict(prefix: str) -> str:
        return predict_ch8(prefix, _REPORTED_TOKENS, net, vocab, device)

    for epoch in range(1, num_epochs + 1):
        ppl, speed = train_epoch_ch8(net, train_iter, loss, updater, device, use_random_iter)
        if epoch % _EPOCHS_PER_REPORT == 0:
            print(predict("time traveller"))
            animator.add(epoch, [ppl])
    print(f"perplexity {ppl:.1f}, {speed:.1f} tokens/sec on {device}")
    print(predict("time traveller"))
    print(predict("traveller"))


def grad_clipping(net: Any, theta: float) -> None:
    """Scale the gradients of a model to a Euclidean norm of at most ``theta``.

    Parameters
    ----------
    net : torch.nn.Module, or an object with a list ``params``
    theta : float
    """
    nn.utils.clip_grad_norm_(_parameters(net), theta)


def sgd(params: Iterable[torch.Tensor], lr: float, batch_size: int) -> None:
    """Take a step of stochastic gradient descent and zero the gradients.

    Parameters
    ----------
    params : iterable of torch.Tensor
        Parameters without a gradient are not changed.
    lr : float
    batch_size : int
        Number by which the gradients are divided.
    """
    with torch.no_grad():
        for param in params:
            if param.grad is not None:
                param -= lr * param.grad / batch_size  # noqa: PLW2901  in place
                param.grad.zero_()


def try_gpu(i: int = 0) -> torch.device:
    """Return the i-th GPU where there is one, else the CPU."""
    return torch.device(f"cuda:{i}" if torch.cuda.device_count() > i else "cpu")


class Timer:
    """A stop-watch that keeps every time it took; it runs from the start.

    Attributes
    ----------
    times : list of float
        Seconds.
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self.start()

    def start(self) -> None:
        """Start a measurement."""
        self.tik = time.perf_counter()

    def stop(self) -> float:
        """Keep and return the seconds since the last start."""
        self.times.append(time.perf_counter() - self.tik)
        return self.times[-1]

    def avg(self) -> float:
        """Return the mean of the times in seconds."""
        return sum(self.times) / len(self.times)

    def sum(self) -> float:
        """Return the sum of the times in seconds."""
        return sum(self.times)

    def cumsum(self) -> list[float]:
        """Return the sums of the times so far, one per stop, in seconds."""
        return list(itertools.accumulate(self.times))


class Accumulator:
    """Sums of ``n`` numbers.

    >>> metric = Accumulator(2)
    >>> metric.add(1, 2)
    >>> metric.add(1, 3)
    >>> metric[0], metric[1]
    (2.0, 5.0)
    """

    def __init__(self, n: int) -> None:
        self.data = [0.0] * n

    def add(self, *args: Any) -> None:
        """Add one number, or tensor of one element, to each sum.

        Raises
        ------
        ValueError
            There are more or fewer numbers than sums.
        """
        # float() of a tensor with a gradient warns, item() does not.
        values = [value.item() if isinstance(value, torch.Tensor) else value for value in args]
        self.data = [total + value for total, value in zip(self.data, values, strict=True)]

    def reset(self) -> None:
        """Set the sums to 0."""
        self.data = [0.0] * len(self.data)

    def __getitem__(self, index: int) -> float:
        return self.data[index]


def _parameters(net: Any) -> list[torch.Tensor]:
    return list(net.parameters() if isinstance(net, nn.Module) else net.params)


def _make_updater(net: Any, lr: float) -> Updater:
    if isinstance(net, nn.Module):
        return torch.optim.SGD(net.parameters(), lr)
    return lambda batch_size: sgd(net.params, lr, batch_size)


def _update(net: Any, mean_loss: torch.Tensor, updater: Updater) -> None:
    """Take a step; the loss is already a mean, so the batch size is 1."""
    if isinstance(updater, torch.optim.Optimizer):
        updater.zero_grad()
    mean_loss.backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it unannotated
    grad_clipping(net, _MAX_GRAD_NORM)
    if isinstance(updater, torch.optim.Optimizer):
        updater.step()
    else:
        # By name, as the textbook calls it.
        updater(batch_size=1)


@contextlib.contextmanager
def _evaluating(net: Any) -> Iterator[None]:
    """Switch dropout off until the block ends."""
    was_training = isinstance(net, nn.Module) and net.training
    if was_training:
        net.eval()
    try:
        yield
    finally:
        if was_training:
            net.train()
