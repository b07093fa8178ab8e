"""Orders: which tokens each batch reads, computed from a few numbers."""

from tokenloom.plan.order import Order, PlanSettings
from tokenloom.plan.plan import ORDERS, Plan, References

__all__ = ["ORDERS", "Order", "Plan", "PlanSettings", "References"]
