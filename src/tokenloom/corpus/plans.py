"""Plans of a corpus or a mixture, which some orders need more of than its length."""

from tokenloom.corpus.corpus import Corpus
from tokenloom.corpus.mixture import Mixture
from tokenloom.errors import CorpusError
from tokenloom.plan.batch_sizes import BatchSize
from tokenloom.plan.order import Order, Tail
from tokenloom.plan.packed import PackedOrder
from tokenloom.plan.plan import CORPUS_ORDERS, Plan, check_first_row


def make_plan(
    order: str | Order,
    corpus: Corpus | Mixture,
    *,
    batch_size: BatchSize,
    seq_len: int,
    seed: int,
    tail: Tail,
) -> Plan:
    """Return the plan of the first epoch of a corpus or a mixture.

    Parameters
    ----------
    order : str or Order
    corpus : Corpus or Mixture
    batch_size, seq_len, seed, tail
        As in `tokenloom.Plan`.

    Raises
    ------
    ArgumentError, CorpusError
        As for a plan; packed order, and the corpus has no documents; or starts that are
        not what an order promises.
    """
    if isinstance(corpus, Mixture):
        order, corpus = corpus.order_for(order), corpus.corpus
    plan = Plan.of(
        _order_of_documents(corpus) if order == PackedOrder.kind else order,
        num_tokens=len(corpus),
        seq_len=seq_len,
        batch_size=batch_size,
        seed=seed,
        tail=tail,
    )
    plan.order.check_epochs(plan, 1)
    if not isinstance(order, str) and plan.kind not in CORPUS_ORDERS:
        check_first_row(plan)
    return plan


def _order_of_documents(corpus: Corpus) -> Order:
    if corpus.document_offsets is None:
        msg = (
            f"packed order needs documents, and {corpus.name} has none: make it with "
            "prepare or Corpus.from_documents, pass documents=... to Corpus.from_tokens, or use "
            "RandomWindows"
        )
        raise CorpusError(msg)
    return PackedOrder(corpus.documents_by_length)
