"""Loss masks of corpora: taken, kept, cut, joined, stored and refused."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tests.support.preparation.stores import sign
from tokenloom.corpus import formats
from tokenloom.errors import CorpusError
from tokenloom.store.npy import write_npy
from tokenloom.store.verify import verify_store

MASK = [0, 0, 1, 1, 0, 1, 1, 1, 0, 1]


def make_corpus(mask: Any = MASK) -> tl.Corpus:
    """Return ten tokens in three documents."""
    return tl.Corpus.from_tokens(np.arange(10), documents=[0, 4, 4, 10], loss_mask=mask)


def mask_of(corpus: tl.Corpus) -> list[int]:
    """Return the mask of a corpus, which has one."""
    assert corpus.loss_mask is not None
    return [int(value) for value in corpus.loss_mask[:]]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64"])
def test_values_of_any_width_are_taken(dtype: str) -> None:
    """Whatever they were given as, they are bytes."""
    corpus = make_corpus(np.array(MASK, dtype))
    assert mask_of(corpus) == MASK
    assert corpus.loss_mask is not None
    assert corpus.loss_mask.dtype == np.uint8


def test_bytes_are_not_copied() -> None:
    """A mask of a long corpus may be as large as that."""
    for given in (np.array(MASK, np.uint8), np.array(MASK, np.bool_)):
        assert np.shares_memory(make_corpus(given).loss_mask, given)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([1.0] * 10, "one-dimensional array of bool, or of the integers 0 and 1, got float64"),
        ([[1]] * 10, r"got int64 of shape \(10, 1\)"),
        ([1] * 9, "a value for each of the 10 tokens, got 9"),
        ([2] * 10, "got 2 among the values"),
        ([-1] * 10, "got -1 among the values"),
        (["yes"] * 10, "got <U3"),
        ([[1], [1, 2]], "of the integers 0 and 1: "),
    ],
)
def test_what_is_no_mask(mask: Any, message: str) -> None:
    """The message has what was expected and what was given."""
    with pytest.raises(CorpusError, match=message):
        make_corpus(mask)


@pytest.mark.parametrize("dtype", ["bool", "uint8"])
def test_a_memory_map_is_checked_where_it_is_read(tmp_path: Path, dtype: str) -> None:
    """It is not searched, and damage is found in time."""
    np.save(tmp_path / "mask.npy", np.array(MASK, dtype))
    corpus = make_corpus(np.load(tmp_path / "mask.npy", mmap_mode="r"))
    assert mask_of(pickle.loads(pickle.dumps(corpus))) == MASK  # noqa: S301  made here
    np.save(tmp_path / "wrong.npy", np.array([1] * 9 + [7], np.uint8))
    wrong = make_corpus(np.load(tmp_path / "wrong.npy", mmap_mode="r"))
    message = ".npy.* must hold a loss mask of the integers 0 and 1, got 7: "
    for each in (wrong, copy.deepcopy(wrong), tl.Corpus.concatenate([corpus, wrong])):
        with pytest.raises(tl.StoreError, match=message):
            list(tl.RandomWindows(each, batch_size=1, seq_len=4, tail="pad"))
    with pytest.raises(CorpusError, match=r"^a loss mask must hold the .* 0 and 1, got 7 at"):
        wrong.save(tmp_path / "store")


def test_what_cuts_a_corpus_cuts_its_mask() -> None:
    """Slices, splits, documents and what is held out."""
    corpus = make_corpus()
    assert mask_of(corpus.slice(2, 7)) == MASK[2:7]
    assert [mask_of(part) for part in corpus.split(0.4)] == [MASK[:4], MASK[4:]]
    assert mask_of(corpus.document(2)) == MASK[4:]
    assert mask_of(corpus.first(3)) == MASK[:3]
    assert mask_of(corpus.undivided()) == MASK
    assert mask_of(corpus.with_name("other").closed()) == MASK
    assert mask_of(copy.deepcopy(corpus)) == MASK


@pytest.mark.parametrize("is_stored", [False, True])
def test_parts_with_and_without_are_joined(tmp_path: Path, is_stored: bool) -> None:
    """All tokens of a part without a mask are learnt."""
    first, last = make_corpus(), make_corpus(1 - np.array(MASK))
    if is_stored:
        first = tl.Corpus.open(first.save(tmp_path / "first", shard_tokens=4))
    between = tl.Corpus.from_tokens([7] * 6)
    joined = tl.Corpus.concatenate([first, between, last])
    whole = [*MASK, *[1] * 6, *(1 - np.array(MASK)).tolist()]
    assert mask_of(joined) == whole
    assert mask_of(joined.slice(8, 20)) == whole[8:20]
    assert joined.slice(10, 16).loss_mask is None
    assert mask_of(pickle.loads(pickle.dumps(joined))) == whole  # noqa: S301  made here
    assert tl.Corpus.concatenate([between, between]).loss_mask is None
    plain = tl.Corpus.from_tokens(joined.tokens[:], loss_mask=whole)
    assert joined.hash == plain.hash
    assert mask_of(tl.Corpus.open(joined.save(tmp_path / "joined", shard_tokens=7))) == whole
    windows = tl.SequentialWindows(joined, batch_size=1, seq_len=3, tail="pad", seed=0)
    assert sum(batch.num_targets for batch in windows) == sum(whole[1:])


def test_the_hash_is_that_of_tokens_and_mask() -> None:
    """Another mask is another corpus, and without one the hash is as before."""
    hashes = [make_corpus(mask).hash for mask in (None, MASK, [*MASK[:-1], 0], [1] * 10)]
    assert len(set(hashes)) == 4
    assert hashes[0] == tl.Corpus.from_tokens(np.arange(10)).hash
    assert hashes[1] == make_corpus(np.array(MASK, bool)).hash


def test_the_hash_of_a_large_store_covers_its_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made of the hashes in the manifest, and no byte is read."""
    monkeypatch.setattr("tokenloom.corpus.corpus.WHOLE_BYTES", 4)
    stores = [
        tl.Corpus.open(make_corpus(mask).save(tmp_path / name, shard_tokens=4))
        for name, mask in (("none", None), ("some", MASK), ("other", [1] * 10))
    ]
    assert len({store.hash for store in stores}) == 3
    assert len({store.slice(0, 9).hash for store in stores}) == 3
    joined = {tl.Corpus.concatenate([store, store]).hash for store in stores}
    assert len(joined) == 3


