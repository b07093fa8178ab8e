"""A text as the model of a run reads it."""

from tokenloom.corpus import Corpus
from tokenloom.errors import CorpusError
from tokenloom.hub import load
from tokenloom.runs import Run
from tokenloom.store import is_store
from tokenloom.tokenizers import describe_tokenizer

HELD_OUT, TRAINED = "held-out", "trained"
"""The splits that every run knows of the corpus that it was trained on."""


def read_as(run: Run, name: str, *, split: str | None = None, encoding: str = "utf-8") -> Corpus:
    """Return a corpus in the ids that the model of a run knows.

    Parameters
    ----------
    run : Run
    name : str
        A name in the catalogue or the path of a text file, which is encoded by
        the run's tokenizer; or a store, which must have been written with it.
    split : str, optional
        Only a part: the name of one of the store's or the named corpus's
        splits; else "held-out" or "trained", the tokens that the run measured
        its held-out perplexity on, or was trained on.
    encoding : str
        How a text file is encoded.

    Raises
    ------
    ArgumentError
        The name is none, or there is no such split.
    CorpusError
        The store was written with another tokenizer, the text cannot be
        decoded, or its beginning is not what the run was trained on.
    RunError
        The run's tokenizer came from elsewhere.
    """
    named_split = None if split in (None, HELD_OUT, TRAINED) else split
    if is_store(name):
        corpus = Corpus.open(name, split=named_split)
        _check_tokenizer(run, corpus)
    else:
        # Bytes are read as they are, without being decoded.
        is_bytes = _tokenizer_name(run) == "byte"
        corpus = load(
            name if named_split is None else f"{name}/{named_split}",
            tokenizer="byte" if is_bytes else run.load_tokenizer(),
            encoding=encoding,
        )
    return corpus if split == named_split else _cut(run, corpus, split)


def _cut(run: Run, corpus: Corpus, split: str | None) -> Corpus:
    """Return the tokens that the run was trained on, or those that it held out."""
    num_trained = run.settings["num_tokens"]
    num_held_out = run.settings.get("num_held_out_tokens", 0)
    trained = corpus.section(0, num_trained)
    if len(corpus) < num_trained + num_held_out or trained.hash != run.settings.get("corpus_hash"):
        msg = (
            f"the first {num_trained:,} tokens of {corpus.name} must be those that the run "
            f"{str(run.path)!r} was trained on, but they are others: name its corpus, or "
            "leave the split out"
        )
        raise CorpusError(msg)
    if split == TRAINED:
        return trained
    if num_held_out < 2:
        msg = f"the run {str(run.path)!r} held out no text: name another split"
        raise CorpusError(msg)
    return as_measured(run, corpus.section(num_trained, num_trained + num_held_out))


def as_measured(run: Run, held_out: Corpus) -> Corpus:
    """Return the held-out text of a run with documents only where the run had them.

    The release that made it may have read the same text without its documents.
    """
    had_documents = run.settings.get("held_out_documents_hash") is not None
    return held_out if had_documents else held_out.undivided()


def _check_tokenizer(run: Run, corpus: Corpus) -> None:
    expected, got = _tokenizer_name(run), describe_tokenizer(corpus.tokenizer)["name"]
    if expected == got and (corpus.vocab is None or run.load_tokenizer() == corpus.tokenizer):
        return
    what = "its very vocabulary" if expected == got else repr(expected)
    msg = (
        f"{corpus.name} must have been written with the run's tokenizer, {what}, got {got!r} "
        f"with {corpus.vocab_size:,} ids, which mean other tokens: give the text itself"
    )
    raise CorpusError(msg)


def _tokenizer_name(run: Run) -> str | None:
    name: str | None = (run.settings.get("tokenizer") or {}).get("name")
    return name
