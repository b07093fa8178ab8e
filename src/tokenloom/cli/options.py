"""Options that several subcommands share, and the objects that they name."""

import argparse
import contextlib
import itertools
import multiprocessing
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenloom._io.compressed import find_encoding
from tokenloom._wording import count, describe_missing, join_choices, show, suggest
from tokenloom.cli.mixture import (
    TakeCorpora,
    add_mixture,
    as_corpus,
    check_names,
    make_mixture,
    parts_of,
)
from tokenloom.cli.output import print_line
from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.mixture import Mixture
from tokenloom.corpus.plans import make_plan
from tokenloom.errors import ArgumentError, CorpusError
from tokenloom.hub.catalogue import RemoteFile
from tokenloom.hub.load import (
    TRAIN,
    VALID,
    StoreName,
    find_named,
    find_parts,
    find_store,
    load,
    name_split,
    read_documents,
)
from tokenloom.plan.batch_sizes import BatchSizes
from tokenloom.plan.packed import PackedOrder
from tokenloom.plan.plan import ORDERS, Plan
from tokenloom.store.reader import find_stored_tokenizer, is_store, read_store
from tokenloom.text.encode import encode_documents
from tokenloom.text.encodings import ENCODING
from tokenloom.text.subwords import READERS, propose_file
from tokenloom.text.tokenizers import (
    COUNTED_NAMES,
    LEARNED_NAMES,
    TOKENIZER_NAMES,
    TOKENIZERS,
    allow_special_tokens,
    make_tokenizer,
)

if TYPE_CHECKING:
    from tokenloom.loading.dataset import Windows
    from tokenloom.loading.shard import Shard


# How much of a text 'tokenloom train' reads by default.
MAX_TOKENS = 10_000
HELD_OUT = 0.1

# No vocabulary has an id of more digits, and int refuses thousands of them.
_ID = re.compile("[0-9]{1,18}")
_OF_MIXTURES = ("stage", "epoch_tokens", "max_repeats")
_NO_SPLIT = "leave out --split"
_NO_MIXTURE = "it is for a mixture, whose parts are typed as NAME=WEIGHT:CORPUS"
_OF_TEXTS = ("tokenizer", "vocab_size", "allow_special", "raw", "encoding")


def as_token(typed: str | None, *, digits_are_token: bool) -> str | int | None:
    """Return a token that was typed, or its id: digits, unless they are a token themselves.

    >>> as_token("50256", digits_are_token=False), as_token("7", digits_are_token=True)
    (50256, '7')
    """
    if typed is None or digits_are_token or not _ID.fullmatch(typed):
        return typed
    return int(typed)


def add_corpus(
    command: argparse.ArgumentParser, *, default: str | None = None, or_else: str = ""
) -> None:
    """Add the corpus or the parts of a mixture, and how their text becomes tokens."""
    command.add_argument(
        "corpus",
        metavar="CORPUS",
        nargs="*" if default else "+",
        action=TakeCorpora,
        default=default,
        help=f"a name from 'tokenloom datasets', a text file, a store, a token file of another "
        f"project, or a quoted pattern of stores or token files{or_else}; several of "
        "NAME=WEIGHT:CORPUS are read as a mixture",
    )
    text = command.add_argument_group("text")
    text.add_argument(
        "--split",
        type=parse_name,
        metavar="NAME",
        help="only this split of CORPUS, also written CORPUS/NAME; of a store by default 'train', "
        "if it has one",
    )
    add_tokenizer(text)
    add_encoding(text)
    add_offline(text)
    add_mixture(command)


def add_encoding(command: argparse._ActionsContainer) -> None:
    """Add the encoding of a text file."""
    command.add_argument(
        "--encoding", default="utf-8", help="encoding of a text file; a store holds tokens already"
    )


def add_store(command: argparse.ArgumentParser) -> None:
    """Add the store that is read."""
    command.add_argument("store", metavar="STORE", help="folder of a store, or STORE/SPLIT")


