"""A file of prompts: rows in, rows out, and a mixture between. The core knows no engine that distributes the work."""
