"""Laws, by Hypothesis."""
