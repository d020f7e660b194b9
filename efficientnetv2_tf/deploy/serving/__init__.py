"""A stand-in for TF Serving, for trying and testing: its REST interface over models laid out as it wants them."""