def add_tokenizer(command: argparse._ActionsContainer) -> None:
    """Add the tokenizer, the number of ids that it may learn, and its other options."""
    command.add_argument(
        "--tokenizer",
        default="char",
        metavar="WHAT",
        help=f"what a token is: {', '.join(TOKENIZER_NAMES)}; or a file such as tokenizer.json, "
        "*.tiktoken, *.model or vocab.json; tiktoken:NAME; or a store whose tokenizer is used",
    )
    summary = "the most ids that char, word or bpe may learn; the most frequent tokens get one"
    add_count(command, "--vocab-size", summary)
    command.add_argument(
        "--allow-special",
        action="store_true",
        help="let special tokens of sub-words that a text spells, such as <|endoftext|>, become "
        "their ids; else they are ordinary text",
    )
    command.add_argument(
        "--raw",
        action="store_true",
        help="keep the text as it is, instead of lower-case letters and spaces only",
    )


def add_run(command: argparse.ArgumentParser) -> None:
    """Add the run whose model is used."""
    command.add_argument("run", metavar="RUN", help="folder that 'tokenloom train' made")
    command.add_argument(
        "--best",
        action="store_true",
        help="use the checkpoint with the lowest held-out perplexity, not the last one",
    )


def add_amount(
    command: argparse.ArgumentParser,
    *,
    max_tokens: int | str = "all",
    held_out: float | None = None,
) -> None:
    """Add how much of the corpus is trained on, and what is held out."""
    unset = "0 for none" if held_out is not None else "by default none"
    valid = ", by default 'valid' if a store has it" if held_out is not None else ""
    text = command.add_argument_group("how much of the text")
    text.add_argument(
        "--max-tokens",
        type=parse_count_or_all,
        default=max_tokens,
        metavar="N",
        help="train on the first N tokens; 'all' for the whole text",
    )
    text.add_argument(
        "--held-out",
        type=parse_held_out,
        default=held_out,
        metavar="FRACTION|SPLIT",
        help=f"fraction of the text to measure on, which follows the training text, {unset}; or "
        f"a split of CORPUS to measure on{valid}",
    )


def add_batches(command: argparse.ArgumentParser) -> None:
    """Add the order, the shape and the tail of windows."""
    batches = command.add_argument_group("batches")
    batches.add_argument(
        "--order",
        choices=(*ORDERS, PackedOrder.kind),
        default="sequential",
        help="sequential: each row continues the same row of the previous batch; random: windows "
        "are drawn in random order; packed: rows are filled with whole documents",
    )
    add_changing_shape(batches)
    add_seed(batches)
    batches.add_argument(
        "--tail",
        choices=("drop", "pad"),
        default="drop",
        help="drop: leave out the tokens that do not fill a whole batch; pad: pad them to one",
    )


def add_changing_shape(batches: argparse._ActionsContainer) -> None:
    """Add the shape of batches, whose number of rows may change."""
    batches.add_argument(
        "--batch-size",
        type=parse_batch_size,
        default=32,
        metavar="N",
        help="rows per batch; 0:32,10000:64 makes it 64 from window 10,000 of the training on",
    )
    add_count(batches, "--seq-len", "tokens per row", default=35)


def add_shape(
    batches: argparse._ActionsContainer, *, rows: str = "rows per batch", row: str = "per row"
) -> None:
    """Add the shape of batches."""
    add_count(batches, "--batch-size", rows, default=32)
    add_count(batches, "--seq-len", f"tokens {row}", default=35)


def add_seed(batches: argparse._ActionsContainer) -> None:
    """Add the seed of windows of any order."""
    batches.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of the order of batches, and of all other randomness",
    )


def add_count(
    command: argparse._ActionsContainer, name: str, summary: str, *, default: int | None = None
) -> None:
    """Add an option that is an integer of at least 1."""
    command.add_argument(name, type=parse_count, default=default, metavar="N", help=summary)


def add_workers(command: argparse._ActionsContainer, summary: str) -> None:
    """Add a number of workers, by default none."""
    command.add_argument("--workers", type=int, default=0, metavar="N", help=summary)


def add_epoch(command: argparse._ActionsContainer) -> None:
    """Add the index of an epoch."""
    command.add_argument(
        "--epoch", type=int, default=0, metavar="N", help="index of the epoch, from 0"
    )


