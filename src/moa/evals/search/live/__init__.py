"""A search that asks: members answer the user's questions, and mixtures of their answers are tried."""
