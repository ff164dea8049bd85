"""The redis-server that tests are given: private, on a port of its own, in the test's directory, nothing kept.

It is the benchmarks' (`bench/faults/redis.py`). What a test finds in it, the fixtures in `conftest.py` decide.
"""

from admin.ports import free_tcp_port as free_port
from bench.faults.redis import RedisServer, running_redis

__all__ = ["RedisServer", "free_port", "running_redis"]
