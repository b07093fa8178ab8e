"""Text out of a model."""

import torch

from tokenloom.arrays import as_ids
from tokenloom.errors import ArgumentError
from tokenloom.model import RNNModel, State
from tokenloom.tokenizers import Tokenizer, tokenizer_for
from tokenloom.vocab import Vocab


def generate(
    model: RNNModel,
    vocab: Vocab | Tokenizer,
    prompt: str,
    *,
    num_tokens: int = 50,
    temperature: float = 0.0,
    top_k: int | None = None,
    seed: int = 0,
) -> str:
    """Return the prompt and the text that the model writes after it.

    Parameters
    ----------
    model : RNNModel
    vocab : Vocab or Tokenizer
        Of the corpus that the model was trained on. A Vocab takes the prompt
        as it is, character by character if all its tokens are single
        characters, else word by word; a Tokenizer leaves nothing to guess.
    prompt : str
        At least one token long.
    num_tokens : int
        How many tokens to write.
    temperature : float
        0 takes the most likely token each time (greedy). Above, tokens are
        drawn from the softmax of ``logits / temperature``.
    top_k : int, optional
        Draw from the so many most likely tokens only.
    seed : int
        Of the draws.

    Raises
    ------
    ArgumentError
        The prompt holds no token, a value is out of range, or the model's
        logits are not finite.
    """
    _check(num_tokens=num_tokens, temperature=temperature, top_k=top_k, seed=seed)
    tokenizer = tokenizer_for(vocab) if isinstance(vocab, Vocab) else vocab
    encode = getattr(tokenizer, "encode_prompt", tokenizer.encode)
    prompt_ids = as_ids(encode(prompt), num_ids=model.vocab_size).tolist()
    if not prompt_ids:
        msg = f"prompt must hold at least one token, got {prompt!r}"
        raise ArgumentError(msg)
    ids = _continue(
        model,
        prompt_ids,
        num_tokens=num_tokens,
        sampler=_Sampler(temperature=temperature, top_k=top_k, seed=seed),
    )
    # Words are joined by a space, characters and bytes by nothing.
    start = len(tokenizer.decode(prompt_ids))
    return prompt + tokenizer.decode([*prompt_ids, *ids])[start:]


class _Sampler:
    """Draws the next token; holds the generator between draws."""

    def __init__(self, *, temperature: float, top_k: int | None, seed: int) -> None:
        self._temperature = temperature
        self._top_k = top_k
        # On the CPU, so that a seed gives the same draws on every device.
        self._generator = torch.Generator().manual_seed(seed)

    def draw(self, logits: torch.Tensor) -> int:
        """Return an id, given float logits of shape (vocab_size,)."""
        if not logits.isfinite().all():
            msg = "the model's logits must be finite, got others: its training diverged"
            raise ArgumentError(msg)
        if self._temperature == 0:
            return int(logits.argmax())
        # To the CPU first: Apple's GPUs have no float64.
        wide = logits.cpu().double()
        scaled = (wide - wide.max()) / self._temperature
        if self._top_k is not None:
            values, candidates = scaled.topk(min(self._top_k, len(scaled)))
        else:
            values, candidates = scaled, torch.arange(len(scaled))
        drawn = torch.multinomial(values.softmax(0), 1, generator=self._generator)
        return int(candidates[drawn])


@torch.inference_mode()
def _continue(
    model: RNNModel, prompt_ids: list[int], *, num_tokens: int, sampler: _Sampler
) -> list[int]:
    device = model.linear.weight.device
    was_training = model.training
    model.eval()
    state: State | None = None
    inputs = torch.tensor([prompt_ids], device=device)
    ids: list[int] = []
    try:
        for _ in range(num_tokens):
            logits, state = model(inputs, state)
            ids.append(sampler.draw(logits[-1]))
            inputs = torch.tensor([ids[-1:]], device=device)
    finally:
        model.train(was_training)
    return ids


def _check(*, num_tokens: int, temperature: float, top_k: int | None, seed: int) -> None:
    if not 0 <= seed < 1 << 64:
        msg = f"seed must be in [0, 2**64), got {seed}"
        raise ArgumentError(msg)
    if num_tokens < 0:
        msg = f"num_tokens must be at least 0, got {num_tokens}"
        raise ArgumentError(msg)
    if not 0 <= temperature < float("inf"):
        msg = f"temperature must be in [0, inf), got {temperature}"
        raise ArgumentError(msg)
    if top_k is not None and top_k < 1:
        msg = f"top_k must be at least 1, got {top_k}"
        raise ArgumentError(msg)
