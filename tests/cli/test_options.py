"""What can be typed after the command's name."""

import argparse
from typing import Any

import pytest

from tokenloom.cli.main import main, make_parser

OPTIONS = {
    "train": (
        "corpus --split --tokenizer --vocab-size --allow-special --raw --encoding --offline "
        "--stage --epoch-tokens --max-repeats --order --batch-size --seq-len --seed "
        "--tail --max-tokens --held-out --model --hidden --layers --bidirectional --epochs --lr "
        "--max-grad-norm --across-documents --within-documents --optimizer --schedule --warmup "
        "--accumulate --precision --workers --device --resident --threads --timeout --resume "
        "--checkpoint-steps --checkpoint-seconds --keep --run --sample-every --prompt --json "
        "--quiet"
    ),
    "generate": (
        "run --best --prompt --num-tokens --stop-at --no-stop --temperature --top-k --top-p "
        "--seed --log-probs --device --json"
    ),
    "evaluate": (
        "run --best corpus --split --encoding --offline --batch-size --seq-len "
        "--across-documents --within-documents --workers --device --timeout --json --quiet"
    ),
    "plan": (
        "corpus --split --tokenizer --vocab-size --allow-special --raw --encoding --offline "
        "--stage --epoch-tokens --max-repeats --order --batch-size --seq-len --seed "
        "--tail --max-tokens --held-out --epoch --ranks --workers --json --plot"
    ),
    "show": (
        "corpus --split --tokenizer --vocab-size --allow-special --raw --encoding --offline "
        "--stage --epoch-tokens --max-repeats --order --batch-size --seq-len --seed "
        "--tail --max-tokens --held-out --epoch --batch --rows --step --spikes --top --threshold "
        "--json --plot"
    ),
    "bench": (
        "corpus --split --tokenizer --vocab-size --allow-special --raw --encoding --offline "
        "--stage --epoch-tokens --max-repeats --order --batch-size --seq-len --seed "
        "--tail --workers --seconds --json --quiet --plot"
    ),
    "selftest": (
        "corpus --split --tokenizer --vocab-size --allow-special --raw --encoding --offline "
        "--stage --epoch-tokens --max-repeats --batch-size --seq-len --seed "
        "--workers --start-methods --json --quiet"
    ),
    "datasets": "--json",
    "fetch": "names --offline --json --quiet",
    "prepare": (
        "sources -o --documents --field --prompt-field --encoding --on-error --on-reserved "
        "--split --split-by --tokenizer --vocab-size --allow-special --raw --min-freq "
        "--reserved-tokens --end-of-document --workers --dask --offline --json --quiet"
    ),
    "verify": "store --json --quiet",
    "info": "store --top --json --quiet --plot",
}


def subparsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each subcommand."""
    (action,) = (
        action
        for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return dict(action.choices)


@pytest.mark.parametrize("command", OPTIONS)
def test_the_surface_is_pinned(command: str) -> None:
    """A new option is a deliberate act."""
    actions = subparsers()[command]._actions[1:]
    names = [
        action.option_strings[0] if action.option_strings else action.dest for action in actions
    ]
    assert OPTIONS[command].split() == names


def test_the_commands_are_pinned() -> None:
    """A new command is a deliberate act too."""
    assert sorted(OPTIONS) == sorted(subparsers())


@pytest.mark.parametrize("command", OPTIONS)
def test_help_teaches_by_examples(command: str) -> None:
    """Each command that does something shows how."""
    assert "examples:\n  tokenloom " in subparsers()[command].format_help()


def test_the_defaults_are_the_textbooks() -> None:
    """The concise RNN: sequential, 32 x 35, 256 units, lr 1, norm 1, 10,000 tokens, 500 epochs."""
    expected: dict[str, Any] = {
        "corpus": "python_docs",
        "tokenizer": "char",
        "order": "sequential",
        "batch_size": 32,
        "seq_len": 35,
        "model": "rnn",
        "hidden": 256,
        "layers": 1,
        "lr": 1.0,
        "max_grad_norm": 1.0,
        "max_tokens": 10_000,
        "epochs": 500,
    }
    parsed = vars(make_parser().parse_args(["train"]))
    assert expected == {name: parsed[name] for name in expected}


def test_all_tokens_can_be_asked_for() -> None:
    """'all' means no limit."""
    assert make_parser().parse_args(["train", "--max-tokens", "all"]).max_tokens is None


def test_rows_are_a_list_of_numbers() -> None:
    """Separated by commas."""
    assert make_parser().parse_args(["show", "x", "--rows", "0,5"]).rows == [0, 5]


def test_what_was_typed_is_known() -> None:
    """Also where it is the default, and not where it was left out."""
    parsed = make_parser().parse_args(["train", "--lr", "1.0", "--raw", "--tokenizer", "char"])
    assert {"lr", "raw", "tokenizer"} == parsed.given
    assert "python_docs" == parsed.corpus
    assert {"corpus"} == make_parser().parse_args(["train", "python_docs"]).given


def test_defaults_are_parsed_as_if_they_were_typed() -> None:
    """The help shows them in the form of the command line."""
    assert [0, 1, 2, 4] == make_parser().parse_args(["bench", "x"]).workers
    assert "(default: 0,1,2,4)" in subparsers()["bench"].format_help()


def test_help_shows_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where it is typed, which is while the arguments are parsed."""
    with pytest.raises(SystemExit):
        make_parser().parse_args(["bench", "--help"])
    shown = capsys.readouterr().out
    assert "(default: 0,1,2,4)" in shown
    assert subparsers()["bench"].format_help() == shown


def test_an_option_that_is_repeated_starts_without_a_default() -> None:
    """Two parses with the same parser do not add up."""
    parser = make_parser()
    for _ in range(2):
        parsed = parser.parse_args(["generate", "x", "--prompt", "a", "--prompt", "b"])
        assert ["a", "b"] == parsed.prompt


@pytest.mark.parametrize("typed", ["0", "-1", "nan", "inf", "1e400", "", "soon"])
@pytest.mark.parametrize("command", ["train run", "evaluate run book.txt"])
def test_a_timeout_is_a_positive_number(
    command: str, typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where no other process is waited for."""
    assert main([*command.split(), f"--timeout={typed}"]) == 2
    assert "--timeout: must be a number of seconds above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        *(["train", "book.txt", option] for option in ("--split", "--run", "--resume", "--prompt")),
        *([command, "book.txt", "--split"] for command in ("plan", "show", "selftest", "bench")),
        ["evaluate", "run", "book.txt", "--split"],
    ],
    ids=" ".join,
)
def test_an_empty_word_is_not_taken_for_one_that_was_not_typed(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As an empty variable of the shell makes it."""
    assert main([*words, ""]) == 2
    message = capsys.readouterr().err
    # An option with two names is called by both.
    assert words[-1] in message
    assert ": must not be empty, got ''" in message
