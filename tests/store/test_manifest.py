"""What a store says of itself: what it must say, and how it is refused."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom import StoreError
from tokenloom._io.digest import hash_json
from tokenloom.store.manifest import Manifest, ShardFile, Source, StoreFile, read_json, write_json

SHA256 = "0" * 64
SHARDS = (ShardFile(5, SHA256), ShardFile(3, "f" * 64))

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,5}\.json", fullmatch=True).filter(
    lambda name: name != "manifest.json" and not name.startswith("tokens-")
)
counts = st.integers(0, 2**63 - 1)
hashes = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
facts = st.dictionaries(
    st.text(),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text()
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda values: st.lists(values) | st.dictionaries(st.text(), values),
        max_leaves=4,
    ),
    max_size=3,
)
sources = st.builds(
    Source,
    name=st.text(),
    num_documents=counts,
    num_bytes=st.none() | counts,
    sha256=st.none() | hashes,
)
shard_lists = st.lists(st.builds(ShardFile, st.integers(1, 2**40), hashes), min_size=1, max_size=3)
file_lists = st.lists(
    st.builds(StoreFile, names, counts, hashes), max_size=3, unique_by=lambda file: file.name
)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Manifests of every kind."""
    shards, files = draw(shard_lists), draw(file_lists)
    num_tokens = sum(shard.num_tokens for shard in shards)
    stop = draw(st.integers(1, num_tokens))
    bounds = draw(st.integers(0, stop - 1)), stop
    return Manifest(
        dtype="uint32",
        vocab_size=draw(st.integers(1, 2**32)),
        shards=tuple(shards),
        files=tuple(sorted(files, key=lambda file: file.name)),
        tokenizer=draw(st.none() | st.just({"name": "byte"})),
        splits=draw(st.dictionaries(st.text(), st.just(bounds), max_size=2)),
        sources=tuple(draw(st.lists(sources, max_size=2))),
        facts=draw(facts),
    )


def make(**changes: Any) -> Manifest:
    """Return a manifest with some fields changed."""
    fields: dict[str, Any] = {"dtype": "uint16", "vocab_size": 300, "shards": SHARDS}
    return Manifest(**{**fields, **changes})


def sign(value: dict[str, Any]) -> str:
    """Return the text of a manifest's value with the checksum that fits."""
    return json.dumps({**value, "checksum": hash_json(value)}, indent=1) + "\n"


def value_of(manifest: Manifest) -> dict[str, Any]:
    """Return what a manifest says, without its checksum."""
    value: dict[str, Any] = json.loads(write_json(manifest))
    del value["checksum"]
    return value


@given(manifests())
def test_what_is_written_is_read(manifest: Manifest) -> None:
    """The way to a text and back changes nothing."""
    assert manifest == read_json(write_json(manifest))


def test_the_text_is_pinned() -> None:
    """The format does not change without a new version."""
    manifest = make(
        files=(StoreFile("documents.npy", 128 + 24, SHA256),),
        tokenizer={"name": "byte"},
        splits={"train": (0, 6)},
        sources=(Source(name="a.txt", num_documents=2),),
        facts={"num_characters": 8},
    )
    expected = (
        '{"format": "tokenloom-store", "version": 1, "dtype": "uint16", "vocab_size": 300, '
        '"num_tokens": 8, "num_documents": 2, "tokenizer": {"name": "byte"}, "shards": ['
        f'{{"name": "tokens-00000.npy", "num_tokens": 5, "sha256": "{SHA256}"}}, '
        f'{{"name": "tokens-00001.npy", "num_tokens": 3, "sha256": "{"f" * 64}"}}], '
        f'"files": [{{"name": "documents.npy", "num_bytes": 152, "sha256": "{SHA256}"}}], '
        '"splits": {"train": [0, 6]}, "sources": [{"name": "a.txt", "num_documents": 2, '
        '"num_bytes": null, "sha256": null}], "facts": {"num_characters": 8}, "checksum": '
    )
    assert json.dumps(json.loads(write_json(manifest))).startswith(expected)


