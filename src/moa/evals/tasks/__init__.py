"""Questions from a file: read row by row, checked before a model is called, and answers checked against the references."""
