"""The subcommands about trained models: measuring them, writing with them."""

import argparse
import time
from typing import TYPE_CHECKING, Any

from tokenloom._wording import count
from tokenloom.cli.options import (
    add_across_documents,
    add_command,
    add_device,
    add_json,
    add_offline,
    add_quiet,
    add_timeout,
    parse_count,
    refuse_options,
    refuse_options_of_text,
)
from tokenloom.cli.output import print_json, print_line, print_table, say, say_error

if TYPE_CHECKING:
    from tokenloom.corpus.corpus import Corpus
    from tokenloom.model.evaluation import Evaluation
    from tokenloom.model.generation import GeneratedToken

_EVALUATE_EXAMPLES = """\
examples:
  tokenloom evaluate runs/time_machine-20260102-030405 time_machine --split held-out
      the text that the run held out: the last held-out perplexity of its metrics
  tokenloom evaluate RUN my-book.txt
      another text, encoded as the run's was; a store must have the same ids
  tokenloom evaluate RUN my-store --split valid --batch-size 1
      a split of a store, in one lane: no token lacks the text before it
  torchrun --nproc-per-node 2 -m tokenloom evaluate RUN my-store
      the same number from two processes, each with half of the lanes

Every token but the first is predicted once. The number of lanes, --batch-size,
is the only option that changes the result.
"""


_GENERATE_EXAMPLES = """\
examples:
  tokenloom generate runs/time_machine-20260102-030405 --prompt "time traveller"
      the most likely characters, one after the other
  tokenloom generate RUN --prompt "the " --num-tokens 300 --temperature 0.7 --top-k 8
      draw each from the 8 most likely; another --seed gives another text
  tokenloom generate RUN --prompt "the " --prompt "time " --top-p 0.9 --temperature 1
      several texts at once, from the likeliest tokens that make up 90 %
  tokenloom generate RUN --prompt "the " --log-probs --json
      for programs, with the log-probability of each token

The text of one prompt is printed as it comes.
"""


def add_commands(commands: Any) -> None:
    """Add the subcommands of this room to the parser."""
    _add_generate(commands)
    _add_evaluate(commands)


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", metavar="RUN", help="folder that 'tokenloom train' made")
    command.add_argument(
        "--best",
        action="store_true",
        help="take the checkpoint with the lowest held-out perplexity, not the last one",
    )


def _add_evaluate(commands: Any) -> None:
    command = add_command(
        commands, _evaluate, summary="measure how well a model predicts", epilog=_EVALUATE_EXAMPLES
    )
    _add_run(command)
    command.add_argument(
        "corpus", metavar="CORPUS", help="a name from 'tokenloom datasets', a text file, or a store"
    )
    command.add_argument(
        "--split",
        metavar="NAME",
        help="only this split of CORPUS; 'held-out' or 'trained': what the run made of it",
    )
    command.add_argument(
        "--encoding", default="utf-8", help="of a text file; a store has its tokens already"
    )
    add_offline(command)
    command.add_argument(
        "--batch-size", type=parse_count, default=32, metavar="N", help="lanes of text"
    )
    command.add_argument(
        "--seq-len", type=parse_count, default=35, metavar="N", help="tokens that are read at once"
    )
    add_across_documents(command)
    command.add_argument(
        "--workers", type=int, default=0, metavar="N", help="threads that read ahead"
    )
    add_device(command)
    # They wait once, at the end, and for those that have more lanes.
    add_timeout(command, seconds=3600.0)
    add_json(command)
    add_quiet(command)


def _add_generate(commands: Any) -> None:
    command = add_command(
        commands, _generate, summary="write text with a trained model", epilog=_GENERATE_EXAMPLES
    )
    _add_run(command)
    command.add_argument(
        "--prompt",
        action="append",
        required=True,
        help="text that the model continues; may be repeated",
    )
    command.add_argument(
        "--num-tokens", type=parse_count, default=200, metavar="N", help="how many tokens to write"
    )
    command.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        help="0: always the likeliest token, nothing is drawn; 1: as likely as the model says",
    )
    command.add_argument(
        "--top-k", type=parse_count, metavar="K", help="draw from the K likeliest tokens only"
    )
    command.add_argument(
        "--top-p",
        type=float,
        metavar="P",
        help="draw from the likeliest tokens only that together are as likely as P",
    )
    command.add_argument("--seed", type=int, default=0, help="seed of the draws, for each prompt")
    command.add_argument(
        "--log-probs", action="store_true", help="list the tokens, and how likely each was"
    )
    add_device(command)
    add_json(command)


