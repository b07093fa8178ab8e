"""The command ``tokenloom evaluate``: how well a trained model predicts a text."""

import argparse
import time
from typing import TYPE_CHECKING, Any

from tokenloom._wording import count
from tokenloom.cli import options
from tokenloom.cli.mixture import one_corpus
from tokenloom.cli.output import (
    make_reporter,
    print_json,
    print_line,
    print_message,
    print_table,
)
from tokenloom.cli.parser import add_parser
from tokenloom.errors import UsageError
from tokenloom.text.tokenizers import complete

if TYPE_CHECKING:
    from tokenloom.corpus.corpus import Corpus

_EXAMPLES = """\
examples:
  tokenloom evaluate runs/time_machine-20260102-030405 time_machine --split held-out
      the text that the run held out, which gives the last perplexity of its metrics
  tokenloom evaluate RUN my-book.txt
      another text, encoded by the run's tokenizer; a store must have been made with it
  tokenloom evaluate RUN my-store --split valid --batch-size 1
      a split of a store in one lane, where each token is predicted from all before it
  torchrun --nproc-per-node 2 -m tokenloom evaluate RUN my-store
      the same number from two processes, each with half of the lanes

Every token but the first is predicted once. The number of lanes, --batch-size,
is the only option that changes the result.
"""

# Of an evaluation, in the order in which they are printed.
_FACTS = (
    *("num_tokens", "num_characters", "num_bytes"),
    *("perplexity", "perplexity_per_character", "perplexity_per_byte"),
    *("nats_per_token", "bits_per_token", "nats_per_character", "bits_per_character"),
    *("nats_per_byte", "bits_per_byte"),
)


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_parser(commands, "evaluate", _run, epilog=_EXAMPLES)
    options.add_run(command)
    command.add_argument(
        "corpus",
        metavar="CORPUS",
        type=one_corpus,
        help="a name from 'tokenloom datasets', a text file, or a store; for a run of a mixture "
        "the text of one part",
    )
    command.add_argument(
        "--split",
        type=options.parse_name,
        metavar="NAME",
        help="only this split of CORPUS; 'held-out' or 'trained' for what the run measured on or "
        "was trained on",
    )
    options.add_encoding(command)
    options.add_offline(command)
    options.add_shape(
        command, rows="number of lanes of text", row="of each lane that are read at once"
    )
    options.add_across_documents(command)
    options.add_within_documents(command, "predict")
    options.add_workers(command, "number of threads that read ahead")
    options.add_device(command)
    # The ranks wait once, at the end, for those that have more lanes.
    options.add_timeout(command, seconds=3600.0)
    options.add_json(command)
    options.add_quiet(command)


def _run(arguments: argparse.Namespace) -> None:
    from tokenloom.loading.device import choose_device
    from tokenloom.loading.distributed import joined
    from tokenloom.model.evaluation import evaluate
    from tokenloom.training.reopen import count_trained, read_as
    from tokenloom.training.run import Run

    with joined(timeout_seconds=arguments.timeout, report=make_reporter(arguments)) as ranks:
        run = Run.open(arguments.run)
        options.refuse_options_of_text(arguments)
        corpus = read_as(run, arguments.corpus, split=arguments.split, encoding=arguments.encoding)
        num_trained = count_trained(run, corpus)
        if num_trained and ranks.is_first:
            _warn_of_trained(num_trained, corpus)
        model = run.load_model(best=arguments.best).to(choose_device(arguments.device))
        began_at = time.perf_counter()
        with ranks.watched():
            result = evaluate(
                model,
                corpus,
                batch_size=arguments.batch_size,
                seq_len=arguments.seq_len,
                num_workers=arguments.workers,
                resets=not arguments.across_documents,
                across_documents=not arguments.within_documents,
                progress=False if arguments.quiet or not ranks.is_first else None,
            )
        seconds = time.perf_counter() - began_at
    if not ranks.is_first:
        return
    facts = {
        "run": str(run.path),
        "corpus": corpus.name,
        "split": arguments.split,
        "num_trained_tokens": num_trained,
        **{name: getattr(result, name) for name in _FACTS},
        **{name: getattr(arguments, name) for name in ("batch_size", "seq_len")},
        "tokens_per_second": result.num_tokens / seconds,
        "device": str(model.linear.weight.device),
    }
    _report(facts, corpus, arguments)


def _warn_of_trained(num_trained: int, corpus: "Corpus") -> None:
    print_message(
        f"the model was trained on {num_trained:,} of the {count(len(corpus), 'token')} of "
        f"{corpus.name}: it predicts such text better than text that it has not seen"
    )


def _print_facts(facts: dict[str, Any]) -> None:
    split = "" if facts["split"] is None else f", split {facts['split']}"
    verb = "was" if facts["num_tokens"] == 1 else "were"
    tokens = count(facts["num_tokens"], "token")
    print_line(f"{facts['corpus']}{split}: {tokens} {verb} predicted, once each")
    rows: list[tuple[str, ...]] = [("", "PERPLEXITY", "NATS", "BITS")]
    for unit in ("token", "character", "byte"):
        perplexity = "perplexity" if unit == "token" else f"perplexity_per_{unit}"
        names = perplexity, f"nats_per_{unit}", f"bits_per_{unit}"
        values = (facts[name] for name in names)
        cells = ("unknown" if value is None else f"{value:.4f}" for value in values)
        rows.append((f"per {unit}", *cells))
    print_table(rows)
    print_line(f"{facts['tokens_per_second']:,.0f} tokens per second on {facts['device']}")


def _report(facts: dict[str, Any], corpus: "Corpus", arguments: argparse.Namespace) -> None:
    if why := _explain_unknown(facts, corpus, is_part=arguments.within_documents):
        print_message(why)
    (print_json if arguments.json else _print_facts)(facts)


def _explain_unknown(facts: dict[str, Any], corpus: "Corpus", *, is_part: bool) -> str | None:
    """Return why the size of the predicted text is not known, if that is so."""
    numbers = {"character": "num_characters", "byte": "num_bytes"}
    units = [unit for unit, name in numbers.items() if facts[name] is None]
    if not units:
        return None
    if corpus.loss_mask is not None and facts["num_tokens"] < len(corpus) - 1:
        why = "tokens that the loss mask leaves out were not predicted"
    elif is_part:
        why = "the first tokens of documents were not predicted"
    else:
        why = _why_unknown(corpus)
    return f"no perplexity per {' and per '.join(units)}: {why}"


def _why_unknown(corpus: "Corpus") -> str:
    tokenizer = None if corpus.tokenizer is None else complete(corpus.tokenizer)
    try:
        is_known = tokenizer is not None and tokenizer.token_byte_lengths() is not None
    # The package of the tokenizer is not installed.
    except UsageError as error:
        return str(error)
    if is_known:
        return "some tokens are unknown to the vocabulary, so the length of their text is lost"
    return "the tokenizer does not report how much text its ids stand for"
