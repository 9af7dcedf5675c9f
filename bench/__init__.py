"""Measurements: what the service does on this machine, side by side with what it is compared to.

`python -m bench` prints the marks, `python -m bench.replay` replays a real petition, `python -m bench.soak`
kills the service over and over and looks for what was lost. Everything runs against a PostgreSQL of its own
(fsync on), with servers on the loopback interface, and leaves nothing behind but `bench/out/`.
"""
