"""Orders: which tokens each batch reads, computed from a few numbers."""

from tokenloom.plan.order import Plan

__all__ = ["Plan"]
