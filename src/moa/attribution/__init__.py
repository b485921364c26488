"""What an answer resembles: its sentences beside the passages of the proposals."""