def _evaluate(arguments: argparse.Namespace) -> None:
    from tokenloom.loading.device import choose_device
    from tokenloom.loading.distributed import joined
    from tokenloom.model.evaluation import evaluate
    from tokenloom.training.reopen import count_trained, read_as
    from tokenloom.training.run import Run

    with joined(timeout_seconds=arguments.timeout, tell=say_error) as ranks:
        run = Run.open(arguments.run)
        refuse_options_of_text(arguments)
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
        **_describe(result),
        "batch_size": arguments.batch_size,
        "seq_len": arguments.seq_len,
        "tokens_per_second": result.num_tokens / seconds,
        "device": str(model.linear.weight.device),
    }
    (print_json if arguments.json else _print_facts)(facts)


def _warn_of_trained(num_trained: int, corpus: "Corpus") -> None:
    say(
        f"the run was trained on {num_trained:,} of the {count(len(corpus), 'token')} of "
        f"{corpus.name}: such text it predicts better than text that it has not seen"
    )


def _generate(arguments: argparse.Namespace) -> None:
    from tokenloom.loading.device import choose_device
    from tokenloom.model.generation import stream
    from tokenloom.training.run import Run

    run = Run.open(arguments.run)
    prompts = arguments.prompt
    if arguments.temperature == 0:
        why = "at temperature 0 nothing is drawn; add --temperature 1"
        refuse_options(arguments, ("top_k", "top_p", "seed"), why)
    # One text is shown while it comes; several would mix.
    shows = len(prompts) == 1 and not arguments.json
    tokens: list[list[GeneratedToken]] = [[] for _ in prompts]
    for token in stream(
        run.load_model(best=arguments.best).to(choose_device(arguments.device)),
        run.load_tokenizer(),
        prompts,
        num_tokens=arguments.num_tokens,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
        log_probs=arguments.log_probs,
    ):
        if shows:
            print_line(("" if tokens[0] else prompts[0]) + token.text, end="")
        tokens[token.prompt_index].append(token)
    if arguments.json:
        texts = [_describe_text(*pair) for pair in zip(prompts, tokens, strict=True)]
        print_json({"run": str(run.path), "seed": arguments.seed, "texts": texts})
        return
    for prompt, written in zip(prompts, tokens, strict=True):
        print_line("" if shows else prompt + "".join(token.text for token in written))
        if arguments.log_probs:
            rows = [(repr(token.text), f"{token.log_prob:.4f}") for token in written]
            print_table([("TOKEN", "LOG-PROBABILITY"), *rows])


def _describe_text(prompt: str, tokens: "list[GeneratedToken]") -> dict[str, Any]:
    return {
        "prompt": prompt,
        "generated": "".join(token.text for token in tokens),
        "ids": [token.id for token in tokens],
        "log_probs": [token.log_prob for token in tokens],
    }


def _describe(result: "Evaluation") -> dict[str, Any]:
    return {
        "num_tokens": result.num_tokens,
        "num_characters": result.num_characters,
        "perplexity": result.perplexity,
        "nats_per_token": result.nats_per_token,
        "bits_per_token": result.bits_per_token,
        "nats_per_character": result.nats_per_character,
        "bits_per_character": result.bits_per_character,
    }


def _print_facts(facts: dict[str, Any]) -> None:
    split = "" if facts["split"] is None else f", split {facts['split']}"
    verb = "was" if facts["num_tokens"] == 1 else "were"
    tokens = count(facts["num_tokens"], "token")
    print_line(f"{facts['corpus']}{split}: {tokens} {verb} predicted, once each")
    print_line(f"perplexity {facts['perplexity']:.4f}")
    rows = [("", "NATS", "BITS")]
    for unit in ("token", "character"):
        values = facts[f"nats_per_{unit}"], facts[f"bits_per_{unit}"]
        nats, bits = ("unknown" if value is None else f"{value:.4f}" for value in values)
        rows.append((f"per {unit}", nats, bits))
    print_table(rows)
    print_line(f"{facts['tokens_per_second']:,.0f} tokens per second on {facts['device']}")
