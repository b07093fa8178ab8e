"""The command ``tokenloom generate``: text from a trained model."""

import argparse
from typing import TYPE_CHECKING, Any

from tokenloom.cli import options
from tokenloom.cli.output import print_json, print_line, print_table
from tokenloom.cli.parser import add_parser
from tokenloom.text.interface import vocab_of

if TYPE_CHECKING:
    from tokenloom.model.generation import GeneratedToken

_EXAMPLES = """\
examples:
  tokenloom generate runs/time_machine-20260102-030405 --prompt "time traveller"
      the most likely characters, one after the other
  tokenloom generate RUN --prompt "the " --num-tokens 300 --temperature 0.7 --top-k 8
      draw each from the 8 most likely; another --seed gives another text
  tokenloom generate RUN --prompt "the " --prompt "time " --top-p 0.9 --temperature 1
      several texts at once, drawn from the most likely tokens that make up 90 %
  tokenloom generate RUN --prompt "the " --log-probs --json
      JSON for programs, with the log-probability of each token

The text of a single prompt is printed while it is generated. A text stops at the
end-of-document token of the store that the model was trained on, if the store has one;
that token is not printed.
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_parser(commands, "generate", _run, epilog=_EXAMPLES)
    options.add_run(command)
    command.add_argument(
        "--prompt",
        action="append",
        required=True,
        help="text that the model continues; may be repeated",
    )
    options.add_count(command, "--num-tokens", "the most tokens to generate", default=200)
    _add_stop(command)
    command.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        help="0: always take the most likely token; 1: draw with the probabilities of the model",
    )
    command.add_argument(
        "--top-k",
        type=options.parse_count,
        metavar="K",
        help="draw from the K most likely tokens only",
    )
    command.add_argument(
        "--top-p",
        type=float,
        metavar="P",
        help="draw from the fewest most likely tokens only whose probabilities add up to P",
    )
    command.add_argument("--seed", type=int, default=0, help="seed of the draws, for each prompt")
    command.add_argument(
        "--log-probs", action="store_true", help="print each token with its log-probability"
    )
    options.add_device(command)
    options.add_json(command)


def _add_stop(command: argparse.ArgumentParser) -> None:
    stop = command.add_mutually_exclusive_group()
    stop.add_argument(
        "--stop-at",
        metavar="TOKEN",
        help="token, or its id, at which a text stops; by default the end-of-document token of the "
        "store that the model was trained on",
    )
    stop.add_argument(
        "--no-stop", action="store_true", help="generate as many tokens as --num-tokens says"
    )


def _run(arguments: argparse.Namespace) -> None:
    from tokenloom.loading.device import choose_device
    from tokenloom.model.generation import stream
    from tokenloom.training.run import Run

    run = Run.open(arguments.run)
    prompts = arguments.prompt
    if arguments.temperature == 0:
        why = "at temperature 0 nothing is drawn; add --temperature 1"
        options.refuse_options(arguments, ("top_k", "top_p", "seed"), why)
    # A single text is printed while it is generated; several would mix.
    shows = len(prompts) == 1 and not arguments.json
    tokens: list[list[GeneratedToken]] = [[] for _ in prompts]
    tokenizer = run.load_tokenizer()
    is_token = arguments.stop_at in (vocab_of(tokenizer) or ())
    stop_at = options.as_token(arguments.stop_at, digits_are_token=is_token)
    for token in stream(
        run.load_model(best=arguments.best).to(choose_device(arguments.device)),
        tokenizer,
        prompts,
        num_tokens=arguments.num_tokens,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
        stop_at=False if arguments.no_stop else stop_at,
        log_probs=arguments.log_probs,
    ):
        if shows:
            print_line(("" if tokens[0] else prompts[0]) + token.text, end="")
        tokens[token.prompt_index].append(token)
    if arguments.json:
        texts = [_facts_of_text(*pair) for pair in zip(prompts, tokens, strict=True)]
        print_json({"run": str(run.path), "seed": arguments.seed, "texts": texts})
        return
    for prompt, written in zip(prompts, tokens, strict=True):
        print_line("" if shows else prompt + "".join(token.text for token in written))
        if arguments.log_probs:
            _print_log_probs(written)


def _print_log_probs(tokens: "list[GeneratedToken]") -> None:
    rows = [
        ("(end)" if token.is_end else repr(token.text), f"{token.log_prob:.4f}") for token in tokens
    ]
    print_table([("TOKEN", "LOG-PROBABILITY"), *rows])


def _facts_of_text(prompt: str, tokens: "list[GeneratedToken]") -> dict[str, Any]:
    return {
        "prompt": prompt,
        "generated": "".join(token.text for token in tokens),
        "ids": [token.id for token in tokens],
        "log_probs": [token.log_prob for token in tokens],
        "finish_reason": "stop" if tokens and tokens[-1].is_end else "length",
    }