def add_across_documents(command: argparse._ActionsContainer) -> None:
    """Add the option that keeps the hidden state across documents."""
    command.add_argument(
        "--across-documents",
        action="store_true",
        help="keep the hidden state where a document starts, instead of starting from zero",
    )


def add_within_documents(command: argparse._ActionsContainer, verb: str) -> None:
    """Add the option that leaves out the first tokens of documents as targets."""
    command.add_argument(
        "--within-documents",
        action="store_true",
        help=f"{verb} no first token of a document: it does not follow from the one before it",
    )


def add_device(command: argparse._ActionsContainer) -> None:
    """Add the device of the computation."""
    command.add_argument(
        "--device", help="cuda, mps or cpu; by default the fastest that is available"
    )


def add_timeout(command: argparse._ActionsContainer, *, seconds: float) -> None:
    """Add how long the processes that torchrun started wait for each other."""
    command.add_argument(
        "--timeout",
        type=parse_seconds,
        default=seconds,
        metavar="SECONDS",
        help="under torchrun: how long to wait for a rank that does not answer",
    )


def add_json(command: argparse._ActionsContainer) -> None:
    """Add the option that prints JSON."""
    command.add_argument("--json", action="store_true", help="print JSON, for programs")


def add_quiet(command: argparse._ActionsContainer) -> None:
    """Add the option that hides progress bars."""
    command.add_argument("--quiet", action="store_true", help="show no progress bar")


def add_plot(command: argparse._ActionsContainer) -> None:
    """Add the file of a picture."""
    command.add_argument(
        "--plot", metavar="FILE", help="draw into this file, whose name ends in .png, .svg or .pdf"
    )


def add_offline(command: argparse._ActionsContainer) -> None:
    """Add the option that forbids downloads."""
    command.add_argument(
        "--offline", action="store_true", help="download nothing, as with TOKENLOOM_OFFLINE=1"
    )


def parse_count(text: str) -> int:
    """Return an integer of at least 1."""
    if text.isdecimal() and 0 < int(text) < 1 << 31:
        return int(text)
    msg = f"must be an integer of at least 1 and below 2**31, got {show(text)}"
    raise argparse.ArgumentTypeError(msg)


def parse_name(text: str) -> str:
    """Return what was typed, which an empty variable of the shell would leave out."""
    if text:
        return text
    msg = "must not be empty, got ''"
    raise argparse.ArgumentTypeError(msg)


def parse_seconds(text: str) -> float:
    """Return a number of seconds above 0."""
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) < 1 << 31:
            return seconds
    msg = f"must be a number of seconds above 0 and below 2**31, got {show(text)}"
    raise argparse.ArgumentTypeError(msg)


def parse_batch_size(text: str) -> int | BatchSizes:
    """Return an integer of at least 1, or sizes that change, such as 0:32,10000:64."""
    if ":" not in text:
        return parse_count(text)
    try:
        return BatchSizes.parse(text)
    except ArgumentError:
        msg = (
            "must be an integer of at least 1, or pairs of a window and a size that ascend from "
            f"window 0, such as 0:32,10000:64, got {show(text)}"
        )
        raise argparse.ArgumentTypeError(msg) from None


def parse_count_or_zero(text: str) -> int:
    """Return an integer of at least 0."""
    return 0 if text == "0" else parse_count(text)


def parse_count_or_all(text: str) -> int | None:
    """Return an integer of at least 1, or None for "all"."""
    return None if text == "all" else parse_count(text)


def parse_held_out(text: str) -> float | str:
    """Return a fraction of the text, or the name of a split."""
    try:
        return float(text)
    except ValueError:
        return text


def parse_counts(text: str) -> list[int]:
    """Return integers of at least 1, separated by commas."""
    return [parse_count(number) for number in text.split(",")]


def parse_words(text: str) -> list[str]:
    """Return words, separated by commas."""
    return text.split(",")


def parse_indices(text: str) -> list[int]:
    """Return integers of at least 0, separated by commas."""
    numbers = text.split(",")
    if all(number.isdecimal() for number in numbers):
        return [int(number) for number in numbers]
    msg = f"must be integers separated by commas, like 0,5, got {show(text)}"
    raise argparse.ArgumentTypeError(msg)


