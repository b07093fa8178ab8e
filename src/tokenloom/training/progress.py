"""What a training shows while it runs: a progress bar, and text of the model."""

import contextlib
import math
import sys
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from tokenloom._progress import is_notebook, open_bar
from tokenloom.corpus.corpus import Corpus
from tokenloom.errors import ArgumentError
from tokenloom.loading.distributed import Ranks
from tokenloom.loading.loader import Loader
from tokenloom.model.generation import generate
from tokenloom.model.rnn import RNNModel
from tokenloom.text.tokenizers import complete
from tokenloom.training.metrics import EpochMetrics, format_perplexity
from tokenloom.training.options import RunOptions

_NUM_TOKENS = 50
_PROMPT_TOKENS = 12


class Progress:
    """A progress bar, or a line per epoch, on stderr, with text of the model, on the first rank.

    Parameters
    ----------
    model : RNNModel
    loader : Loader
    options : RunOptions
        How often to show text, and which prompt it continues.
    progress : bool, optional
        Whether to show the bar; by default where stderr is a terminal, and in a
        notebook. Elsewhere True shows one line per epoch.
    ranks : Ranks

    Raises
    ------
    ArgumentError
        Text is to be shown, and there is no tokenizer to write it, or no
        token in the prompt.
    """

    def __init__(
        self,
        model: RNNModel,
        loader: Loader,
        *,
        options: RunOptions,
        progress: bool | None,
        ranks: Ranks,
    ) -> None:
        self._model = model
        self._loader = loader
        self._options = options
        self._progress = progress if ranks.is_first else False
        # Carriage returns would join the lines of a log.
        self._shows_lines = bool(self._progress) and not (_is_terminal() or is_notebook())
        self._shows_text = ranks.is_first and options.sample_epochs is not None
        if self._shows_text:
            # A wrong prompt is refused now, not after the first epochs.
            self._write(num_tokens=0)

    @property
    def _of_epochs(self) -> str:
        num_epochs = self._loader.num_epochs
        return "" if num_epochs is None else f" of {num_epochs:,}"

    def __enter__(self) -> Self:
        loader = self._loader
        self._bar: tqdm[Any] = open_bar(
            total=None if loader.num_epochs is None else loader.remaining,
            unit="batch",
            progress=False if self._shows_lines else self._progress,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def update(self) -> None:
        """Count a batch."""
        self._bar.update()

    def show(self, metrics: EpochMetrics) -> None:
        """Show the metrics of an epoch, and text of the model if it is due."""
        number = metrics.epoch + 1
        shown = f"epoch {number:,}" + self._of_epochs + f": {_format(metrics)}"
        self._bar.set_postfix_str(shown)
        if self._shows_lines:
            _print(shown)
        is_time = self._shows_text and number % (self._options.sample_epochs or 1) == 0
        # A model that diverged writes nothing.
        if is_time and math.isfinite(metrics.perplexity):
            text = self._write(num_tokens=_NUM_TOKENS)
            _print(f"epoch {number}: {text}")

    def _write(self, *, num_tokens: int) -> str:
        corpus = self._loader.windows.corpus
        if corpus.tokenizer is None:
            msg = f"sample_epochs needs a tokenizer that can write text, {corpus.name} has none"
            raise ArgumentError(msg)
        prompt = self._options.sample_prompt
        if prompt is None:
            prompt = begin(corpus)
        return generate(self._model, corpus.tokenizer, prompt, num_tokens=num_tokens)


def _format(metrics: EpochMetrics) -> str:
    per_token, per_character = metrics.perplexity, metrics.perplexity_per_character
    text = f"perplexity {format_perplexity(per_token, per_character)}"
    if metrics.held_out_perplexity is None:
        return text
    held_out = format_perplexity(
        metrics.held_out_perplexity, metrics.held_out_perplexity_per_character
    )
    return f"{text}, held out {held_out}"


def _print(line: str) -> None:
    """Print a line to stderr, above the bar; a closed stderr is no error."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            tqdm.write(line, file=sys.stderr)


def _is_terminal() -> bool:
    """Return whether stderr is a terminal; True also without stderr, which shows no line."""
    # It is None where the process was started with stderr closed.
    return sys.stderr is None or sys.stderr.closed or sys.stderr.isatty()


def begin(corpus: Corpus) -> str:
    """Return a prompt that suits a corpus: its first tokens without unknown ones.

    Of a short document that an id ends, its first half: the rest is left to the model.

    >>> from tokenloom import Corpus
    >>> begin(Corpus.from_text("to be or not to be", tokenizer="word", vocab_size=3))
    'to be to be'
    """
    tokens = corpus.tokens[:_PROMPT_TOKENS]
    unknown_id = None if corpus.tokenizer is None else complete(corpus.tokenizer).unknown_id
    known = [id_ for id_ in tokens.tolist() if id_ != unknown_id]
    while known and known[0] == corpus.end_id:
        known.pop(0)
    if corpus.end_id in known:
        known = known[: (known.index(corpus.end_id) + 1) // 2]
    return corpus.decode(known or tokens)
