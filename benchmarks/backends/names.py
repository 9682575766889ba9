"""What the tables and peers of this comparison are called, and what is measured; measures nothing."""

from benchmarks.readings import Measure
from benchmarks.rounds import Pool
from benchmarks.servers import ours, rabbitmq, redis

OURS, RABBITMQ, REDIS, DATABASE = ours.NAME, rabbitmq.NAME, redis.NAME, "Celery's database backend"
IN_MEMORY = "Redis in memory"
ALONE = "backends alone, no worker"
POOL = Pool("prefork", 2)

MEASURES = (
    Measure("stored_1_per_s", "stored by 1 process /s", True),
    Measure("stored_8_per_s", "stored by 8 processes /s", True),
    Measure("announced_8_per_s", "by 8, for longer /s", True),
    Measure("silent_8_per_s", "the same without announcements /s", True),
    Measure("commit_ms", "one durable commit, ms", False, 2),
    Measure("send_ms", "one message with its receipt, ms", False, 2),
)
