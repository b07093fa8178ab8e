"""Text out of a model."""

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch.nn import functional

from tokenloom._checks import as_flag, as_integer, as_number, find_surrogate, require_type
from tokenloom._wording import count, show
from tokenloom.errors import ArgumentError
from tokenloom.model.rnn import RNNModel, State
from tokenloom.plan.seeds import torch_seed
from tokenloom.store.reader import find_stored_tokenizer
from tokenloom.text.identity import Identity
from tokenloom.text.interface import CompleteTokenizer, Tokenizer
from tokenloom.text.tokenizers import find_end_id, take_tokenizer
from tokenloom.text.vocab import Vocab

_CELLS: dict[str, Callable[..., Any]] = {
    "RNN_TANH": torch.rnn_tanh_cell,
    "RNN_RELU": torch.rnn_relu_cell,
    "GRU": torch.gru_cell,
    "LSTM": torch.lstm_cell,
}
# How many random numbers a text takes from its generator at once.
_NUM_AHEAD = 64


class Stepper:
    """Several texts that are continued together, one token at a time.

    With few rows, most of a step would be the overhead of calling a recurrent
    layer. So the layers' cells are called, with the same weights. Models of other
    classes, with two directions or with projections are called whole, one text at
    a time.

    Parameters
    ----------
    model : RNNModel
        Used without dropout; its mode is not changed.
    prompts : sequence of sequence of int
        At least one token each.

    Attributes
    ----------
    logits : float tensor, shape (num_prompts, vocab_size)
        Of the next token of each text.
    """

    def __init__(self, model: RNNModel, prompts: Sequence[Sequence[int]]) -> None:
        self._model = model
        self._has_cells = _has_cells(model)
        device = model.linear.weight.device
        read = [self._read(torch.tensor([prompt], device=device), None) for prompt in prompts]
        self.logits = torch.cat([logits for logits, _ in read])
        self._states = [state for _, state in read]
        if self._has_cells:
            self._prepare()

    @torch.inference_mode()
    def step(self, ids: torch.Tensor) -> None:
        """Read one more token of each text.

        Parameters
        ----------
        ids : int64 tensor, shape (num_prompts,)
            On the model's device.
        """
        if not self._has_cells:
            read = [
                self._read(row[None, None], state)
                for row, state in zip(ids, self._states, strict=True)
            ]
            self.logits = torch.cat([logits for logits, _ in read])
            self._states = [state for _, state in read]
            return
        if self._model.embedding is None:
            # Each row has an input of its own, with the weights of its token.
            vectors = self._eye
            weights = [self._table.index_select(0, ids).T, *self._weights[0][1:]]
        else:
            vectors, weights = self._model.embedding.weight[ids], self._weights[0]
        for layer, state in enumerate(self._layers):
            after = self._cell(vectors, state, *(self._weights[layer] if layer else weights))
            self._layers[layer] = after
            vectors = after[0] if isinstance(after, tuple) else after
        self.logits = functional.linear(vectors, *self._linear)

    @torch.inference_mode()
    def _prepare(self) -> None:
        rnn = self._model.rnn
        self._cell = _CELLS[rnn.mode]
        self._weights: list[list[torch.Tensor]] = [
            [_by_columns(weight.detach()) for weight in weights] for weights in rnn.all_weights
        ]
        self._linear = self._model.linear.weight.detach(), self._model.linear.bias.detach()
        self._table = self._weights[0][0].T.contiguous()
        self._eye = torch.eye(len(self._states), device=self.logits.device, dtype=self.logits.dtype)
        parts = [state if isinstance(state, tuple) else (state,) for state in self._states]
        joined = [torch.cat(rows, dim=1) for rows in zip(*parts, strict=True)]
        # One state per layer; of an LSTM the pair (hidden, cell).
        self._layers: list[Any] = list(joined[0])
        if len(joined) > 1:
            self._layers = list(zip(*joined, strict=True))

    @torch.inference_mode()
    def _read(self, inputs: torch.Tensor, state: State | None) -> tuple[torch.Tensor, State]:
        model = self._model
        was_training = model.training
        model.eval()
        try:
            if self._has_cells:
                outputs, state = model.read(inputs, state)
                return model.linear(outputs[-1:]), state
            logits, state = model(inputs, state)
            return logits[-1:], state
        finally:
            model.train(was_training)


