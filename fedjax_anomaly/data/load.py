"""Data sets by name."""

from pathlib import Path

from fedjax_anomaly.data import kdd, telemetry
from fedjax_anomaly.data.microservices.workload import LoadProfile
from fedjax_anomaly.data.nezha import load_nezha
from fedjax_anomaly.data.own_files import load_files
from fedjax_anomaly.data.smd import load_smd
from fedjax_anomaly.data.table import Dataset
from fedjax_anomaly.data.unsw_nb15 import load_unsw_nb15


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    seed: int = 0,
    num_services: int = 20,
    load_profile: LoadProfile = "normal",
    client_column: str = "",
    time_column: str = "",
    label_column: str = "",
    test_fraction: float = 0.3,
) -> Dataset:
    """Loads a data set.

    Args:
      name: `telemetry`, `nsl_kdd`, `kddcup99`, `unsw_nb15`, `smd`, `nezha` or `files`.
      data_dir: folder with raw files, for `files` the user's own; None downloads them where the publisher offers that.
      cache_dir: folder for prepared data; None takes the user's cache folder.
      seed: of the `telemetry` simulator.
      num_services: of the `telemetry` simulator.
      load_profile: of the `telemetry` simulator.
      client_column, time_column, label_column, test_fraction: of `files`, see `load_files`.

    Raises:
      FileNotFoundError: when raw files are missing; the message says where to get them.
      ValueError: for an unknown name or unreadable files.
    """
    if name == "telemetry":
        return telemetry.load(seed=seed, num_services=num_services, load_profile=load_profile)
    if name == "files":
        return load_files(
            data_dir,
            client_column=client_column,
            time_column=time_column,
            label_column=label_column,
            test_fraction=test_fraction,
        )
    prepared = {"nsl_kdd": kdd.load_nsl_kdd, "kddcup99": kdd.load_kddcup99}
    if name in prepared:
        return prepared[name](data_dir, cache_dir)
    raw = {"unsw_nb15": load_unsw_nb15, "smd": load_smd, "nezha": load_nezha}
    if name in raw:
        return raw[name](data_dir)
    known = ", ".join(["telemetry", *prepared, *raw, "files"])
    raise ValueError(f"dataset={name!r} is unknown; the data sets are {known}.")
