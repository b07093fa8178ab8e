"""Which part of a mixture each row of a batch comes from."""

from tokenloom.plan.mixture import MixtureOrder
from tokenloom.plan.order import IntArray
from tokenloom.plan.plan import References


class BlockSources:
    """The parts of a mixture that the rows of several batches come from.

    They are found when they are first asked for, those of all batches at once.

    Parameters
    ----------
    order : MixtureOrder
        That of the plan.
    references : References
        Which tokens the batches read.
    """

    __slots__ = ("_found", "_order", "_references")

    def __init__(self, order: MixtureOrder, references: References) -> None:
        self._order = order
        self._references = references
        self._found: IntArray | None = None

    def of(self, row: int) -> IntArray:
        """Return the part of each row of a batch: int64 array, shape (num_columns,).

        Parameters
        ----------
        row : int
            Which batch, a row of the plan among those of the block.
        """
        references = self._references
        if self._found is None:
            self._found = self._order.sources_of(references.starts)
        found: IntArray = self._found[references.rows.index(row)]
        return found