def load_text(arguments: argparse.Namespace) -> Corpus | dict[str, Corpus]:
    """Return the corpus that was typed, or the corpora of a mixture's parts by their names.

    Raises
    ------
    ArgumentError
        As for `load_corpus`.
    """
    return load_parts(arguments) if parts_of(arguments) else load_corpus(arguments)


def load_whole(arguments: argparse.Namespace) -> Corpus | Mixture:
    """Return the corpus or the mixture that was typed, all of it."""
    text = load_text(arguments)
    return text if isinstance(text, Corpus) else make_mixture(arguments, text)


def load_parts(arguments: argparse.Namespace) -> dict[str, Corpus]:
    """Return the corpus of each part of a mixture, all with ids of one tokenizer.

    Texts get the tokenizer of the stores, if those have one and none was typed. A
    tokenizer that learns its tokens learns them from all the texts.
    """
    parts = {part.name: as_corpus(arguments, part) for part in parts_of(arguments)}
    check_names(parts_of(arguments))
    stored = {
        name: typed
        for name, typed in parts.items()
        if find_store(typed.corpus) is not None or find_parts(typed.corpus)
    }
    # Stores hold tokens: options of texts apply to the other corpora only.
    of_tokens: dict[str, object] = {
        "tokenizer": "char",
        "vocab_size": None,
        "raw": False,
        "encoding": "utf-8",
        "allow_special": False,
    }
    corpora = {
        name: load_corpus(
            argparse.Namespace(
                **{**vars(typed), **of_tokens, "given": typed.given.difference(_OF_TEXTS)}
            )
        )
        for name, typed in stored.items()
    }
    texts = {name: typed for name, typed in parts.items() if name not in stored}
    known = (corpus.tokenizer for corpus in corpora.values() if corpus.tokenizer is not None)
    tokenizer: object = None if "tokenizer" in arguments.given else next(known, None)
    for typed in texts.values():
        refuse_options_of_text(typed)
        if tokenizer is None:
            tokenizer = _learn_tokenizer(arguments, [each.corpus for each in texts.values()])
        name = name_split(typed.corpus, typed.split, instead=_NO_SPLIT)
        corpora[typed.part] = load(name, tokenizer=tokenizer, encoding=arguments.encoding)
    return {name: corpora[name] for name in parts}


def _learn_tokenizer(arguments: argparse.Namespace, names: Sequence[str]) -> object:
    """Return the tokenizer that was typed, which learns its tokens, if any, from all texts."""
    if arguments.tokenizer not in (*COUNTED_NAMES, *LEARNED_NAMES):
        return find_tokenizer(arguments)
    documents = (read_documents(name, encoding=arguments.encoding) for name in names)
    # What it drops is reported of each text, when that is loaded.
    encoded = encode_documents(
        itertools.chain.from_iterable(documents),
        tokenizer=arguments.tokenizer,
        vocab_size=arguments.vocab_size,
        normalize=not arguments.raw,
    )
    return encoded.tokenizer


def load_corpus(arguments: argparse.Namespace) -> Corpus:
    """Return the corpus that was typed; for a store with a split "train" that split.

    Raises
    ------
    ArgumentError
        There is no corpus of that name, or it has no such split.
    """
    if not parts_of(arguments):
        given: set[str] = getattr(arguments, "given", set())
        refuse_options(arguments, given.intersection(_OF_MIXTURES), _NO_MIXTURE)
    if "corpus" not in getattr(arguments, "given", {"corpus"}):
        # The default was not typed, so a folder of that name is not meant.
        named = {"corpus": f"dataset:{arguments.corpus}"}
        arguments = argparse.Namespace(**{**vars(arguments), **named})
    refuse_options_of_text(arguments)
    store, split = find_store(arguments.corpus), arguments.split
    if store is not None:
        if split is not None and store.split is not None:
            msg = f"{arguments.corpus} names a split already: leave out --split"
            raise ArgumentError(msg)
        splits = read_store(store.path).manifest.splits
        split = split or store.split or (TRAIN if TRAIN in splits else None)
        return load(str(store._replace(split=split)))
    return load(
        name_split(arguments.corpus, split, instead=_NO_SPLIT),
        tokenizer=find_tokenizer(arguments),
        vocab_size=arguments.vocab_size,
        normalize=not arguments.raw,
        encoding=arguments.encoding,
    )