def test_files_are_written_by_name() -> None:
    """In whatever order they are listed, the text is the same."""
    files = (StoreFile("b.json", 1, SHA256), StoreFile("a.json", 2, SHA256))

    assert write_json(make(files=files)) == write_json(make(files=files[::-1]))


def test_the_hash_is_that_of_the_tokens() -> None:
    """What is not about tokens does not change it; each shard's hash does."""
    manifest = make()

    assert manifest.hash == make(vocab_size=9, facts={"a": 1}).hash
    assert manifest.hash != make(shards=SHARDS[::-1]).hash
    assert manifest.hash != make(dtype="uint32").hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "int64"}, "a dtype of uint8, uint16, uint32, uint64, got 'int64'"),
        ({"dtype": ["uint8"]}, "a dtype of uint8, .*, got "),
        ({"vocab_size": 0}, r"an integer in \[1, 2\*\*63\) as vocab_size, got 0"),
        ({"vocab_size": True}, "as vocab_size, got True"),
        ({"vocab_size": 3.0}, "as vocab_size, got 3.0"),
        ({"shards": ()}, "at least one shard, got 'none'"),
        ({"shards": (ShardFile(2**62, SHA256),) * 2}, "as num_tokens, got 9223372036854775808"),
        ({"splits": {"a": (3, 3)}}, r"0 <= start < stop <= num_tokens=8 .*, got \"'a': \[3, 3\]\""),
        ({"splits": {"a": (3, 9)}}, "for each split"),
        ({"splits": {"a": (-1, 9)}}, "as the start of split 'a', got -1"),
        ({"tokenizer": "byte"}, "an object or null as tokenizer, got 'byte'"),
        ({"facts": []}, r"an object of facts, got \[\]"),
        ({"files": (StoreFile("a.json", 1, SHA256),) * 2}, "each file once"),
        ({"files": (StoreFile("documents.npy", 136, SHA256),)}, "two int64 offsets in documents"),
        ({"files": (StoreFile("documents.npy", 145, SHA256),)}, "two int64 offsets in documents"),
    ],
)
def test_what_a_manifest_must_not_say(changes: dict[str, Any], message: str) -> None:
    """A wrong value is refused with what was expected and what was got."""
    with pytest.raises(StoreError, match=f"^a manifest must have .*{message}"):
        make(**changes)


@pytest.mark.parametrize(
    "name",
    [
        "../a.json",
        "/a.json",
        "a/b.json",
        "a\\b.json",
        "..",
        ".",
        "",
        ".a",
        "a.",
        "a..b",
        "C:a",
        "manifest.json",
        "tokens-00000.npy",
        "a\0",
        "é",
        None,
        3,
        ["a"],
    ],
)
def test_file_names_stay_in_the_folder(name: Any) -> None:
    """A name with a folder in it, or that another file has, is refused."""
    with pytest.raises(StoreError, match="file names without a folder"):
        StoreFile(name, 1, SHA256)


@pytest.mark.parametrize("sha256", ["0" * 63, "0" * 65, "G" * 64, "A" * 64, None, 0])
def test_hashes_are_hexadecimal(sha256: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(StoreError, match="64 hexadecimal digits as sha256, got "):
        ShardFile(1, sha256)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": None, "num_documents": 0}, "a name for each source"),
        ({"name": "a", "num_documents": -1}, "as num_documents of a source, got -1"),
        ({"name": "a", "num_documents": 1, "num_bytes": 2**63}, "as num_bytes of a source"),
        ({"name": "a", "num_documents": 1, "sha256": "0"}, "64 hexadecimal digits"),
    ],
)
def test_what_a_source_must_not_say(fields: dict[str, Any], message: str) -> None:
    """A wrong value is refused."""
    with pytest.raises(StoreError, match=message):
        Source(**fields)