def test_a_store_keeps_it_beside_the_tokens(tmp_path: Path) -> None:
    """In plain files of NumPy, one for each of tokens, which the manifest lists."""
    path = make_corpus().save(tmp_path / "store", splits={"train": (0, 6)}, shard_tokens=4)
    assert [np.load(path / f"loss_mask-0000{n}.npy").tolist() for n in range(3)] == [
        *(MASK[:4], MASK[4:8], MASK[8:]),
    ]
    assert json.loads((path / "manifest.json").read_text())["version"] == 2
    assert verify_store(path) == []
    opened = tl.Corpus.open(path, verify=True)
    assert mask_of(opened) == MASK
    assert mask_of(tl.Corpus.open(path, split="train")) == MASK[:6]
    assert opened.hash == make_corpus().hash


def test_a_store_without_one_is_of_the_first_version(tmp_path: Path) -> None:
    """So that older releases read it."""
    path = make_corpus(None).save(tmp_path / "store")
    assert json.loads((path / "manifest.json").read_text())["version"] == 1
    assert tl.Corpus.open(path).loss_mask is None
    assert sorted(file.name for file in path.iterdir()) == [
        *("documents.npy", "manifest.json", "tokens-00000.npy")
    ]


def test_a_damaged_mask_is_found(tmp_path: Path) -> None:
    """A byte, the length, a missing file, and a value that is none."""
    path = make_corpus().save(tmp_path / "store", shard_tokens=4)
    file = path / "loss_mask-00001.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([1 - whole[-1]]))
    (problem,) = verify_store(path)
    assert "loss_mask-00001.npy must have the SHA-256" in problem
    for content in (whole[:-1], None):
        file.unlink() if content is None else file.write_bytes(content)
        with pytest.raises(tl.StoreError, match="loss_mask-00001"):
            tl.Corpus.open(path)
    written = write_npy(file, [np.array([0, 3, 1, 1])], dtype=np.dtype("|u1"), length=4)
    manifest = json.loads((path / "manifest.json").read_text())
    for entry in manifest["files"]:
        if entry["name"] == file.name:
            entry["sha256"] = written.digest.hexdigest()
    del manifest["checksum"]
    sign(path, manifest)
    (problem,) = verify_store(path)
    assert problem.startswith(f"{file} must hold 0 or 1 for each token, got 3")
    message = "loss_mask-0000.* must hold a loss mask of the integers 0 and 1, got 3"
    with pytest.raises(tl.StoreError, match=message):
        list(tl.RandomWindows(tl.Corpus.open(path), batch_size=1, seq_len=4, tail="pad"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("version", "what tokenloom wrote, byte for byte"),
        ("lost", "a file of the loss mask for each shard"),
        ("length", "a file of the loss mask for each shard"),
    ],
)
def test_a_manifest_that_contradicts_itself(tmp_path: Path, change: str, message: str) -> None:
    """The version, the number and the lengths of the files follow from the tokens."""
    path = make_corpus().save(tmp_path / "store", shard_tokens=4)
    manifest = json.loads((path / "manifest.json").read_text())
    masks = [entry for entry in manifest["files"] if entry["name"].startswith("loss_mask-")]
    if change == "version":
        manifest["version"] = 1
    elif change == "lost":
        manifest["files"].remove(masks[1])
    else:
        masks[1]["num_bytes"] += 1
    del manifest["checksum"]
    sign(path, manifest)
    with pytest.raises(tl.StoreError, match=message):
        tl.Corpus.open(path)