def hold_out(
    arguments: argparse.Namespace, text: Corpus | dict[str, Corpus]
) -> tuple[Corpus | Mixture, Corpus | dict[str, Corpus] | None]:
    """Return the tokens to train on, and those to measure on; for a mixture by part.

    Parameters
    ----------
    arguments : Namespace
    text : Corpus or dict of str to Corpus
        What `load_text` returned.

    Raises
    ------
    ArgumentError
        There is no such split, or it is trained on.
    """
    if isinstance(text, Corpus):
        return _hold_out(arguments, text)
    pairs = {
        part.name: _hold_out(as_corpus(arguments, part), text[part.name])
        for part in parts_of(arguments)
    }
    trained = {name: train for name, (train, _) in pairs.items()}
    held_out = {name: each for name, (_, each) in pairs.items() if each is not None}
    _check_parts_apart(trained, held_out)
    return make_mixture(arguments, trained), held_out or None


def _check_parts_apart(trained: Mapping[str, Corpus], held_out: Mapping[str, Corpus]) -> None:
    """Refuse a mixture that trains on the text which one of its parts holds out.

    Raises
    ------
    ArgumentError
        One does.
    """
    for name, measured in held_out.items():
        for part, corpus in trained.items():
            where = (
                f", held out for the part {name!r}, lie in the part {part!r}: leave out one of "
                "these parts, or choose other held-out text with --held-out"
            )
            _require_apart(corpus, measured, where=where)


def _require_apart(trained: Corpus, measured: Corpus, *, where: str) -> None:
    """Refuse held-out text that is trained on; a message ends with where it lies too.

    Raises
    ------
    ArgumentError
        It is.
    """
    if num_shared := trained.num_shared(measured):
        msg = (
            f"the held-out text must not be trained on: {count(num_shared, 'token')} of "
            f"{measured.name}{where}"
        )
        raise ArgumentError(msg)


def _hold_out(arguments: argparse.Namespace, corpus: Corpus) -> tuple[Corpus, Corpus | None]:
    """Return the tokens of a corpus to train on, and those to measure on.

    Raises
    ------
    ArgumentError
        There is no such split, or it is trained on.
    """
    wanted = arguments.held_out
    if wanted is None:
        return corpus.first(arguments.max_tokens), None
    store = find_store(arguments.corpus)
    if store is not None and "held_out" not in arguments.given:
        splits = read_store(store.path).manifest.splits
        # The run may train on this very split, or on all of the store.
        is_apart = VALID in splits and not corpus.num_shared(load_split(arguments, corpus, VALID))
        wanted = VALID if is_apart else wanted
    if not isinstance(wanted, str):
        return corpus.hold_out(wanted, max_tokens=arguments.max_tokens)
    held_out = load_split(arguments, corpus, wanted)
    train = corpus.first(arguments.max_tokens)
    where = f" lie in {corpus.name} too: name another split with --held-out"
    _require_apart(train, held_out, where=where)
    return train, held_out


def print_amount(
    arguments: argparse.Namespace, corpus: Corpus | dict[str, Corpus], shown: Corpus | Mixture
) -> None:
    """Print that 'tokenloom train' reads less of a corpus than is shown here, if it does."""
    defaults = {"max_tokens": MAX_TOKENS, "held_out": HELD_OUT}
    missing = {name: defaults[name] for name in defaults if name not in arguments.given}
    whole = _size(shown)
    try:
        num_read = _size(hold_out(argparse.Namespace(**{**vars(arguments), **missing}), corpus)[0])
        if num_read == whole:
            return
        ways = [{name: value} for name, value in missing.items()]
        options = next(
            (way for way in ways if num_read == _read_with(arguments, corpus, way)), missing
        )
    except ArgumentError:
        return
    typed = " ".join(f"{arguments.options[name]} {value}" for name, value in options.items())
    print_line(
        f"\nnote: 'tokenloom train' with these options reads only "
        f"{num_read:,} of the {count(whole, 'token')};\n"
        f"{typed} shows the batches of such a training"
    )


