"""Pickles of dicts, lists, strings and integers, read without the machinery that runs code."""

import pickletools
from typing import Any

_MARK = object()
_PASSED_OVER = frozenset(("PROTO", "FRAME"))
_STRINGS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_VALUES = frozenset((*_STRINGS, "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"))
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, type[Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_MEMOS = frozenset(("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))


def read_plain(content: bytes) -> object:
    """Return the value of a pickle that holds dicts, lists, strings and integers only.

    The memory that it takes is a small multiple of the pickle's length,
    whatever the pickle asks for.

    Raises
    ------
    ValueError
        The pickle names anything else, such as a class, is damaged, or has
        bytes after its end.

    >>> import pickle
    >>> read_plain(pickle.dumps({"vocab_size": 1, "itos": {0: "a"}}))
    {'vocab_size': 1, 'itos': {0: 'a'}}
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for opcode, argument, position in pickletools.genops(content):
            if opcode.name != "STOP":
                _do(opcode.name, argument, stack, memo)
            elif position == len(content) - 1 and len(stack) == 1 and stack[0] is not _MARK:
                value: object = stack[0]
                return value
    # An operation found a value missing, of the wrong type, or unhashable.
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        msg = f"it is damaged: {type(error).__name__}: {error}"
        raise ValueError(msg) from error
    msg = "it must end with one value, and nothing after that"
    raise ValueError(msg)


def _do(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    """Do one operation of the pickle's stack machine."""
    if name in _VALUES:
        stack.append(argument)
    elif name in _MEMOS:
        memo[len(memo) if argument is None else argument] = stack[-1]
    elif name in _GETS:
        stack.append(memo[argument])
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in _EMPTY:
        stack.append(_EMPTY[name]())
    elif name == "MARK":
        stack.append(_MARK)
    elif name not in _PASSED_OVER:
        _collect(name, argument, stack)


def _collect(name: str, argument: Any, stack: list[Any]) -> None:
    """Do an operation that puts values into a dict or a list."""
    match name:
        case "DICT":
            stack.append(_pair(_after_mark(stack)))
        case "LIST":
            stack.append(_after_mark(stack))
        case "SETITEM":
            item = stack.pop()
            stack[-2].update({stack.pop(): item})
        case "SETITEMS":
            items = _after_mark(stack)
            stack[-1].update(_pair(items))
        case "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        case "APPENDS":
            items = _after_mark(stack)
            stack[-1].extend(items)
        case _:
            names = stack[-2:] if name == "STACK_GLOBAL" else str(argument or "").split()
            what = ".".join(map(str, names))[:100] or name
            msg = f"it names {what}, and may hold dicts, lists, strings and integers only"
            raise ValueError(msg)


def _after_mark(stack: list[Any]) -> list[Any]:
    items: list[Any] = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]


def _pair(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))
