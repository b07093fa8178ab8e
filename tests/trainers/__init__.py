"""Tests that need other people's trainers."""
