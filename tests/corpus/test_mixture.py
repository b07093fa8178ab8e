"""Mixtures as values: what they are made of, and what they refuse."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenloom as tl
from tokenloom.errors import ArgumentError, StateMismatchError, UsageError

WEB = tl.Corpus.from_tokens(np.arange(5000, dtype=np.uint16))
CODE = tl.Corpus.from_tokens(np.arange(5000, 7000, dtype=np.uint32))


def make_windows(mixture: tl.Mixture | tl.Corpus, **options: Any) -> tl.RandomWindows:
    """Return windows of a mixture, for one process."""
    return tl.RandomWindows(
        mixture, **{"batch_size": 4, "seq_len": 8, "shard": tl.Shard(), **options}
    )


def test_the_parts_have_names() -> None:
    """In the order in which they were given."""
    mixture = tl.Mixture({"web": (WEB, 7), "code": (CODE, 3)})
    assert (("web", "code"), [WEB, CODE]) == (mixture.names, list(mixture.parts.values()))
    assert "Mixture(web 70 % of 5,000 tokens, code 30 % of 2,000 tokens)" == repr(mixture)
    staged = tl.Mixture({"web": WEB, "code": CODE}, stages=[(0, {"web": 1}), (9, {"code": 1})])
    assert repr(staged).endswith("code 0 % of 2,000 tokens; 1 more stage)")


def test_each_row_comes_from_its_source() -> None:
    """Ids of the parts are disjoint here, so that the tokens show where they came from."""
    for batch in make_windows(tl.Mixture({"web": (WEB, 0.7), "code": (CODE, 0.3)})):
        assert (batch.inputs >= 5000).all(1).long().tolist() == batch.sources.tolist()
        assert (batch.targets == batch.inputs + 1).all()
        sent: tl.Batch = pickle.loads(pickle.dumps(batch))  # noqa: S301  our own bytes
        assert batch.sources.tolist() == sent.sources.tolist()
        assert ("torch.int64", (4,)) == (str(sent.sources.dtype), tuple(sent.sources.shape))


def test_other_batches_have_no_sources() -> None:
    """They say so."""
    batch = next(iter(tl.RandomWindows(WEB, shard=tl.Shard())))
    assert not batch.has_sources
    with pytest.raises(UsageError, match="only rows of a mixture come from parts"):
        batch.sources  # noqa: B018  it raises
    with pytest.raises(UsageError, match="only a mixture has parts to account for"):
        tl.RandomWindows(WEB, shard=tl.Shard()).plan.accounting()


def test_the_accounting_of_an_epoch() -> None:
    """The smaller part is read whole, and the shares are those of the weights."""
    windows = make_windows(tl.Mixture({"web": (WEB, 0.7), "code": (CODE, 0.3)}))
    accounts = windows.plan.accounting()
    sources = np.concatenate([batch.sources.numpy() for batch in windows])
    assert [account.windows for account in accounts.values()] == np.bincount(sources).tolist()
    assert 1.0 == accounts["code"].times_read
    assert pytest.approx(0.3, abs=0.002) == accounts["code"].windows / len(sources)


def test_stages_begin_at_a_token_of_the_whole_training() -> None:
    """Counted over all epochs."""
    mixture = tl.Mixture(
        {"web": WEB, "code": CODE},
        stages=[(0, {"web": 1}), (8 * 500, {"code": 1})],
        num_tokens=2400,
    )
    windows, sources = make_windows(mixture), []
    for epoch in range(3):
        windows.set_epoch(epoch)
        sources += [int(source) for batch in windows for source in batch.sources]
    assert [0] * 500 + [1] * 400 == sources


def test_parts_may_lie_anywhere(tmp_path: Path) -> None:
    """In stores, memory maps, files of other projects and memory, in ids of any width."""
    ids = [np.arange(first, first + 600, dtype=np.uint16) for first in (0, 600, 1200, 1800)]
    tl.Corpus.from_tokens(ids[0]).save(tmp_path / "store", shard_tokens=250)
    np.save(tmp_path / "map.npy", ids[1])
    ids[2].tofile(tmp_path / "tokens.bin")
    joined = [np.arange(first, first + 300) for first in (2400, 2700)]
    parts = {
        "store": tl.Corpus.open(tmp_path / "store"),
        "map": tl.Corpus.from_tokens(np.load(tmp_path / "map.npy", mmap_mode="r")),
        "foreign": tl.open_foreign(tmp_path / "tokens.bin", dtype="uint16"),
        "memory": tl.Corpus.from_tokens(ids[3].astype(np.int64)),
        "joined": tl.Corpus.concatenate([*map(tl.Corpus.from_tokens, joined)]),
    }
    windows = make_windows(tl.Mixture({name: (part, 1) for name, part in parts.items()}))
    copied: tl.RandomWindows = pickle.loads(pickle.dumps(windows))  # noqa: S301  our own bytes
    for batch, again in zip(windows, copied, strict=True):
        assert (batch.inputs // 600 == batch.sources[:, None]).all()
        assert again.inputs.tolist() == batch.inputs.tolist()


def test_documents_of_the_parts_are_those_of_the_rows() -> None:
    """A part without documents is one document, unless none has any."""
    web = tl.Corpus.from_tokens(np.zeros(900, np.uint8), documents=[*range(0, 901, 9)])
    code = tl.Corpus.from_tokens(np.ones(900, np.uint8))
    batches = [*make_windows(tl.Mixture({"web": (web, 1), "code": (code, 1)}))]
    starts = dict.fromkeys((0, 1), 0)
    for batch in batches:
        for source, resets in zip(batch.sources.tolist(), batch.resets, strict=True):
            starts[source] += int(resets.sum())
    assert starts[0] > 80
    assert starts[1] <= 1


def test_a_position_names_its_parts() -> None:
    """Their hash, their length, their weights; and a mismatch names the part."""
    loader = tl.Loader(make_windows(tl.Mixture({"web": (WEB, 0.7), "code": (CODE, 0.3)})))
    state = loader.state_dict()
    assert [WEB.hash, 5000] == [state["part.web.corpus"], state["part.web.num_tokens"]]
    assert "0: 314573/1048576" == state["part.code.weights"]
    other = tl.Corpus.from_tokens(np.arange(4999, 6999, dtype=np.uint32))
    for mixture, what in (
        (tl.Mixture({"web": (WEB, 0.7), "code": (other, 0.3)}), "part.code.corpus: saved 'sha256"),
        (
            tl.Mixture({"web": (WEB, 0.6), "code": (CODE, 0.4)}),
            "part.web.weights: saved '0: 734003",
        ),
        (tl.Mixture({"web": (WEB, 0.7), "books": (CODE, 0.3)}), "parts: saved 'web, code', now"),
        (
            tl.Mixture({"web": (WEB, 0.7), "code": (CODE, 0.3)}, num_tokens=800),
            "epoch_windows: saved 829, now 100",
        ),
    ):
        with pytest.raises(StateMismatchError, match=what):
            tl.Loader(make_windows(mixture)).load_state_dict(state)
    joined = tl.Loader(make_windows(tl.Corpus.concatenate([WEB, CODE])))
    for saved, now in ((state, joined), (joined.state_dict(), loader)):
        with pytest.raises(StateMismatchError, match=r"kind: saved '(mixture|random)', now"):
            now.load_state_dict(saved)


def test_a_position_is_that_of_the_order_and_the_join_too() -> None:
    """Either names the parts' hashes, so either resumes the other."""
    first, second = tl.Corpus.from_tokens(range(90)), tl.Corpus.from_tokens(range(70))
    joined = tl.Corpus.concatenate([second, first])
    mixture = tl.Mixture({"a": (first, 1), "b": (joined, 2)})
    options: dict[str, Any] = {"batch_size": 2, "seq_len": 4, "shard": tl.Shard()}
    of_mixture = tl.Loader(tl.RandomWindows(mixture, **options))
    of_order = tl.Loader(tl.Windows(mixture.order, mixture.corpus, **options))
    assert of_mixture.state_dict() == of_order.state_dict()
    of_order.load_state_dict(of_mixture.state_dict())


