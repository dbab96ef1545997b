"""Half an hour of everything, to see whether anything grows that must not. Run it by `make soak`.

Two servers have the same clients: one runs from the beginning to the end, the other is restarted again and again, in
turn by SIGTERM and by `kill -9`. What a server leaks shows in the first; what a restart leaves behind, in the second.
"""
