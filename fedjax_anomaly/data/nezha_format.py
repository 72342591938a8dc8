"""The files of Nezha: a CSV file of metrics for each pod and day, and a list of faults for each day."""

import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedjax_anomaly.data.files import SUFFIXES, find_raw_file, read_raw_file
from fedjax_anomaly.data.raw_csv import read_csv
from fedjax_anomaly.data.table import NORMAL

HOMEPAGE = "https://github.com/IntelligentDDS/Nezha"
ARCHIVE = "nezha_metrics.tar"

METRICS = (
    "CpuUsage(m)",
    "CpuUsageRate(%)",
    "MemoryUsage(Mi)",
    "MemoryUsageRate(%)",
    "SyscallRead",
    "SyscallWrite",
    "NetworkReceiveBytes",
    "NetworkTransmitBytes",
    "PodClientLatencyP90(s)",
    "PodServerLatencyP90(s)",
    "PodClientLatencyP95(s)",
    "PodServerLatencyP95(s)",
    "PodClientLatencyP99(s)",
    "PodServerLatencyP99(s)",
    "PodWorkload(Ops)",
    "PodSuccessRate(%)",
    "NodeCpuUsageRate(%)",
    "NodeMemoryUsageRate(%)",
    "NodeNetworkReceiveBytes",
)

FAULT_SECONDS = 300
"""How long a fault counts: its end is not published, and the CPU faults show in 4 to 5 samples."""

_PATH = re.compile(r"(?:.*/)?(\d{4}-\d\d-\d\d)/(?:metric/(.+)_metric\.csv|\1-fault_list\.json)")


class PodDay(NamedTuple):
    """The samples of one pod on one day.

    Attributes:
      service: the pod's name without the hashes of its deployment.
      day: the day, as YYYY-MM-DD.
      second: Int[L], seconds since 1970 (UTC), increasing.
      values: Float32[L, P], the columns of `METRICS`, without missing values.
      attack: Str[L], the fault of each row.
    """

    service: str
    day: str
    second: np.ndarray
    values: np.ndarray
    attack: np.ndarray


class _File(NamedTuple):
    """A file's day, its pod (None for the list of faults), its name for errors, and its contents."""

    day: str
    pod: str | None
    name: str
    text: bytes


def read_pod_days(data_dir: Path) -> list[PodDay]:
    """Reads all pods of all days, from the folder `rca_data` or from the archive.

    Time comes from the column `Time`, as `TimeStamp` and `inject_timestamp` are off on some days. A latency is missing
    where a pod had no request in a minute: its last value goes on, and before its first one it is 0, as the publishers
    write for services that are never called.

    Args:
      data_dir: see `nezha.load_nezha`.

    Returns:
      Sorted by day and pod. Rows bear the `inject_type` of a fault in their own pod for `FAULT_SECONDS` from its
      `inject_time` on.

    Raises:
      FileNotFoundError: when neither folder nor archive is there, or a day has no list of faults.
      ValueError: for a damaged file and for a fault in a pod without metrics (tests:
        `tests/data/test_nezha.py::test_a_damaged_file_is_named`,
        `tests/data/test_nezha.py::test_a_fault_in_an_unknown_pod_is_refused`).
    """
    files = sorted(_from_folder(data_dir) or _from_archive(data_dir), key=lambda file: (file.day, file.pod or ""))
    return [pod_day for day in sorted({file.day for file in files}) for pod_day in _read_day(day, files)]


def _from_folder(data_dir: Path) -> list[_File]:
    for folder in (data_dir / "nezha" / "rca_data", data_dir / "rca_data", data_dir):
        files = []
        for path in [*folder.glob("*/metric/*"), *folder.glob("*/*")]:
            suffix = next((s for s in SUFFIXES[1:] if path.name.endswith(s)), "")
            match = _PATH.fullmatch(path.as_posix().removesuffix(suffix))
            if match:
                files.append(_File(match[1], match[2], str(path), read_raw_file(path)))
        if files:
            return files
    return []


def _from_archive(data_dir: Path) -> list[_File]:
    archive = find_raw_file(data_dir, "nezha", (ARCHIVE,), HOMEPAGE)
    files = []
    try:
        with tarfile.open(fileobj=io.BytesIO(read_raw_file(archive)), mode="r:") as tar:
            for member in tar:
                match = _PATH.fullmatch(member.name)
                contents = tar.extractfile(member) if match else None
                if match and contents:
                    files.append(_File(match[1], match[2], f"{archive}, {member.name}", contents.read()))
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{archive} cannot be unpacked ({error}); get it anew.") from error
    if not files:
        raise ValueError(f"{archive} holds no metrics (DAY/metric/POD_metric.csv); get it anew from {HOMEPAGE}.")
    return files


def _read_day(day: str, files: Sequence[_File]) -> Iterator[PodDay]:
    metrics = {file.pod: file for file in files if file.day == day and file.pod is not None}
    fault_lists = [file for file in files if file.day == day and file.pod is None]
    if not fault_lists:
        raise FileNotFoundError(f"no {day}-fault_list.json beside the metrics of {day}; get it from {HOMEPAGE}.")
    faults = _read_faults(fault_lists[0])
    for _, pod, _ in faults:
        if pod not in metrics:
            raise ValueError(f"{fault_lists[0].name}: a fault is in pod {pod!r}, which has no metrics; get both anew.")
    for pod, file in metrics.items():
        second, values = _read_metrics(file)
        attack = np.full(len(second), NORMAL, dtype=object)
        for start, struck, kind in faults:
            if struck == pod:
                attack[(second >= start) & (second < start + FAULT_SECONDS)] = kind
        yield PodDay(pod.rsplit("-", 2)[0], day, second, values, attack.astype(str))


def _read_faults(file: _File) -> list[tuple[int, str, str]]:
    """Second, pod and kind of each fault, by time."""
    try:
        entries = [fault for hour in json.loads(file.text).values() for fault in hour]
        return sorted(
            (int(_seconds([fault["inject_time"]])[0]), str(fault["inject_pod"]), str(fault["inject_type"]))
            for fault in entries
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file.name} is not a list of faults ({error!r}); get it anew.") from error


def _read_metrics(file: _File) -> tuple[np.ndarray, np.ndarray]:
    values, (time,) = read_csv(file.name, file.text, METRICS, ("Time",), may_miss=True)
    try:
        second = _seconds(time.names)[time.codes]
    except ValueError as error:
        raise ValueError(f"{file.name}: {error} in column 'Time'; get the file anew.") from error
    if (np.diff(second) <= 0).any():
        row = int(np.flatnonzero(np.diff(second) <= 0)[0])
        raise ValueError(f"{file.name}: the time of row {row + 3} is not after that of row {row + 2}; get it anew.")
    return second, _filled(values)


def _seconds(times: Sequence[str]) -> np.ndarray:
    """Int[L], seconds since 1970, of UTC times such as `2022-08-22 03:51:19.607158889 +0000 UTC m=+0.1`."""
    return np.array([time[:19] for time in times], "datetime64[s]").astype(np.int64)


def _filled(values: np.ndarray) -> np.ndarray:
    """Replaces each NaN by the last value before it in its column, or by 0."""
    row = np.where(np.isnan(values), 0, np.arange(len(values))[:, None])
    last = np.maximum.accumulate(row, axis=0)
    return np.nan_to_num(np.take_along_axis(values, last, axis=0), nan=0.0)
