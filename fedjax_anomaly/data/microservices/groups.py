"""The latent groups of services: what a front end, a business API, a worker and a store have in common."""

import dataclasses

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Group:
    """The ranges from which each service of a group draws its own parameters (log-uniformly, unless said otherwise).

    Attributes:
      name: of the group.
      service_names: of its members; more members get numbered copies of these.
      share: of the fleet's services.
      external_rate_per_second: requests that arrive from outside the fleet, mean over a day at the normal profile.
      peak_hour: hour of the day at which that load peaks (uniform).
      daily_depth: relative swing of that load around its mean over a day (uniform).
      tick_height: relative height of the scheduled jobs' load at the top of each period (uniform).
      jitter: standard deviation of the slow random factor on the load.
      service_seconds: own work on a request, without waiting for other services.
      cpu_share: the share of that work which is spent on the processor and not on disks and locks (uniform).
      slots: requests that one instance serves at once (uniform, whole).
      peak_utilization: share of slots taken at the daily peak, for which the service was sized (uniform).
      timeout_seconds: after which a request fails.
      base_memory: utilization of memory without load (uniform).
      garbage_height, garbage_minutes: height (uniform) and period of the saw-tooth that garbage collection makes.
      collection_cost: share of time spent collecting at full load and half-full memory.
      request_bytes, response_bytes, disk_bytes: of one request.
      flush_height, flush_minutes: relative height (uniform) and period of the disk's flushes (checkpoint, compaction).
      keepalive_seconds: for which a connection stays open after its request.
    """

    name: str
    service_names: tuple[str, ...]
    share: float
    external_rate_per_second: Range
    peak_hour: Range
    daily_depth: Range
    tick_height: Range
    jitter: Range
    service_seconds: Range
    cpu_share: Range
    slots: Range
    peak_utilization: Range
    timeout_seconds: Range
    base_memory: Range
    garbage_height: Range
    garbage_minutes: Range
    collection_cost: Range
    request_bytes: Range
    response_bytes: Range
    disk_bytes: Range
    flush_height: Range
    flush_minutes: Range
    keepalive_seconds: Range


EDGE = Group(
    name="edge",
    service_names=("web-frontend", "mobile-gateway", "public-api", "checkout-web", "partner-portal", "admin-console"),
    share=0.25,
    external_rate_per_second=(200.0, 800.0),
    peak_hour=(14.0, 16.5),
    daily_depth=(0.55, 0.7),
    tick_height=(0.0, 0.0),
    jitter=(0.05, 0.08),
    service_seconds=(0.004, 0.012),
    cpu_share=(0.7, 0.9),
    slots=(8, 16),
    peak_utilization=(0.55, 0.68),
    timeout_seconds=(4.0, 8.0),
    base_memory=(0.26, 0.36),
    garbage_height=(0.04, 0.07),
    garbage_minutes=(12.0, 25.0),
    collection_cost=(0.015, 0.03),
    request_bytes=(1_400.0, 2_800.0),
    response_bytes=(12e3, 45e3),
    disk_bytes=(150.0, 400.0),
    flush_height=(0.0, 0.0),
    flush_minutes=(60.0, 60.0),
    keepalive_seconds=(1.5, 4.0),
)

API = Group(
    name="api",
    service_names=(
        *("orders", "payments", "catalog", "search", "pricing", "accounts", "inventory"),
        *("shipping", "recommendations", "promotions"),
    ),
    share=0.35,
    external_rate_per_second=(2.0, 10.0),
    peak_hour=(10.0, 12.5),
    daily_depth=(0.3, 0.5),
    tick_height=(0.0, 0.0),
    jitter=(0.05, 0.08),
    service_seconds=(0.012, 0.035),
    cpu_share=(0.45, 0.65),
    slots=(6, 12),
    peak_utilization=(0.55, 0.7),
    timeout_seconds=(1.0, 2.0),
    base_memory=(0.42, 0.54),
    garbage_height=(0.08, 0.13),
    garbage_minutes=(35.0, 70.0),
    collection_cost=(0.04, 0.07),
    request_bytes=(500.0, 1_000.0),
    response_bytes=(1.5e3, 6e3),
    disk_bytes=(300.0, 900.0),
    flush_height=(0.0, 0.0),
    flush_minutes=(60.0, 60.0),
    keepalive_seconds=(0.2, 0.5),
)

WORKER = Group(
    name="worker",
    service_names=("event-stream", "invoice-batch", "image-resizer", "email-sender", "report-builder", "fraud-scoring"),
    share=0.2,
    external_rate_per_second=(15.0, 80.0),
    peak_hour=(1.0, 4.0),
    daily_depth=(0.45, 0.65),
    tick_height=(0.4, 0.9),
    jitter=(0.1, 0.15),
    service_seconds=(0.15, 0.6),
    cpu_share=(0.75, 0.95),
    slots=(3, 6),
    peak_utilization=(0.5, 0.6),
    timeout_seconds=(6_000.0, 12_000.0),
    base_memory=(0.35, 0.45),
    garbage_height=(0.12, 0.2),
    garbage_minutes=(70.0, 130.0),
    collection_cost=(0.06, 0.1),
    request_bytes=(8e3, 20e3),
    response_bytes=(300.0, 1_200.0),
    disk_bytes=(20e3, 120e3),
    flush_height=(0.0, 0.0),
    flush_minutes=(60.0, 60.0),
    keepalive_seconds=(0.5, 1.0),
)

STORE = Group(
    name="store",
    service_names=("orders-db", "accounts-db", "session-cache", "catalog-index", "ledger-db", "object-store"),
    share=0.2,
    external_rate_per_second=(0.0, 0.0),
    peak_hour=(0.0, 0.0),
    daily_depth=(0.0, 0.0),
    tick_height=(0.0, 0.0),
    jitter=(0.0, 0.0),
    service_seconds=(0.0015, 0.005),
    cpu_share=(0.2, 0.35),
    slots=(2, 4),
    peak_utilization=(0.5, 0.62),
    timeout_seconds=(0.4, 0.8),
    base_memory=(0.66, 0.76),
    garbage_height=(0.005, 0.015),
    garbage_minutes=(200.0, 400.0),
    collection_cost=(0.002, 0.005),
    request_bytes=(200.0, 400.0),
    response_bytes=(600.0, 3_000.0),
    disk_bytes=(4e3, 15e3),
    flush_height=(1.0, 2.5),
    flush_minutes=(15.0, 30.0),
    keepalive_seconds=(0.02, 0.05),
)

GROUPS = (EDGE, API, WORKER, STORE)
"""The latent groups; a group's number is its place here."""