def _by_columns(weight: torch.Tensor) -> torch.Tensor:
    """Return the weights in column-major order, which makes the product of one row faster."""
    return weight.t().contiguous().t()


def _has_cells(model: RNNModel) -> bool:
    is_ours = type(model).forward is RNNModel.forward and type(model).read is RNNModel.read
    return is_ours and model.num_directions == 1 and not model.rnn.proj_size


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedToken:
    """A token that a model wrote.

    Attributes
    ----------
    prompt_index : int
        Which prompt it continues.
    id : int
    text : str
        Text that the token adds. Empty while the bytes of a character are
        incomplete; a later token then adds the whole character.
    log_prob : float or None
        Natural logarithm of the probability that the model gives the token,
        before temperature, top-k and top-p; None if log_probs is False.
    is_end : bool
        Whether the text stops at the token, which is not part of the text then.
    """

    prompt_index: int
    id: int
    text: str
    log_prob: float | None = None
    is_end: bool = False


@overload
def generate(
    model: RNNModel,
    vocab: Vocab | Tokenizer,
    prompt: str,
    *,
    num_tokens: int = 50,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | Sequence[int] = 0,
    stop_at: str | int | None = None,
) -> str: ...


@overload
def generate(
    model: RNNModel,
    vocab: Vocab | Tokenizer,
    prompt: list[str] | tuple[str, ...],
    *,
    num_tokens: int = 50,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | Sequence[int] = 0,
    stop_at: str | int | None = None,
) -> list[str]: ...


