"""The tests of tokenloom."""