def test_a_file_that_is_not_there() -> None:
    """Asking for an entry that the manifest has not names those it has."""
    with pytest.raises(StoreError, match=r"a file 'vocab.json', got \[\]"):
        make().file("vocab.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "one JSON object, got "),
        ("{", "one JSON object, got "),
        ("[]", r"one JSON object, got \[\]"),
        ("[" * 100_000, "one JSON object, got "),
        ('{"a": ' + "9" * 5000 + "}", "one JSON object, got "),
        ('{"a": 1, "a": 2}', r"each key once, got \['a', 'a'\]"),
        ('{"a": NaN}', "finite numbers, got 'NaN'"),
        ('{"a": -Infinity}', "finite numbers, got '-Infinity'"),
        ("{}", 'the format "tokenloom-store", got None'),
        ('{"format": "tokenloom-store"}', "a version from 1 to 2, got None"),
        ('{"format": "tokenloom-store", "version": true}', "a version from 1 to 2, got True"),
        ('{"format": "tokenloom-store", "version": 0}', "a version from 1 to 2, got 0"),
        (
            '{"format": "tokenloom-store", "version": 3, "new": 1}',
            "a version up to 2; a newer tokenloom wrote it: update, got 3",
        ),
        ('{"format": "tokenloom-store", "version": 1}', "the checksum sha256:.*, got None"),
        (
            sign({"format": "tokenloom-store", "version": 1}),
            "the fields format, version, dtype, .*, facts, got ",
        ),
    ],
)
def test_what_is_no_manifest(text: str, message: str) -> None:
    """A text that is no manifest is refused with what is wrong first."""
    with pytest.raises(StoreError, match=f"^a manifest must have {message}"):
        read_json(text)


def test_another_checksum_is_refused() -> None:
    """A change by hand is seen."""
    text = write_json(make())

    with pytest.raises(StoreError, match="it was changed after it was written"):
        read_json(text.replace('"vocab_size": 300', '"vocab_size": 301'))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + " ",
        lambda text: text.replace('"dtype"', '"d\\u0074ype"'),
    ],
)
def test_the_same_value_in_other_bytes_is_refused(change: Any) -> None:
    """The manifest is compared byte for byte, since no other file has its hash."""
    with pytest.raises(StoreError, match="what tokenloom wrote, byte for byte"):
        read_json(change(write_json(make())))


@pytest.mark.parametrize("name", list(value_of(make())))
@pytest.mark.parametrize(
    "told", [None, math.inf, -1, 3.5, "x", [], [1], {}, {"a": 1}, [{"name": 1}], [[1]]]
)
def test_fields_of_another_type_are_refused(name: str, told: Any) -> None:
    """However a signed manifest lies, the error is ours."""
    value = {**value_of(make()), name: told}
    harmless: list[tuple[str, Any]] = [
        ("tokenizer", None),
        ("facts", {"a": 1}),
        ("facts", {}),
        ("tokenizer", {}),
        ("tokenizer", {"a": 1}),
        ("splits", {}),
        ("sources", []),
        ("files", []),
        ("num_documents", None),
    ]
    if (name, told) not in harmless:
        with pytest.raises(StoreError, match=r"^a manifest must have "):
            read_json(sign(value))


def test_an_unknown_field_is_refused() -> None:
    """What this release does not know might matter."""
    with pytest.raises(
        StoreError, match=r"the fields format, .*, facts, got \['format', .*'compression'\]"
    ):
        read_json(sign({**value_of(make()), "compression": "zstd"}))


def test_deep_facts_are_refused_or_read() -> None:
    """A value nested too deeply for JSON is no crash."""
    facts: Any = {}
    for _ in range(400):
        facts = {"a": facts}
    manifest = make(facts=facts)

    assert manifest == read_json(write_json(manifest))


def test_messages_are_short() -> None:
    """A huge wrong value does not fill the screen."""
    with pytest.raises(StoreError) as caught:
        make(dtype="x" * 10_000)

    assert len(str(caught.value)) < 400