def test_no_limit_of_repeats_is_none() -> None:
    """Infinity would not be JSON, in the settings of a run."""
    parts = {"a": (tl.Corpus.from_tokens(range(90)), 1)}
    assert tl.Mixture(parts, max_repeats=float("inf")).order.max_repeats is None


def test_a_part_is_not_read_more_often_than_allowed() -> None:
    """By one epoch, and by all the epochs of a loader."""
    parts = {"web": (WEB, 0.5), "code": (CODE, 0.5)}
    windows = make_windows(tl.Mixture(parts, max_repeats=2))
    tl.Loader(windows, num_epochs=2)
    with pytest.raises(ArgumentError, match=r"'code' would be read 3\.00 times in 3 epochs"):
        tl.Loader(windows, num_epochs=3)
    with pytest.raises(ArgumentError, match="'web' would be read without end in endless epochs"):
        tl.Loader(windows, num_epochs=None)
    with pytest.raises(ArgumentError, match=r"'code' would be read 2\.01 times in 1 epoch,"):
        make_windows(tl.Mixture(parts, num_tokens=8000, max_repeats=2))


def test_sequential_order_is_refused() -> None:
    """A hidden state means nothing in another part."""
    mixture = tl.Mixture({"web": (WEB, 1)})
    with pytest.raises(ArgumentError, match="sequential order carries a hidden state"):
        tl.SequentialWindows(mixture)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ArgumentError, match="corpus must be a Corpus or a Mixture, got dict"):
        tl.RandomWindows({"web": WEB})  # type: ignore[arg-type]  # on purpose


