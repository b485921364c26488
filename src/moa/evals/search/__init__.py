"""The search for the mixture that answers a set of questions best. Numpy is needed to search, not to read a matrix."""
