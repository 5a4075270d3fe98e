"""HTTP: parses at the edge, asks the store, answers in the types of `model`."""
