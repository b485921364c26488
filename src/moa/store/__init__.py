"""What outlives a run, in one SQLite file that several processes may share.

``file`` opens it, ``turns`` holds the proposals of turns, ``ledger`` what each API key has used, ``archive`` whole runs.
A ``recording`` is a run on its way into the archive, ``outcome`` decides how it ended, ``estimates`` what interrupted calls
cost; ``record`` and ``figures`` show it as JSON.
"""
