"""The M/M/c queue: how long a request waits and stays, from the number of servers and their utilization.

References:
  Gross, Shortle, Thompson, Harris: Fundamentals of Queueing Theory, 4th ed. 2008, section 2.3 (M/M/c).
"""

import dataclasses

import numpy as np

_TABLE_INTERVALS = 512
_NEWTON_STEPS = 8


def erlang_c(servers: np.ndarray | int, utilization: np.ndarray | float) -> np.ndarray:
    """The probability that a request finds all servers busy and must wait.

    Args:
      servers: Int[...], number of servers, at least 1.
      utilization: Float[...], offered load per server, in [0, 1); broadcast against `servers`.

    Returns:
      Float[...], the waiting probability.

    Guarantees:
      `rho` for one server and `2 rho^2 / (1 + rho)` for two (test:
      `tests/data/microservices/test_queueing.py::test_erlang_c_equals_its_closed_forms_for_one_and_two_servers`).
    """
    servers, utilization = np.broadcast_arrays(np.asarray(servers), np.asarray(utilization, dtype=np.float64))
    offered_load = servers * utilization
    blocking = np.ones_like(offered_load)  # Erlang B with 0 servers, raised one server at a time.
    for count in range(1, int(servers.max()) + 1):
        with_one_more = offered_load * blocking / (count + offered_load * blocking)
        blocking = np.where(count <= servers, with_one_more, blocking)
    return blocking / (1.0 - utilization * (1.0 - blocking))


@dataclasses.dataclass(frozen=True)
class ErlangTable:
    """`erlang_c` by linear interpolation between tabulated utilizations, for loops that need it often.

    Attributes:
      waiting: Float[c, U], the waiting probability for 0 to c - 1 servers at equally spaced utilizations.
      spacing: between those.

    Guarantees:
      Within 0.001 of `erlang_c` up to 16 servers (test:
      `tests/data/microservices/test_queueing.py::test_the_table_interpolates_erlang_c`).
    """

    waiting: np.ndarray
    spacing: float

    @classmethod
    def up_to(cls, max_servers: int) -> "ErlangTable":
        """The table for 1 to `max_servers` servers and utilizations below 1."""
        grid = np.linspace(0.0, 1.0, _TABLE_INTERVALS + 1)
        waiting = np.ones((max_servers + 1, len(grid)))
        waiting[1:, :-1] = erlang_c(np.arange(1, max_servers + 1)[:, np.newaxis], grid[:-1])
        return cls(waiting, 1.0 / _TABLE_INTERVALS)

    def __call__(self, servers: np.ndarray, utilization: np.ndarray) -> np.ndarray:
        """Float[...]: the waiting probability (arguments as for `erlang_c`)."""
        place = utilization / self.spacing
        left = place.astype(np.int64)
        at_left = self.waiting[servers, left]
        return at_left + (place - left) * (self.waiting[servers, left + 1] - at_left)


def _sojourn_mixture(
    wait_probability: np.ndarray, service_rate: np.ndarray, drain_rate: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The weight of the service's exponential in the tail of the sojourn time, and a drain rate apart from it.

    The tail is `weight * exp(-service_rate t) + (1 - weight) * exp(-drain_rate t)`. Equal rates would divide by zero
    and are parted by a millionth, which moves the tail by less than that.
    """
    gap = drain_rate - service_rate
    gap = np.where(np.abs(gap) < 1e-6 * service_rate, 1e-6 * service_rate, gap)
    return 1.0 + wait_probability * service_rate / gap, service_rate + gap


def sojourn_tail(
    seconds: np.ndarray | float, wait_probability: np.ndarray, service_rate: np.ndarray, drain_rate: np.ndarray
) -> np.ndarray:
    """The probability that a request stays longer than `seconds`, waiting and service together.

    Args:
      seconds: Float[...], at least 0.
      wait_probability: Float[...], of `erlang_c`.
      service_rate: Float[...], requests per second of one server.
      drain_rate: Float[...], `servers * service_rate - arrival_rate`, above 0: the rate of the exponential wait.

    Returns:
      Float[...] in [0, 1].
    """
    weight, drain_rate = _sojourn_mixture(wait_probability, service_rate, drain_rate)
    tail = weight * np.exp(-service_rate * seconds) + (1.0 - weight) * np.exp(-drain_rate * seconds)
    return np.minimum(tail, 1.0)


def sojourn_quantile(
    probability: float, wait_probability: np.ndarray, service_rate: np.ndarray, drain_rate: np.ndarray
) -> np.ndarray:
    """The time in seconds below which the share `probability` of requests has left (arguments: `sojourn_tail`).

    Newton's method on the logarithm of the tail, from the right of the solution. Where that logarithm is concave, its
    steps approach from the right; where it is convex, the first one lands on the left (at 0, if it would pass it) and
    the rest approach from there. It converges in both cases.

    Guarantees:
      `-log(1 - probability) / (service_rate - arrival_rate)` for one server (test:
      `tests/data/microservices/test_queueing.py::test_one_server_has_the_exponential_sojourn_of_the_textbook`),
      and it inverts `sojourn_tail` (test:
      `tests/data/microservices/test_queueing.py::test_the_quantile_inverts_the_tail`).
    """
    weight, drain_rate = _sojourn_mixture(wait_probability, service_rate, drain_rate)
    target = np.log1p(-probability)
    seconds = (1.0 - target) * (1.0 / service_rate + 1.0 / drain_rate)
    for _ in range(_NEWTON_STEPS):
        by_service = weight * np.exp(-service_rate * seconds)
        by_drain = (1.0 - weight) * np.exp(-drain_rate * seconds)
        tail = by_service + by_drain
        hazard = (service_rate * by_service + drain_rate * by_drain) / tail
        seconds = np.maximum(seconds + (np.log(tail) - target) / hazard, 0.0)
    return seconds
