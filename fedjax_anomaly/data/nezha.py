"""Nezha: metrics of two microservice systems, OnlineBoutique and TrainTicket, with faults injected into their pods."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedjax_anomaly.data.nezha_format import FAULT_SECONDS, HOMEPAGE, METRICS, PodDay, read_pod_days
from fedjax_anomaly.data.raw_csv import named_folder
from fedjax_anomaly.data.table import Categorical, Dataset, Table

_SECONDS_PER_DAY = 86_400


def load_nezha(data_dir: str | Path | None) -> Dataset:
    """Nezha: one sample a minute of 19 metrics of each service; its last day is tested, the days before it train.

    A service is a source: its pods, one a day, bear other names after a restart. What counts as a fault, and how
    missing latencies are filled: see `nezha_format.read_pod_days`.

    Args:
      data_dir: where `rca_data` or `nezha_metrics.tar` lies, compressed or not, or lies in its folder `nezha`; or the
        folder `rca_data` itself.

    Returns:
      Tables sorted by service and then time, in seconds since midnight (UTC) of the service's first day.

    Raises:
      FileNotFoundError: without `data_dir`, and when neither folder nor archive is there, or a day has no fault list.
      ValueError: for a damaged file, two pods of a service on a day, and a service with one day only (test:
        `tests/data/test_nezha.py::test_a_service_with_one_day_is_refused`).

    Guarantees:
      Of a service, no training row follows a test row (test: `tests/data/test_nezha.py::test_the_last_day_is_tested`).
      A missing value is filled from the past only (test:
        `tests/data/test_nezha.py::test_a_missing_latency_is_filled_from_the_past`).

    References: Yu, Chen, Li, Chen, Li and Zheng, "Nezha: interpretable fine-grained root causes analysis for
    microservices on multi-modal observability data" (ESEC/FSE 2023).
    """
    services: defaultdict[str, list[PodDay]] = defaultdict(list)
    for pod_day in read_pod_days(named_folder(data_dir, "Nezha", HOMEPAGE)):
        services[pod_day.service].append(pod_day)
    names = tuple(sorted(services))
    for name in names:
        _check_days(name, [pod_day.day for pod_day in services[name]])
    first_second = [int(services[name][0].second[0]) // _SECONDS_PER_DAY * _SECONDS_PER_DAY for name in names]
    return Dataset(
        name="nezha",
        train=_table(names, [services[name][:-1] for name in names], first_second),
        test=_table(names, [services[name][-1:] for name in names], first_second),
        row_order="time",
        category_columns=("source",),
        notes=(
            f"The ends of Nezha's faults are not published: the {FAULT_SECONDS // 60} minutes from an injection on "
            "count as anomalous, of the injected service only; services that the fault spreads to count as normal.",
        ),
    )


def _check_days(service: str, days: list[str]) -> None:
    if len(days) < 2:
        raise ValueError(
            f"service {service!r} of Nezha has metrics of {days[0]} only, but the days before its last one are trained "
            f"on; add another day from {HOMEPAGE}."
        )
    for day in days:
        if days.count(day) > 1:
            raise ValueError(
                f"service {service!r} of Nezha has {days.count(day)} pods on {day}, but 1 is expected; leave one there."
            )


def _table(names: tuple[str, ...], services: Sequence[Sequence[PodDay]], first_second: Sequence[int]) -> Table:
    """Joins the days of each service, one service after the other."""
    pod_days = [pod_day for own in services for pod_day in own]
    origin = [first for own, first in zip(services, first_second, strict=True) for _ in own]
    code = [code for code, own in enumerate(services) for _ in own]
    return Table(
        numeric=np.concatenate([pod_day.values for pod_day in pod_days]),
        numeric_names=METRICS,
        categorical=(),
        categorical_names=(),
        attack=Categorical.from_strings(np.concatenate([pod_day.attack for pod_day in pod_days])),
        time=np.concatenate([p.second - first for p, first in zip(pod_days, origin, strict=True)]).astype(np.float64),
        source=Categorical(np.repeat(np.array(code, np.int32), [len(p.second) for p in pod_days]), names),
    )