def _size(text: Corpus | Mixture) -> int:
    return len(text.corpus if isinstance(text, Mixture) else text)


def _read_with(
    arguments: argparse.Namespace, corpus: Corpus | dict[str, Corpus], typed: Mapping[str, Any]
) -> int:
    """Return how many tokens 'plan' reads where these options are typed too."""
    given = {"given": arguments.given.union(typed)}
    return _size(hold_out(argparse.Namespace(**{**vars(arguments), **typed, **given}), corpus)[0])


def load_split(arguments: argparse.Namespace, corpus: Corpus, split: str) -> Corpus:
    """Return the split to measure on of the corpus that was named, with the same ids.

    Raises
    ------
    ArgumentError
        There is no such split.
    """
    store = find_store(arguments.corpus)
    if store is not None:
        splits = read_store(store.path).manifest.splits
        if split not in splits:
            known = ", ".join(map(repr, splits)) or "none"
            msg = (
                f"--held-out must be a fraction, or one of the splits of {store.path} ({known}), "
                f"got {show(split)}{suggest(split, splits)}"
            )
            raise ArgumentError(msg)
        return load(str(store._replace(split=split)))
    instead = "let --held-out be a fraction, such as 0.1"
    return load(
        name_split(arguments.corpus, split, instead=instead),
        tokenizer=corpus.tokenizer or arguments.tokenizer,
        encoding=arguments.encoding,
    )


def find_tokenizer(arguments: argparse.Namespace) -> object:
    """Return the tokenizer that was typed, as the library takes it.

    Raises
    ------
    ArgumentError
        There is none of that name, or it cannot allow special tokens in texts.
    """
    name: str = arguments.tokenizer
    found = find_stored_tokenizer(name)
    is_known = found is not name or name.startswith(ENCODING) or name.endswith(tuple(READERS))
    if is_known or name in TOKENIZER_NAMES:
        return allow_special_tokens(make_tokenizer(found)) if arguments.allow_special else found
    msg = (
        f"--tokenizer must be {', '.join(TOKENIZER_NAMES)}, the folder of a store, {ENCODING}NAME, "
        f"or a file that ends with {join_choices(list(READERS))}, got {show(name)}, which is none: "
        f"{describe_missing(name, TOKENIZER_NAMES)}{propose_file(name)}"
    )
    raise ArgumentError(msg)


def name_store(text: str) -> StoreName:
    """Return the store, and perhaps the split of it, that was typed as STORE or STORE/SPLIT."""
    found = None if is_store(text) else find_store(text)
    return found or StoreName(text)


def refuse_options_of_text(arguments: argparse.Namespace) -> None:
    """Refuse options that have no effect on the corpus that was named."""
    name = arguments.corpus
    tokenizer = getattr(arguments, "tokenizer", None)
    parts = find_parts(name, tokenizer=tokenizer or "char")
    if find_store(name) is not None or parts:
        what = "means several files or stores" if parts else "is a store"
        refused = ["tokenizer", "vocab_size", "allow_special", "raw", "encoding"]
        if all(isinstance(part, Path) for part in parts) and parts:
            what = "is a token file" if len(parts) == 1 else "means several token files"
            # Token files seldom know their tokenizer.
            refused.remove("tokenizer")
        refuse_options(arguments, refused, f"{name} {what}, whose text is already tokenised")
        return
    if tokenizer is not None and tokenizer not in COUNTED_NAMES:
        kind = TOKENIZERS.get(tokenizer)
        reads_bytes = kind is not None and kind.reads_bytes
        what = "the bytes of a text as they are" if reads_bytes else "a text as it is"
        # With another encoding the text is transcoded to UTF-8 first.
        is_refused = reads_bytes and find_encoding(arguments.encoding) == "utf-8"
        why = f"--tokenizer {tokenizer} takes {what}"
        refuse_options(arguments, ("raw", *["encoding"] * is_refused), why)
        if tokenizer not in LEARNED_NAMES:
            refuse_options(arguments, ("vocab_size",), f"--tokenizer {tokenizer} learns no ids")
    entry = find_named(name)
    if entry is not None and not isinstance(entry.source, RemoteFile):
        refuse_options(arguments, ("encoding",), f"the encoding of {name} is known")


