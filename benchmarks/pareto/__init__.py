"""Ways to make a network cheaper, compared at equal exact MACs under one recipe."""
