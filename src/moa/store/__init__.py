"""What outlives a run, in one SQLite file that several processes may share.

``file`` opens it, ``turns`` holds the proposals of turns, ``ledger`` what each API key has used (in a ``window`` of time;
``bookings`` are on their way into it), ``archive`` whole runs with their ``changes``, ``blobs`` and ``bounds``. A
``recording`` is a run on its way through the ``backlog`` into the archive. ``recordings`` are all runs; ``processes`` are
those that share the file, each with a ``heartbeat``. ``outcome`` decides how a run ended; ``record`` and ``figures`` show it
as JSON.
"""