def refuse_options(arguments: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """Refuse options that would be ignored."""
    typed = [arguments.options.get(name, name) for name in names if name in arguments.given]
    if typed:
        msg = f"leave out {' and '.join(typed)}: {why}"
        raise ArgumentError(msg)


def make_windows(
    arguments: argparse.Namespace,
    corpus: "Corpus | Mixture",
    *,
    text: "Corpus | dict[str, Corpus] | None" = None,
    shard: "Shard | None" = None,
    resets: bool | None = None,
) -> "Windows":
    """Return windows of the order and shape that were typed; by default of all rows.

    A mixture is read in random order if no order was typed.

    Parameters
    ----------
    arguments : Namespace
    corpus : Corpus or Mixture
        What is read.
    text : Corpus or dict of str to Corpus, optional
        All that was named; an error says what leaves too little of it.
    shard : Shard, optional
    resets : bool, optional

    Raises
    ------
    CorpusError
        The corpus is too short for such windows.
    """
    from tokenloom.loading.dataset import Windows
    from tokenloom.loading.shard import Shard

    # Commands run in one process, also where a launcher's variables are set.
    shard = shard or Shard()
    with _explaining(arguments, text, corpus):
        return Windows(
            _name_order(arguments, corpus), corpus, **_shape(arguments), shard=shard, resets=resets
        )


@contextlib.contextmanager
def _explaining(
    arguments: argparse.Namespace,
    text: "Corpus | dict[str, Corpus] | None",
    train: "Corpus | Mixture",
) -> Iterator[None]:
    """Let the error of a text that is too short say what left so little of it."""
    try:
        yield
    except CorpusError as error:
        if why := _explain_amount(arguments, text, train):
            msg = f"{error}; {why}"
            raise CorpusError(msg) from error
        raise


def _explain_amount(
    arguments: argparse.Namespace,
    text: "Corpus | dict[str, Corpus] | None",
    train: "Corpus | Mixture",
) -> str:
    """Return which options leave less of a text than all of it, or nothing."""
    if text is None:
        return ""
    whole = {text.name: text} if isinstance(text, Corpus) else text
    parts = train.parts.values() if isinstance(train, Mixture) else (train,)
    causes = []
    for (name, corpus), used in zip(whole.items(), parts, strict=True):
        if len(used) == len(corpus):
            continue
        option = "held_out" if len(used) != arguments.max_tokens else "max_tokens"
        typed = f"{arguments.options[option]} {getattr(arguments, option)}"
        tokens = count(len(corpus), "token")
        causes.append(f"{typed} leaves {len(used):,} of the {tokens} of {name}")
    return "; ".join(causes)


def make_typed_plan(
    arguments: argparse.Namespace,
    corpus: "Corpus | Mixture",
    *,
    text: "Corpus | dict[str, Corpus] | None" = None,
) -> Plan:
    """Return the plan of the windows that `make_windows` makes, without PyTorch."""
    with _explaining(arguments, text, corpus):
        return make_plan(_name_order(arguments, corpus), corpus, **_shape(arguments))


def _name_order(arguments: argparse.Namespace, corpus: "Corpus | Mixture") -> str:
    is_mixture = isinstance(corpus, Mixture) and "order" not in arguments.given
    return "random" if is_mixture else arguments.order


def _shape(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in ("batch_size", "seq_len", "seed", "tail")}


def preload_workers() -> None:
    """Let the server of the start method "forkserver" import PyTorch, once for all workers."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tokenloom.loading.dataset"])


def explain_ids(corpus: Corpus, cure: str) -> str:
    """Return why a corpus has no tokenizer, and what to do where it was one of the user's own."""
    made_by = corpus.describe_identity().get("type", "NoneType")
    if made_by == "NoneType":
        return f"{corpus.name} holds ids, and no tokenizer that could turn them into text"
    return (
        f"{corpus.name} was made with a tokenizer of your own, {made_by}, which no store holds: "
        f"{cure}"
    )
