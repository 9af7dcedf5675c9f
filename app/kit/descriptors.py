"""File descriptors: as many as the system grants, and how many of them may be connections of clients."""

import resource

# More are of no use, and some systems grant a thousand million.
_MOST = 1_048_576
# For the listening sockets, the database, files, and who asks whether the process is alive.
_RESERVED = 128


def raise_limit() -> int:
    """Raise this process's limit to the hard one, for itself and all it starts; the limit that is in force then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return _limit()


def room_for_connections() -> int:
    """How many connections of clients there may be at the most, so that descriptors are left for all else."""
    limit = _limit()
    return limit - min(_RESERVED, limit // 4)


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else soft