def test_a_file_that_was_replaced_is_not_read(tmp_path: Path) -> None:
    """Each iteration begins with a look at it."""
    path = make_corpus().save(tmp_path / "store")
    corpus = tl.Corpus.open(path)
    file = path / "loss_mask-00000.npy"
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)
    with pytest.raises(tl.StoreError, match="loss_mask-00000"):
        corpus.check_files()


@pytest.mark.parametrize("write", [formats.write_nanogpt, formats.write_megatron])
def test_formats_without_a_place_for_it_refuse_it(tmp_path: Path, write: Any) -> None:
    """Else another project would learn what was not to be learnt."""
    with pytest.raises(CorpusError, match="must have no loss mask"):
        write(make_corpus(), tmp_path / "tokens.bin")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("tokenizer", ["char", "word", "byte", "bpe"])
def test_prompts_of_documents_are_not_learnt(tokenizer: str) -> None:
    """Each text is encoded by itself; characters are normalised as those of one text."""
    documents: list[str | tl.Document] = [
        tl.Document(prompt="Who is it? ", text="It is me."),
        "Nobody asked",
        tl.Document(prompt="", text="Me too"),
    ]
    size: Any = {"vocab_size": 270} if tokenizer == "bpe" else {}
    corpus = tl.Corpus.from_documents(documents, tokenizer=tokenizer, **size)
    assert corpus.num_documents == 3
    mask = np.array(mask_of(corpus)) == 1
    prompt, rest = corpus.decode(corpus.tokens[~mask]), corpus.decode(corpus.tokens[mask])
    texts = {
        "char": ("who is it", " it is menobody askedme too"),
        "word": ("who is it", "it is me nobody asked me too"),
        "byte": ("Who is it? ", "It is me.Nobody askedMe too"),
    }
    assert (prompt, rest) == texts.get(tokenizer, texts["byte"])
    plain = tl.Corpus.from_documents(["a", tl.Document(text="b")], tokenizer=tokenizer, **size)
    assert plain.loss_mask is None


def test_a_prompt_must_be_text() -> None:
    """Like the text after it."""
    with pytest.raises(tl.TokenloomError, match="document 0 must be a str, got int"):
        tl.Corpus.from_documents([tl.Document(prompt=3, text="a")])  # type: ignore[arg-type]
