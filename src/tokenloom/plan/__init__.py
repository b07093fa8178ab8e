"""Orders: which tokens each batch reads, computed from a few numbers."""

from tokenloom.plan.batch_sizes import BatchSizes, Stretch
from tokenloom.plan.mixture import MixtureOrder, PartAccount, Stage
from tokenloom.plan.order import Order, Pieces, PlanSettings, ShuffledOrder
from tokenloom.plan.plan import ORDERS, Plan, References

__all__ = [
    "ORDERS",
    "BatchSizes",
    "MixtureOrder",
    "Order",
    "PartAccount",
    "Pieces",
    "Plan",
    "PlanSettings",
    "References",
    "ShuffledOrder",
    "Stage",
    "Stretch",
]