def test_tokenizers_that_differ_are_refused_by_the_names_of_the_parts() -> None:
    """Ids would mean other tokens."""
    first, second = tl.Corpus.from_text("abc d"), tl.Corpus.from_text("abc d xyz")
    with pytest.raises(
        ArgumentError, match=r"that of a is 'char', .* that of b is 'char'.*the tokenizer= of"
    ):
        tl.Mixture({"a": (first, 1), "b": (second, 1)})


def test_ids_that_do_not_fit_are_refused_by_the_names_of_the_parts() -> None:
    """Those of a part must be below the number of ids of another part's tokenizer."""
    first, second = tl.Corpus.from_text("abc d"), tl.Corpus.from_tokens([70_000, 1])
    with pytest.raises(ArgumentError, match=r"that of a is 'char', .* that of b is unknown"):
        tl.Mixture({"a": (first, 1), "b": (second, 1)})


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "parts must be a dict such as"),
        ([("web", WEB)], "parts must be a dict such as"),
        ({"web": WEB}, "the part 'web' must be a corpus and its weight, got Corpus"),
        ({"web": (WEB, 1, 2)}, "the part 'web' must be a corpus and its weight"),
        ({"x": (tl.Mixture({"web": (WEB, 1)}), 1)}, "with the products of the weights"),
        ({"web": ("web", 1)}, "the part 'web' must be a corpus and its weight"),
        ({"": (WEB, 1)}, "the name of a part must be a str that is not empty, got ''"),
        ({"web": (WEB, -1), "code": (CODE, 1)}, "weight of 'web' must be a number of at least 0"),
        ({"web": (WEB, float("nan"))}, "weight of 'web' must be a number of at least 0, got nan"),
        ({"web": (WEB, float("inf"))}, "weight of 'web' must be a number of at least 0, got inf"),
        ({"web": (WEB, "1")}, "the weight of 'web' must be a number, got '1'"),
        ({"web": (WEB, 0), "code": (CODE, 0)}, "the mixture must have a weight of more than 0"),
    ],
)
def test_what_is_no_part_is_refused(parts: Any, message: str) -> None:
    """The message names the part, and shows how parts are given."""
    with pytest.raises(ArgumentError, match=message):
        tl.Mixture(parts)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "of at least one stage, got none"),
        ({"web": 1}, "stages must be a list such as"),
        ([{"web": 1}], "stages must be a list such as"),
        ([(1, {"web": 1})], "the first stage must begin at token 0, got 1"),
        ([(0, {"web": 1}), (0, {"web": 1})], "one at token 0 after one at 0"),
        ([(0, {"web": 1}), (9, {"web": 1}), (5, {"web": 1})], "one at token 5 after one at 9"),
        ([(0.5, {"web": 1})], "the first token of a stage must be an integer"),
        ([(0, {"wbe": 1})], "has a weight of 'wbe', and the parts are 'web', 'code': did you mean"),
        ([(0, ["web"])], "the weights of the mixture must be a dict by names of parts"),
        ([(0, {"web": 1}), (9, {"code": 0})], "the stage at token 9 must have a weight of more"),
    ],
)
def test_what_is_no_stage_is_refused(stages: Any, message: str) -> None:
    """The message names the stage."""
    with pytest.raises(ArgumentError, match=message):
        tl.Mixture({"web": WEB, "code": CODE}, stages=stages)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_tokens": 0}, r"num_tokens must be an integer in \[1, "),
        ({"max_repeats": 0}, "max_repeats must be more than 0, or None for no limit, got 0"),
        ({"max_repeats": float("nan")}, "max_repeats must be more than 0"),
    ],
)
def test_other_values_out_of_range_are_refused(options: Any, message: str) -> None:
    """By their names."""
    with pytest.raises(ArgumentError, match=message):
        tl.Mixture({"web": (WEB, 1)}, **options)