def generate(  # noqa: PLR0913  a flat recipe is easier to read than a nested one
    model: RNNModel,
    vocab: Vocab | Tokenizer,
    prompt: str | list[str] | tuple[str, ...],
    *,
    num_tokens: int = 50,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | Sequence[int] = 0,
    stop_at: str | int | None = None,
) -> str | list[str]:
    """Return the prompt and the text that the model writes after it.

    Parameters
    ----------
    model : RNNModel
    vocab : Vocab or Tokenizer
        That of the corpus that the model was trained on. A Vocab encodes the
        prompt without normalising it, by characters if all its tokens are single
        characters, else by words; a Tokenizer encodes it as it encoded the
        corpus.
    prompt : str, or list or tuple of str
        Each at least one token long. Several prompts are continued together, which
        takes little longer than one.
    num_tokens : int
        How many tokens to write: the most, where a text may stop earlier.
    temperature : float
        0 takes the most likely token each time (greedy). Above 0, tokens are
        drawn from the softmax of ``logits / temperature``.
    top_k : int, optional
        How many of the most likely tokens to draw from.
    top_p : float, optional
        Draw only from the smallest set of tokens whose probabilities sum to at
        least this, in (0, 1]; applied after temperature and ``top_k``.
    seed : int, or sequence of int
        Seed of the draws. Each prompt has its own generator, so its text does not
        depend on the other prompts (except for rounding, if two tokens are almost
        equally likely). With one seed, equal prompts get equal texts; pass one
        seed per prompt to get different texts.
    stop_at : str, int or False, optional
        The token, or its id, at which a text stops; it is not part of the text. By
        default that which `tokenloom.prepare` put after each document of the store that
        the model was trained on, ``model.end_id``, if it put one there. False: none.

    Returns
    -------
    str, or list of str where several prompts were given

    Raises
    ------
    ArgumentError
        A prompt holds no token, a value is out of range, the tokenizer has no token
        ``stop_at``, the seeds are not as many as the prompts, or the model's logits are not finite.
    CorpusError
        A tokenizer of yours fails at a prompt, or returns ids that are out of
        range.

    Warns
    -----
    UserWarning
        A prompt has tokens that are not in the vocabulary; the model reads the
        unknown token instead.

    Notes
    -----
    The choice by ``top_p`` is the nucleus sampling of Holtzman, Buys, Du,
    Forbes and Choi, "The Curious Case of Neural Text Degeneration" (2020).
    """
    prompts = _take_prompts(prompt)
    sampler = _make_sampler(
        len(prompts), temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    tokenizer = _take_tokenizer(model, vocab)
    read = [_encode(tokenizer, text) for text in prompts]
    end_id = _find_end(model, tokenizer, stop_at)
    written: list[list[int]] = [[] for _ in prompts]
    for step in _draw(model, read, sampler, num_tokens=_check_length(num_tokens), end_id=end_id):
        for ids, id_ in zip(written, step, strict=True):
            if id_ not in (None, end_id):
                ids.append(id_)
    texts = []
    for text, ids, more in zip(prompts, read, written, strict=True):
        # Words are joined by a space, characters and bytes by nothing.
        start = len(tokenizer.decode(ids))
        texts.append(text + tokenizer.decode([*ids, *more])[start:])
    return texts[0] if isinstance(prompt, str) else texts


def stream(  # noqa: PLR0913  as above
    model: RNNModel,
    vocab: Vocab | Tokenizer,
    prompt: str | list[str] | tuple[str, ...],
    *,
    num_tokens: int = 50,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | Sequence[int] = 0,
    stop_at: str | int | None = None,
    log_probs: bool = False,
) -> Iterator[GeneratedToken]:
    """Yield the tokens that the model writes after a prompt, one by one.

    With several prompts, the first token of each prompt comes first, in their
    order, then the second of each, as far as its text goes on. `generate` returns
    each prompt and the texts of its tokens.

    Parameters
    ----------
    model, vocab, prompt, num_tokens, temperature, top_k, top_p, seed, stop_at
        As in `generate`. Its errors and warnings are raised at the first token.
    log_probs : bool
        Whether each token comes with its log-probability.
    """
    prompts = _take_prompts(prompt)
    sampler = _make_sampler(
        len(prompts), temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    num_tokens = _check_length(num_tokens)
    tokenizer = _take_tokenizer(model, vocab)
    read = [_encode(tokenizer, text) for text in prompts]
    texts = [_Text(tokenizer, ids) for ids in read]
    end_id = _find_end(model, tokenizer, stop_at)
    found: list[list[float]] | None = [] if as_flag("log_probs", log_probs) else None
    steps = _draw(model, read, sampler, num_tokens=num_tokens, end_id=end_id, log_probs=found)
    for number, ids in enumerate(steps, start=1):
        for index, id_ in enumerate(ids):
            if id_ is None:
                continue
            text, is_end = texts[index], id_ == end_id
            yield GeneratedToken(
                prompt_index=index,
                id=id_,
                text=text.finish() if is_end else text.add(id_, is_last=number == num_tokens),
                log_prob=None if found is None else found[-1][index],
                is_end=is_end,
            )


class _Text:
    """A text that grows by one id at a time."""

    def __init__(self, tokenizer: Tokenizer, ids: list[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = list(ids)
        # Ids before `first` no longer affect how later ids are decoded; the text of ids before
        # `num_returned` was returned.
        self._first, self._num_returned = 0, len(ids)

    def add(self, id_: int, *, is_last: bool) -> str:
        """Return the text that an id adds; "" while the bytes of a character are incomplete."""
        self._ids.append(id_)
        before = self._tokenizer.decode(self._ids[self._first : self._num_returned])
        text = self._tokenizer.decode(self._ids[self._first :])
        if text.endswith("\ufffd") and not is_last:
            return ""
        self._first, self._num_returned = self._num_returned, len(self._ids)
        return text[len(before) :]

    def finish(self) -> str:
        """Return the text of bytes that no later id makes a character."""
        before = self._tokenizer.decode(self._ids[self._first : self._num_returned])
        return self._tokenizer.decode(self._ids[self._first :])[len(before) :]


class _Sampler:
    """Draws the next token of each text from logits; has a generator for each text."""

    def __init__(
        self, *, temperature: float, top_k: int | None, top_p: float | None, seeds: Iterable[int]
    ) -> None:
        # A float32 holds neither smaller nor larger ones, and these give the same choices.
        self._temperature = min(max(temperature, 1e-30), 1e30)
        self._top_k = top_k
        self._top_p = top_p
        # On the CPU, so that a seed gives the same draws on every device.
        self._generators = [torch.Generator().manual_seed(torch_seed(seed)) for seed in seeds]
        self._numbers: Iterator[torch.Tensor] = iter(())

    @torch.inference_mode()
    def draw(self, logits: torch.Tensor) -> torch.Tensor:
        """Return an id for each text: int64 tensor, shape (num_texts,).

        Parameters
        ----------
        logits : float32 or float64 tensor, shape (num_texts, vocab_size)
            On the CPU.
        """
        largest = logits.amax(dim=1, keepdim=True)
        values, candidates = (logits - largest).div_(self._temperature), None
        num_values = values.shape[1]
        if self._top_k is not None or self._top_p is not None:
            num_kept = num_values if self._top_k is None else min(self._top_k, num_values)
            values, candidates = values.topk(num_kept)
        chances = values.softmax(1)
        sums = chances.cumsum(1, dtype=torch.float64)
        if self._top_p is not None:
            # A token is kept if those before it do not reach top_p, so at least one is kept. Many
            # chances of 32 bits may add up to more than 1.
            is_left_out = sums - chances >= self._top_p * sums[:, -1:]
            sums = chances.masked_fill(is_left_out, 0.0).cumsum(1, dtype=torch.float64)
        # The first id up to which the chances add up to more than the point: never one without a
        # chance, as its sum is that of the id before it, nor one past the end, as the point is
        # less than the sum of all.
        points = self._next_numbers()[:, None] * sums[:, -1:]
        drawn = torch.searchsorted(sums, points, right=True)
        return (drawn if candidates is None else candidates.gather(1, drawn))[:, 0]

    def _next_numbers(self) -> torch.Tensor:
        """Return a number in [0, 1) for each text: float64 tensor, shape (num_texts,)."""
        numbers = next(self._numbers, None)
        if numbers is not None:
            return numbers
        # Each generator is called once for many numbers, since a call takes longer than a number.
        ahead = [
            torch.rand(_NUM_AHEAD, generator=generator, dtype=torch.float64)
            for generator in self._generators
        ]
        self._numbers = iter(torch.stack(ahead, dim=1).unbind())
        return next(self._numbers)


def _draw(
    model: RNNModel,
    prompts: list[list[int]],
    sampler: _Sampler | None,
    *,
    num_tokens: int,
    end_id: int | None,
    log_probs: list[list[float]] | None = None,
) -> Iterator[list[int | None]]:
    """Yield an id for each prompt, ``num_tokens`` times or until each text has ended.

    A text that has ended gets None for the id. Log-probabilities of the ids are added to a list.
    """
    if not prompts or not num_tokens:
        return
    stepper, goes_on = Stepper(model, prompts), [True] * len(prompts)
    for number in range(num_tokens):
        logits = stepper.logits
        largest, chosen = logits.max(dim=1)
        # NaN counts as the largest of all in `max`.
        if not all(map(math.isfinite, largest.tolist())):
            msg = "the model's logits must be finite, got others: its training diverged"
            raise ArgumentError(msg)
        if sampler is not None:
            wide = torch.promote_types(logits.dtype, torch.float32)
            chosen = sampler.draw(logits.to("cpu", wide)).to(logits.device)
        if log_probs is not None:
            # To the CPU first: Apple's GPUs have no float64.
            chances = logits.cpu().double().log_softmax(dim=1).gather(1, chosen.cpu()[:, None])
            log_probs.append(chances[:, 0].tolist())
        ids = chosen.tolist()
        yield [id_ if still else None for id_, still in zip(ids, goes_on, strict=True)]
        goes_on = [still and id_ != end_id for id_, still in zip(ids, goes_on, strict=True)]
        if not any(goes_on):
            return
        if number + 1 < num_tokens:
            stepper.step(chosen)


def _take_prompts(prompt: str | list[str] | tuple[str, ...]) -> list[str]:
    prompts = [prompt] if isinstance(prompt, str) else prompt
    is_some = isinstance(prompts, list | tuple)
    if not is_some or not all(isinstance(text, str) for text in prompts):
        msg = f"prompt must be a str, or a list or tuple of str, got {show(prompt)}"
        raise ArgumentError(msg)
    return list(prompts)


def _take_tokenizer(model: RNNModel, vocab: Vocab | Tokenizer) -> CompleteTokenizer:
    """Return the tokenizer, after a check that it is that of the model's corpus."""
    require_type("model", model, RNNModel, "an RNNModel")
    is_vocab = isinstance(vocab, Vocab)
    tokenizer = take_tokenizer(find_stored_tokenizer(vocab), name="vocab")
    given, trained_with = Identity.of(tokenizer), model.trained_with
    if is_vocab and trained_with is not None:
        # A vocabulary need not know which kind of tokenizer it is of.
        given = dataclasses.replace(given, name=trained_with.name)
    if tokenizer.vocab_size != model.vocab_size or given.differs(trained_with):
        expected = trained_with or f"one of {count(model.vocab_size, 'id')}"
        msg = (
            f"the tokenizer must be the one that the model was trained with ({expected}), got "
            f"another ({given}): take that of its corpus, or Run.open(...).load_tokenizer()"
        )
        raise ArgumentError(msg)
    return tokenizer


def _encode(tokenizer: CompleteTokenizer, prompt: str) -> list[int]:
    place = find_surrogate(prompt)
    if place is not None:
        msg = f"prompt must be text, got the lone surrogate {prompt[place]!r}: mend it"
        raise ArgumentError(msg)
    ids: list[int] = tokenizer.encode_one(prompt, name="the prompt", is_prompt=True).tolist()
    if not ids:
        why = ", of which the tokenizer keeps nothing" if prompt else ""
        msg = f"prompt must hold at least one token, got {show(prompt)}{why}"
        raise ArgumentError(msg)
    unknown = tokenizer.find_unknown(prompt)
    if unknown:
        warnings.warn(
            f"the model does not know {', '.join(map(repr, unknown))} in the prompt {prompt!r}: "
            "it reads the unknown token there",
            stacklevel=3,
        )
    return ids


def _find_end(
    model: RNNModel, tokenizer: CompleteTokenizer, stop_at: str | int | None
) -> int | None:
    """Return the id at which a text stops, or None where it stops at none."""
    if stop_at is None:
        return model.end_id
    return None if stop_at is False else find_end_id(stop_at, tokenizer, name="stop_at")


def _check_length(num_tokens: int) -> int:
    return as_integer("num_tokens", num_tokens)


def _make_sampler(
    num_prompts: int,
    *,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | Sequence[int],
) -> _Sampler | None:
    """Return what draws for all prompts, or None for the greedy choice."""
    if not 0 <= as_number("temperature", temperature) < math.inf:
        msg = f"temperature must be in [0, inf), got {show(temperature)}"
        raise ArgumentError(msg)
    if top_k is not None:
        top_k = as_integer("top_k", top_k, start=1)
    if top_p is not None:
        top_p = as_number("top_p", top_p)
    if top_p is not None and not 0 < top_p <= 1:
        msg = f"top_p must be in (0, 1], got {top_p}"
        raise ArgumentError(msg)
    given = seed if isinstance(seed, Sequence) else [seed]
    seeds = [as_integer("seed", each, stop=1 << 64) for each in given]
    seeds *= 1 if isinstance(seed, Sequence) else num_prompts
    if len(seeds) != num_prompts:
        msg = (
            f"seed must be one, or one for each of {count(num_prompts, 'prompt')}, got {len(seeds)}"
        )
        raise ArgumentError(msg)
    if temperature == 0:
        return None
    return _Sampler(temperature=float(temperature), top_k=top_k, top_p=top_p, seeds=seeds)
