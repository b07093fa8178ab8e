"""Several rooms together, as users meet them."""
